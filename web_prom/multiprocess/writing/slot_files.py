"""The slot of one process and the open value files in it: acquired, opened, and recovered after a removal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from web_prom.errors import DirectoryError, WebPromError
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.slots import LOCK_NAME, Slots
from web_prom.multiprocess.file_entries import CorruptFileError
from web_prom.multiprocess.file_format import CORRUPT_SUFFIX, TEMP_SUFFIX, FileName
from web_prom.multiprocess.regular_file import NotRegularError, open_regular
from web_prom.multiprocess.writing.fork_guard import NO_PROCESS, ForkGuard
from web_prom.multiprocess.writing.value_file import ValueFile

# Programs that clean directories by the age of files count in days.
_TOUCH_SECONDS = 3600.0

_OBSTACLES = (NotRegularError, PermissionError, IsADirectoryError)

OnError = Callable[[BaseException], None]


class LostFilesError(WebPromError, OSError):
    """Files of this process, or the lock on its slot, were removed or replaced. They have been recovered."""


class SlotFiles:
    """The slot that a process holds, and its open files in this slot.

    The caller holds the lock of the process's storage.

    Args:
        slots: The slots of the directory.
        on_error: Called with each error that is overcome: a slot that is skipped because its files cannot be
            used, a corrupt file that is renamed, an obstacle at the path of a file.

    Attributes:
        directory: The shared directory.
        slot: The slot that the process holds. It changes if it cannot be acquired again after it was lost.
        open_files: The open files by prefix, for example ``gauge_livesum``.

    Raises:
        DirectoryError: No slot can be acquired.
    """

    def __init__(self, slots: Slots, on_error: OnError) -> None:
        self.directory = slots.directory
        self.open_files: dict[str, ValueFile] = {}
        self._slots = slots
        self._on_error = on_error
        self.slot = _acquire(slots, slots.acquire)
        while (error := _prepare_slot(slots.directory, self.slot)) is not None:
            on_error(error)
            self.slot = slots.skip(self.slot)
        self._status = os.stat(slots.directory)
        self._touch_at = monotonic() + _TOUCH_SECONDS

    def path(self, prefix: str) -> Path:
        """Return the path of the file with a prefix."""
        metric_type, _, mode = prefix.partition("_")
        return self.directory / str(FileName(metric_type, mode, f"s{self.slot}"))

    def open(self, prefix: str, owner: Any, lock: Any, guard: ForkGuard) -> ValueFile:
        """Open a file of the slot, or create it.

        A corrupt file is renamed, and a new one is created. If something else has the name of the file, all
        files are moved to another slot.

        Args:
            prefix: How the name of the file begins.
            owner: The storage to which the file belongs.
            lock: The lock of the storage.
            guard: True where values may be written without the storage.

        Raises:
            OSError: The file cannot be opened or created, or there is no room for it.
        """
        try:
            file = self._open(prefix, lock, guard)
        except OSError as error:
            if not self._is_blocked(prefix, error):
                raise
            self._on_error(error)
            self._move_to_empty_slot(self.open_files)
            file = self._open(prefix, lock, guard)
        file.owner = owner
        self.open_files[prefix] = file
        return file

    def _open(self, prefix: str, lock: Any, guard: ForkGuard) -> ValueFile:
        path = self.path(prefix)
        try:
            return ValueFile(path, lock, guard)
        except CorruptFileError as error:
            path.replace(f"{path}{CORRUPT_SUFFIX}")
            self._on_error(error)
            return ValueFile(path, lock, guard)

    @property
    def is_slot_held(self) -> bool:
        """Whether the process still holds the lock of its slot."""
        return self._slots.holds(self.slot)

    @property
    def is_lost(self) -> bool:
        """Whether the slot is not held any more, or a file is not at its path. Safe without the lock."""
        return not self.is_slot_held or any(
            file.path != self.path(prefix) or not file.is_in_place
            for prefix, file in list(self.open_files.items())
        )

    def recover(self) -> None:
        """Acquire a slot again, and have all files in it.

        It is the same slot if no other process has it and nothing blocks a path. A removed file is written
        again from memory. Live gauges belong to this process, and are moved. Other files that are still in
        a former slot are left there, and are closed to writers: they count as files of a dead worker, or
        the process that has the slot continues their values.

        Raises:
            OSError: There is no room for a copy, or it is not permitted. The next call continues.
        """
        self._create_directory()
        files = self.open_files
        if not self.is_slot_held:
            slots = self._slots
            is_free = partial(self._is_free, files=files.values())
            self.slot = _acquire(slots, lambda: slots.reacquire(self.slot, is_free))
        left = []
        for prefix, file in files.items():
            if file.path != self.path(prefix) and file.is_in_place and not prefix.startswith("gauge_live"):
                left.append(prefix)
                continue
            try:
                file.move(self.path(prefix))
            except OSError as error:
                if not self._is_blocked(prefix, error):
                    raise
                self._move_to_empty_slot({each: file for each, file in files.items() if each not in left})
        for prefix in left:
            # It stays mapped, because another thread may be about to write to it.
            file = files.pop(prefix)
            file.owner, file.guard = None, NO_PROCESS

    def touch(self) -> None:
        """Set the times of slots and files once an hour, so that no clean-up by age removes them."""
        if monotonic() >= self._touch_at:
            self._touch_at = monotonic() + _TOUCH_SECONDS
            self._slots.touch()
            for file in list(self.open_files.values()):
                with contextlib.suppress(OSError):
                    os.utime(file.path, follow_symlinks=False)

    def set_guard(self, guard: ForkGuard) -> None:
        """Set the guard of all open files."""
        for file in self.open_files.values():
            file.guard = guard

    def close(self) -> None:
        """Close all files."""
        while self.open_files:
            self.open_files.popitem()[1].close()

    def _is_blocked(self, prefix: str, error: OSError) -> bool:
        """Return whether an error means that something else has the name of a file."""
        path = self.path(prefix)
        return isinstance(error, _OBSTACLES) and (
            os.path.lexists(path) or os.path.lexists(f"{path}{TEMP_SUFFIX}")
        )

    def _move_to_empty_slot(self, files: dict[str, ValueFile]) -> None:
        """Acquire another slot that has no files, and move files to it.

        Raises:
            OSError: There is no room for a copy, or it is not permitted.
        """
        former = self.slot
        self.slot = self._slots.reacquire(former, lambda slot: slot != former and self._is_free(slot, ()))
        for prefix, file in files.items():
            file.move(self.path(prefix))
        self._slots.release_former(former)

    def _is_free(self, slot: int, files: Collection[ValueFile]) -> bool:
        """Return whether a slot has no other files than these."""
        own = {file.path.name for file in files if file.is_in_place}
        for name in os.listdir(self.directory):
            found = FileName.parse(name.removesuffix(TEMP_SUFFIX))
            if found is not None and found.slot == slot and name not in own:
                return False
        return True

    def _create_directory(self) -> None:
        """Create the directory if it was removed, with its former owner and mode.

        Raises:
            DirectoryError: Another user has created it, who is not trusted.
        """
        path, former = self.directory, self._status
        if not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process was faster
                path.mkdir(0o700)
                with contextlib.suppress(OSError):
                    os.chown(path, former.st_uid, former.st_gid)
                path.chmod(former.st_mode & 0o7777)
        found = os.lstat(path)
        if found.st_uid not in {former.st_uid, os.geteuid(), 0}:
            raise DirectoryError(
                f"{DIR_VARIABLE} is {str(path)!r}. This directory was removed, and user {found.st_uid} has "
                "created another one, which is not trusted: remove it, or restart the server with another one"
            )


def _acquire(slots: Slots, acquire: Callable[[], int]) -> int:
    """Acquire a slot. If the path of the lock file leads to something else, rename that first."""
    try:
        return acquire()
    except DirectoryError as error:
        if not isinstance(error.__cause__, NotRegularError):
            raise
        path = slots.directory / LOCK_NAME
        try:
            path.rename(f"{path}{CORRUPT_SUFFIX}")
        except OSError:
            raise error from None
        return acquire()


def _prepare_slot(directory: Path, slot: int) -> OSError | None:
    """Remove the files of a slot that are of no use after its last holder: live gauges and unfinished files.

    Returns:
        The error if this process cannot write the other files.
    """
    for name in os.listdir(directory):
        found = FileName.parse(name.removesuffix(TEMP_SUFFIX))
        if found is None or found.slot != slot:
            continue
        try:
            if found.is_live or name.endswith(TEMP_SUFFIX):
                os.unlink(directory / name)
            else:
                os.close(open_regular(directory / name, os.O_RDWR))
        except FileNotFoundError:  # removed meanwhile
            continue
        except _OBSTACLES as error:
            return error
    return None
