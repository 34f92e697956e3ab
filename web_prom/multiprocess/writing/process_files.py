"""The storage of a process: it keeps values in the files of the slot, or in memory until there is room."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from threading import RLock
from time import monotonic, sleep
from typing import Any

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.slots import LOCK_NAME, slots_of
from web_prom.multiprocess.writing.fork_guard import NO_PROCESS, make_fork_guard
from web_prom.multiprocess.writing.pending_value import PendingValue, RemovedValue, StoredValue
from web_prom.multiprocess.writing.slot_files import LostFilesError, SlotFiles
from web_prom.multiprocess.writing.storage_errors import StorageErrors
from web_prom.multiprocess.writing.value_file import ValueFile
from web_prom.multiprocess.writing.watch_thread import WatchThread

# How long values wait in memory before the next attempt.
_RETRY_SECONDS = 1.0
# A program that removes a directory removes one file after the other.
_REMOVAL_SECONDS = 0.1


SelectKeys = Callable[[ValueFile], Iterable[bytes]]
"""Returns the keys of some entries of a file."""


class ProcessStorage:
    """The values of one process; get it with ``process_storage`` (``current_storage.py``).

    The caller holds ``lock``. A signal handler or a finalizer in the same thread may interrupt a method and
    call another one. Then values that are new to the storage wait in memory.

    Attributes:
        lock: Held by the thread that reads or writes values of this process.
        guard: Its first item is true in this process, and false in each fork of it.
        child_storages: In a fork, its own storage, under the key 0.
        admitted: The admitted label sets of each limited family (``slot_limiter``).
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.guard = make_fork_guard()
        self.child_storages: dict[int, ProcessStorage] = {}
        self.admitted: dict[bytes, Any] = {}
        self._files: SlotFiles | None = None
        self._errors = StorageErrors()
        self._watch_thread = WatchThread(self._check_files)
        self._pending: deque[StoredValue] = deque()
        self._retry_at = 0.0
        self._is_busy = False
        self._removals: deque[tuple[str, SelectKeys]] = deque()

    @property
    def slot(self) -> int | None:
        """The slot that this process holds, or None."""
        return None if self._files is None else self._files.slot

    # Values ------------------------------------------------------------------------------------------

    def attach(self, value: StoredValue) -> ValueFile | PendingValue:
        """Attach a value to its file in this process, or to memory if that fails, and return which."""
        if isinstance(value.file, RemovedValue):
            return value.file
        if self._is_busy:
            if value.file.owner is not self:
                self._keep_in_memory(value)
            return value.file
        self._is_busy = True
        try:
            if self._pending and monotonic() >= self._retry_at:
                self._flush_pending()
            if value.file.owner is not self:
                # After a failure, the next attempt is not made for each value.
                found = None if monotonic() < self._retry_at else self._locate(value)
                if value.file.owner is self:  # attached meanwhile, by a signal handler
                    pass
                elif found is None:
                    self._keep_in_memory(value)
                else:
                    value.attach(*found)
        finally:
            self._is_busy = False
        if self._removals:
            self._run_removals()
        return value.file

    def remove(self, prefix: str, select: SelectKeys) -> None:
        """Remove label sets from the file of this slot. Their values are detached already.

        Args:
            prefix: How the name of the file begins.
            select: Returns the keys of all entries of the label sets.
        """
        self._removals.append((prefix, select))
        if not self._is_busy:
            self._run_removals()

    def _run_removals(self) -> None:
        while self._removals:
            prefix, select = self._removals.popleft()
            file = self.existing_file(prefix)
            if file is not None:
                file.remove(select(file))

    def _flush_pending(self) -> None:
        while self._pending:
            value = self._pending[0]
            if isinstance(value.file, RemovedValue):
                self._pending.popleft()
                continue
            found = self._locate(value)
            if found is None:
                return
            pending = value.file
            assert isinstance(pending, PendingValue)
            value.attach(*found)
            value.flush(pending)
            self._pending.popleft()
        if self._files is not None:
            self._errors.write(self._files.open_files.get("counter"))
            self._files.set_guard(self.guard)

    def _locate(self, value: StoredValue) -> tuple[ValueFile, int, int] | None:
        try:
            file = self._get_file(value.prefix)
            # The revision is the timestamp of the sum.
            revision_position = 0 if value.sum_key is None else file.locate(value.sum_key) + 1
            return file, file.locate(value.key), revision_position
        except OSError as error:
            self._retry_at = monotonic() + _RETRY_SECONDS
            self._add_error(error)
            return None

    def _keep_in_memory(self, value: StoredValue) -> None:
        value.attach(PendingValue(self, self.lock), 0, 2 if value.sum_key is not None else 0)
        self._pending.append(value)
        # Every write goes through the storage then, which flushes pending values.
        if self._files is not None:
            self._files.set_guard(NO_PROCESS)

    # Files -------------------------------------------------------------------------------------------

    def has_slot(self) -> bool:
        """Return whether this process holds a slot, or can acquire one now."""
        if self._is_busy or monotonic() < self._retry_at:
            return False
        return self.existing_file("counter") is not None

    def existing_file(self, prefix: str) -> ValueFile | None:
        """Return a file of the slot, or None if it does not exist. A process without a slot acquires one."""
        if self._is_busy:
            return None if self._files is None else self._files.open_files.get(prefix)
        self._is_busy = True
        try:
            self._get_file("counter")
            assert self._files is not None
            exists = prefix in self._files.open_files or self._files.path(prefix).exists()
            return self._get_file(prefix) if exists else None
        except OSError as error:
            self._retry_at = monotonic() + _RETRY_SECONDS
            self._add_error(error)
            return None
        finally:
            self._is_busy = False

    def _get_file(self, prefix: str) -> ValueFile:
        """Return a file of the slot, which is opened or created.

        Raises:
            OSError: There is no slot, or the file cannot be opened or created.
        """
        files = self._files
        if files is not None and prefix in files.open_files:
            return files.open_files[prefix]
        if files is None:
            files = self._acquire_slot()
        elif not files.is_slot_held:
            self._recover_files(files)
        # Errors are counted in this file. It is opened first, because a disk may be full later.
        if "counter" not in files.open_files:
            self._open_file(files, "counter")
        return files.open_files.get(prefix) or self._open_file(files, prefix)

    def _acquire_slot(self) -> SlotFiles:
        path = os.environ.get(DIR_VARIABLE)
        if not path:
            raise DirectoryError(f"{DIR_VARIABLE} is no longer in the environment")
        self._files = SlotFiles(slots_of(path), self._add_error)
        self._watch_thread.start()
        return self._files

    def _open_file(self, files: SlotFiles, prefix: str) -> ValueFile:
        file = files.open(prefix, self, self.lock, NO_PROCESS if self._pending else self.guard)
        self._errors.write(files.open_files.get("counter"))
        return file

    # Recovery ----------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Check that the slot and the files are still those of this process, and recover them if not.

        A clean-up, a person or the application may remove files that are in use. Their values are still in
        memory, and are written to new files.
        """
        if self._is_busy or self._files is None:
            return
        self._is_busy = True
        try:
            if self._files.is_lost:
                self._recover_files(self._files)
            if self._pending and monotonic() >= self._retry_at:
                self._flush_pending()
        except OSError as error:
            self._add_error(error)
        finally:
            self._is_busy = False

    def _recover_files(self, files: SlotFiles) -> None:
        files.recover()
        self._add_error(
            LostFilesError(
                f"value files or {LOCK_NAME} in {files.directory} were removed or replaced by others; "
                f"this process has written its values again, in slot {files.slot}"
            )
        )

    def _check_files(self) -> None:
        """Recover lost files. The watch thread calls this method, without the lock."""
        files = self._files
        if files is None:
            return
        if not self.guard[0] or not files.is_lost:
            files.touch()
            return
        sleep(_REMOVAL_SECONDS)
        if self.lock.acquire(timeout=_RETRY_SECONDS):
            try:
                self.recover()
            finally:
                self.lock.release()
            self.log_errors()

    def retry(self) -> None:
        """Write pending values now, because the directory has become usable. It takes the lock."""
        with self.lock:
            self._retry_at = 0.0
            if self._pending and not self._is_busy:
                self._flush_pending()

    # Errors and the end ------------------------------------------------------------------------------

    def log_errors(self) -> None:
        """Log new errors. The caller does not hold the lock, because a log handler may need it."""
        self._errors.log()

    def _add_error(self, error: BaseException) -> None:
        self._errors.add(error, None if self._files is None else self._files.open_files.get("counter"))

    def stop_watching(self) -> None:
        """Recover no lost files from now on: the server that exits removes its directory."""
        self._watch_thread.stop()

    def finish(self) -> None:
        """Write pending values if there is room by now: the process exits."""
        self.stop_watching()
        # A directory that is removed while the process exits stays removed.
        if self._files is not None and self._files.directory.exists():
            self.recover()
        if not self._is_busy:
            self._flush_pending()

    def close(self) -> None:
        """Close all files. Values that are written later stay in memory. Only tests call this."""
        self._watch_thread.stop()
        if self._files is not None:
            self._files.set_guard(NO_PROCESS)
            self._files.close()
