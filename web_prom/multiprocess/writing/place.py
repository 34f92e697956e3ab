"""The slot and the files of one process: taken, and had again after they were removed or replaced."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from web_prom.errors import DirectoryError, WebPromError
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.slots import LOCK_NAME, Slots
from web_prom.multiprocess.file_format import CORRUPT_SUFFIX, TEMP_SUFFIX, FileName
from web_prom.multiprocess.regular_file import NotRegularError, open_regular
from web_prom.multiprocess.writing.value_file import ValueFile

# What cleans directories by age looks at days.
_TOUCH_SECONDS = 3600.0

_OBSTACLES = (NotRegularError, PermissionError, IsADirectoryError)


class LostFilesError(WebPromError, OSError):
    """Files of this process, or the lock on its slot, were removed or replaced; they are there again."""


class Place:
    """The directory and the slot where one process has its value files.

    Whoever uses it holds the lock of the process's storage.

    Args:
        slots: The slots of the directory.
        failed: Is called with the error for each slot that is passed over, as its files cannot be used.

    Attributes:
        slots: The same.
        slot: The slot that the process holds; another one if it cannot be had again.

    Raises:
        DirectoryError: No slot can be taken.
    """

    def __init__(self, slots: Slots, failed: Callable[[OSError], None]) -> None:
        self.slots = slots
        self.slot = _with_lock_file(slots, slots.acquire)
        while (error := _clear(slots.directory, self.slot)) is not None:
            failed(error)
            self.slot = slots.skip(self.slot)
        self._status = os.stat(slots.directory)
        self._touch_at = monotonic() + _TOUCH_SECONDS

    def path(self, prefix: str) -> Path:
        """Return the path of a file, such as for the prefix ``gauge_livesum``."""
        kind, _, mode = prefix.partition("_")
        return self.slots.directory / str(FileName(kind, mode, f"s{self.slot}"))

    def is_lost(self, files: Mapping[str, ValueFile]) -> bool:
        """Return whether the slot is not held any more, or a file is not where it belongs."""
        return not self.slots.holds(self.slot) or any(
            file.path != self.path(prefix) or not file.is_in_place for prefix, file in files.items()
        )

    def recover(self, files: Mapping[str, ValueFile]) -> list[str]:
        """Hold a slot again, and have all files in it.

        It is the same slot if no other process took it and nothing is in the way. A removed file goes on as a
        copy. Files that stay behind with the former slot are left: they count as a dead worker's, or the
        process that took the slot goes on from their values. Live gauges are this process's, and are moved.

        Args:
            files: By prefix. No other thread may use them meanwhile.

        Returns:
            The prefixes of the files that were left.

        Raises:
            OSError: There is no room for a copy, or no right to make one. Another call goes on from there.
        """
        self._make_directory()
        if not self.slots.holds(self.slot):
            self.slot = _with_lock_file(
                self.slots, lambda: self.slots.reacquire(self.slot, lambda slot: self._fits(slot, files))
            )
        left = []
        for prefix, file in files.items():
            if file.path != self.path(prefix) and file.is_in_place and not prefix.startswith("gauge_live"):
                left.append(prefix)
                continue
            try:
                file.move(self.path(prefix))
            except OSError as error:
                if not self.is_blocked(prefix, error):
                    raise
                self.leave({each: file for each, file in files.items() if each not in left})
        return left

    def touch(self, files: Mapping[str, ValueFile]) -> None:
        """Give slots and files the present time once an hour, so that no clean-up by age removes them."""
        if monotonic() >= self._touch_at:
            self._touch_at = monotonic() + _TOUCH_SECONDS
            self.slots.touch()
            for file in list(files.values()):
                with contextlib.suppress(OSError):
                    os.utime(file.path, follow_symlinks=False)

    def is_blocked(self, prefix: str, error: OSError) -> bool:
        """Return whether an error means that something else has the name of a file."""
        path = self.path(prefix)
        return isinstance(error, _OBSTACLES) and (
            os.path.lexists(path) or os.path.lexists(f"{path}{TEMP_SUFFIX}")
        )

    def leave(self, files: Mapping[str, ValueFile]) -> None:
        """Take another slot, one without files, and move all files to it.

        Raises:
            OSError: As with :meth:`recover`.
        """
        former = self.slot
        self.slot = self.slots.reacquire(former, lambda slot: slot != former and self._fits(slot, {}))
        for prefix, file in files.items():
            file.move(self.path(prefix))
        self.slots.release_former(former)

    def _fits(self, slot: int, files: Mapping[str, ValueFile]) -> bool:
        """Return whether a slot has no files but these."""
        own = {file.path.name for file in files.values() if file.is_in_place}
        for name in os.listdir(self.slots.directory):
            found = FileName.parse(name.removesuffix(TEMP_SUFFIX))
            if found is not None and found.slot == slot and name not in own:
                return False
        return True

    def _make_directory(self) -> None:
        path, former = self.slots.directory, self._status
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
                f"{DIR_VARIABLE} is {str(path)!r}, which was removed; user {found.st_uid} made another one, "
                "which is not trusted: remove it, or restart the server with another directory"
            )


def _with_lock_file(slots: Slots, take: Callable[[], int]) -> int:
    """Take a slot, and if need be put aside what is in the place of the file with the locks."""
    try:
        return take()
    except DirectoryError as error:
        if not isinstance(error.__cause__, NotRegularError):
            raise
        path = slots.directory / LOCK_NAME
        try:
            path.rename(f"{path}{CORRUPT_SUFFIX}")
        except OSError:
            raise error from None
        return take()


def _clear(directory: Path, slot: int) -> OSError | None:
    """Remove of a slot what ended with its last holder; return why this process cannot write the rest."""
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
