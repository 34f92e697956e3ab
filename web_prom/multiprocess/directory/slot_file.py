"""The lock file of the slots: locks a free slot for this process, and finds the holders of all slots."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from itertools import chain, count
from pathlib import Path

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.lockfile import Lock, LockFile, OtherInterpreterError, Span
from web_prom.multiprocess.file_format import FileName
from web_prom.multiprocess.regular_file import is_in_use

logger = logging.getLogger("web_prom")

_PAUSE_SECONDS = 0.001

# The errors of a kernel that does not implement F_GETLK (gVisor), or whose sandbox forbids it.
_NO_QUERIES = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ENOLCK}


class SlotFile(LockFile):
    """A lock file with a record for each slot: the id of the process that acquired the slot last.

    As LockFile it is not safe between threads, and open() has to be called before the other methods.

    Args:
        path: The file. The value files of the slots are in the same directory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._replaced: LockFile | None = None
        self._warned: set[str] = set()

    def open(self, *, writing: bool, create: bool = False) -> bool:
        """Open the file, as LockFile does. A removed file stays open, as processes may hold slots in it."""
        replaced = self.detach_replaced()
        if replaced is not None:
            if self._replaced is not None:
                self._replaced.close()
            self._replaced = replaced
        return super().open(writing=writing, create=create)

    def unlock_replaced(self) -> None:
        """Release this process's locks in a removed file, once it holds a slot in the present one."""
        if self._replaced is not None and self._replaced.has_descriptor:
            self._replaced.unlock(Span(0, None))

    def lock_lowest(self, first: int, timeout: float) -> int:
        """Lock the lowest free slot from ``first`` up, and return its number.

        Args:
            first: The lowest slot to try.
            timeout: How many seconds to wait for a process that reserves free slots.

        Raises:
            TimeoutError: The process still reserves them.
        """
        slot = first
        deadline = time.monotonic() + timeout
        while not self.try_lock_slot(slot, self._is_unused):
            lock = self._find_lock_of(slot)
            if lock is None or not lock.shared:
                slot += 1
            elif time.monotonic() > deadline:
                raise _still_reserved(lock)
            else:
                time.sleep(_PAUSE_SECONDS)
        # A lower slot may be free again. Without this, workers that start and end at the same time would use
        # higher numbers than there are workers.
        for lower in range(first, slot):
            if self.try_lock_slot(lower, self._is_unused):
                self.unlock(Span(slot, slot + 1))
                return lower
        return slot

    def lock_preferred(self, preferred: int, is_suitable: Callable[[int], bool], own: int | None) -> int:
        """Lock a slot if it is free and suitable, else the lowest such slot; return its number. Never waits.

        Args:
            preferred: The slot to try first.
            is_suitable: Whether a slot is suitable; called when the slot is locked.
            own: The slot that this process holds already. It is not tried.

        Raises:
            TimeoutError: A process reserves free slots.
        """
        for slot in chain([preferred], count()):
            if slot == own:
                continue
            if self.try_lock_slot(slot, is_suitable):
                return slot
            lock = self._find_lock_of(slot)
            if lock is not None and lock.shared:
                raise _still_reserved(lock)
        raise AssertionError

    def try_lock_slot(self, slot: int, is_suitable: Callable[[int], bool]) -> bool:
        """Lock a slot if it is free and, once it is locked, suitable; return whether it is locked."""
        span = Span(slot, slot + 1)
        if not self.try_lock(span):
            return False
        try:
            if is_suitable(slot):
                return True
        except BaseException:
            self.unlock(span)
            raise
        self.unlock(span)
        return False

    def slots_with_files(self) -> set[int]:
        """Return the slots that have value files."""
        return {slot for _, slot in self._value_files()}

    def holders(self) -> dict[int, int]:
        """Return the process ids of the other holders by slot; 0 for a process that is not visible here.

        Processes that hold a slot in a removed file, and have not noticed the removal yet, are included.
        Where the kernel does not report holders, these are the processes that recorded their slots and are
        alive.
        """
        found = self._holders()
        if self._replaced is not None and self._replaced.has_descriptor:
            earlier = {lock.span.first: lock.pid for lock in self._replaced.write_locks()}
            if earlier:
                present = set(found.values()) - {0}
                return {**{slot: pid for slot, pid in earlier.items() if pid not in present}, **found}
            self._replaced.close()
        self._replaced = None
        return found

    def try_write_record(self, slot: int, pid: int) -> None:
        """Record which process acquired a slot, if the record can be written."""
        # On a full disk the slot is held without a record. The record only helps to clean up sooner.
        with contextlib.suppress(OSError):
            self.write_record(slot, pid)

    def warn_once(self, message: str) -> None:
        """Log a warning about the file, each message once."""
        if message not in self._warned:
            self._warned.add(message)
            logger.warning("%s: %s", self.path, message)

    @contextlib.contextmanager
    def directory_errors(self) -> Iterator[None]:
        """Raise DirectoryError, with the remedy, in place of an OSError."""
        directory = f"{DIR_VARIABLE} is {str(self.path.parent)!r}"
        try:
            yield
        except OtherInterpreterError as error:
            raise DirectoryError(
                f"{directory}, which another interpreter of process {os.getpid()} uses already, and "
                "locks do not separate two interpreters of one process; run the applications in one "
                "interpreter (mod_wsgi: application-group=%{GLOBAL}; uWSGI: single-interpreter), or give "
                "each of them its own processes or its own directory"
            ) from error
        except OSError as error:
            raise DirectoryError(
                f"{directory}, where user {os.geteuid()} cannot use {self.path.name} ({error}); name a "
                "directory on a local disk that all workers can write"
            ) from error

    def _holders(self) -> dict[int, int]:
        try:
            return {lock.span.first: lock.pid for lock in self.write_locks()}
        except OSError as error:
            if error.errno not in _NO_QUERIES:
                raise
            self.warn_once(f"the kernel does not report the holders of locks ({error}); process ids are used")
            return {slot: pid for slot, pid in enumerate(self.read_records()) if _is_alive(pid)}

    def _find_lock_of(self, slot: int) -> Lock | None:
        """Return the lock of another process on a slot."""
        try:
            return self.find_lock(Span(slot, slot + 1))
        except OSError as error:
            if error.errno not in _NO_QUERIES:
                raise
            pid = self.read_record(slot)
            return Lock(Span(slot, slot + 1), pid <= 0, max(pid, 0))

    def _is_unused(self, slot: int) -> bool:
        """Return whether no process uses the files of a slot that this process has locked.

        A process that acquired the slot in a removed lock file may not have noticed the removal yet.
        """
        if self.read_record(slot) > 0:  # some process has acquired the slot in the present file
            return True
        return not any(is_in_use(path) for path, owner in self._value_files() if owner == slot)

    def _value_files(self) -> Iterator[tuple[Path, int]]:
        """Yield the value files of all slots, each with its slot."""
        directory = self.path.parent
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(directory):
                parsed = FileName.parse(name)
                if parsed is not None and parsed.slot is not None:
                    yield directory / name, parsed.slot


def spans_without(slot: int | None) -> list[Span]:
    """Return spans that cover all slots except one."""
    if slot is None:
        return [Span(0, None)]
    return [span for span in (Span(0, slot), Span(slot + 1, None)) if span.first != span.last]


def _still_reserved(lock: Lock) -> TimeoutError:
    return TimeoutError(f"process {lock.pid or '?'} still reserves free slots to remove files")


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        return True
    return True
