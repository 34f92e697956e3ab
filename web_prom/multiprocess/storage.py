"""The value files of this process: made and grown with their space reserved, in the slot that it holds."""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import RLock
from time import monotonic
from typing import Any, Protocol

from prometheus_client.mmap_dict import mmap_key

from web_prom.errors import DirectoryError
from web_prom.multiprocess.layout import FileName
from web_prom.multiprocess.presence import ABSENT, presence
from web_prom.multiprocess.slots import VARIABLE, slots_of
from web_prom.multiprocess.valuefile import UNFINISHED, DamagedError, Held, Removed, ValueFile

logger = logging.getLogger("web_prom")

DAMAGED = ".damaged"
"""Ends the name of a file that its next writer could not go on with."""

ERRORS = "web_prom_storage_errors"
_ERRORS_HELP = (
    "Failures to make, open or extend a value file, such as on a full disk, where values wait in memory "
    "meanwhile; and damaged files that were put aside."
)
_ERRORS_KEY = mmap_key(ERRORS, f"{ERRORS}_total", [], [], _ERRORS_HELP).encode()

# How long values wait in memory before it is tried again.
_RETRY_SECONDS = 1.0


Choose = Callable[[ValueFile], Iterable[bytes]]
"""Returns the keys of entries of a file."""


class Cell(Protocol):
    """What keeps a value in a file, or in memory until there is room."""

    file: ValueFile | Held

    @property
    def prefix(self) -> str:
        """How the file's name begins, such as ``gauge_livesum``."""

    @property
    def key(self) -> bytes:
        """The entry of the value."""

    @property
    def total(self) -> bytes | None:
        """For a bucket, the entry of its histogram's sum; else None."""

    def place(self, file: ValueFile | Held, at: int, mark: int) -> None:
        """Keep the value there from now on: ``at`` and for a bucket ``mark``, in doubles."""

    def carry(self, held: Held) -> None:
        """Write what was held in memory."""


class Storage:
    """The value files of one process; get it with :func:`current`.

    Whoever uses it holds ``lock``. The same thread may come in between its own steps, in a signal's
    handler or in an object's end: what is new to it then waits in memory.

    Attributes:
        lock: Held by whoever reads or writes values of this process.
        here: Its first item is true in this process, and in no fork of it.
        heirs: In a fork, its own storage.
        admitted: The label sets of families with a cap (``admission``).
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.here = presence()
        self.heirs: dict[int, Storage] = {}
        self.admitted: dict[bytes, Any] = {}
        self._directory: Path | None = None
        self._slot = -1
        self._files: dict[str, ValueFile] = {}
        self._waiting: deque[Cell] = deque()
        self._retry_at = 0.0
        self._busy = False
        self._removals: deque[tuple[str, Choose]] = deque()
        self._uncounted = 0.0
        self._unreported: deque[BaseException] = deque()
        self._reported: set[str] = set()

    def attach(self, cell: Cell) -> ValueFile | Held:
        """Return where a cell's value is in this process: its file, or memory as long as that fails."""
        if isinstance(cell.file, Removed):
            return cell.file
        if self._busy:
            if cell.file.owner is not self:
                self._hold(cell)
            return cell.file
        self._busy = True
        try:
            if self._waiting and monotonic() >= self._retry_at:
                self._settle()
            if cell.file.owner is not self:
                # What failed a moment ago is not tried for each value.
                found = None if monotonic() < self._retry_at else self._find(cell)
                if cell.file.owner is self:  # since a moment ago, by a signal's handler
                    pass
                elif found is None:
                    self._hold(cell)
                else:
                    cell.place(*found)
        finally:
            self._busy = False
        if self._removals:
            self._remove_all()
        return cell.file

    def is_ready(self) -> bool:
        """Tell whether this process has its slot, or can take one now."""
        if self._busy or monotonic() < self._retry_at:
            return False
        self.existing("counter")
        return "counter" in self._files

    def existing(self, prefix: str) -> ValueFile | None:
        """Return a file of the slot, None if there is none; a process without a slot takes one."""
        if self._busy:
            return self._files.get(prefix)
        self._busy = True
        try:
            self._file("counter")
            there = prefix in self._files or self._path_of(prefix).exists()
            return self._file(prefix) if there else None
        except OSError as error:
            self._retry_at = monotonic() + _RETRY_SECONDS
            self._failed(error)
            return None
        finally:
            self._busy = False

    def remove(self, prefix: str, choose: Choose) -> None:
        """Remove label sets, whose cells are detached, from the slot; other slots keep theirs.

        Args:
            prefix: How the file's name begins.
            choose: Returns the keys of all their entries in the file.
        """
        self._removals.append((prefix, choose))
        if not self._busy:
            self._remove_all()

    def _remove_all(self) -> None:
        while self._removals:
            prefix, choose = self._removals.popleft()
            file = self.existing(prefix)
            if file is not None:
                file.remove(choose(file))

    def finish(self) -> None:
        """Write what waits in memory, if there is room by now: the process ends."""
        if not self._busy:
            self._settle()

    def report(self) -> None:
        """Log what failed, the first of each kind; to be called without the lock, which handlers may want."""
        while self._unreported:
            error = self._unreported.popleft()
            kind = f"{type(error).__name__} {getattr(error, 'errno', '')}"
            if kind not in self._reported:
                self._reported.add(kind)
                logger.warning(
                    "the metrics of process %s: %s; counted in %s_total", os.getpid(), error, ERRORS
                )

    def close(self) -> None:
        """Close all files; what is written later waits in memory for ever. For a test that is over."""
        self._stop()
        while self._files:
            self._files.popitem()[1].close()

    def _settle(self) -> None:
        while self._waiting:
            cell = self._waiting[0]
            if isinstance(cell.file, Removed):
                self._waiting.popleft()
                continue
            found = self._find(cell)
            if found is None:
                return
            held = cell.file
            assert isinstance(held, Held)
            cell.place(*found)
            cell.carry(held)
            self._waiting.popleft()
        self._count()
        for file in self._files.values():
            file.here = self.here

    def _find(self, cell: Cell) -> tuple[ValueFile, int, int] | None:
        try:
            file = self._file(cell.prefix)
            # The mark is the timestamp of the sum.
            mark = 0 if cell.total is None else file.locate(cell.total) + 1
            return file, file.locate(cell.key), mark
        except OSError as error:
            self._retry_at = monotonic() + _RETRY_SECONDS
            self._failed(error)
            return None

    def _hold(self, cell: Cell) -> None:
        cell.place(Held(self, self.lock), 0, 2 if cell.total is not None else 0)
        self._waiting.append(cell)
        self._stop()

    def _stop(self) -> None:
        # Whoever writes anything asks first, and so has it tried again.
        for file in self._files.values():
            file.here = ABSENT

    def _file(self, prefix: str) -> ValueFile:
        found = self._files.get(prefix)
        if found is None:
            if self._directory is None:
                self._take_over()
            # Where errors are counted; before anything fails, as it may do on a disk that is full by then.
            if "counter" not in self._files:
                self._open("counter")
            found = self._files.get(prefix) or self._open(prefix)
        return found

    def _take_over(self) -> None:
        path = os.environ.get(VARIABLE)
        if not path:
            raise DirectoryError(f"{VARIABLE} is no longer in the environment")
        slots = slots_of(path)
        slot = slots.take()
        while not _clear(slots.directory, slot):
            slot = slots.pass_over(slot)
        self._directory, self._slot = slots.directory, slot

    def _open(self, prefix: str) -> ValueFile:
        path = self._path_of(prefix)
        try:
            file = ValueFile(path, self.lock, ABSENT if self._waiting else self.here)
        except DamagedError as error:
            path.replace(f"{path}{DAMAGED}")
            self._failed(error)
            file = ValueFile(path, self.lock, ABSENT if self._waiting else self.here)
        file.owner = self
        self._files[prefix] = file
        self._count()
        return file

    def _path_of(self, prefix: str) -> Path:
        assert self._directory is not None
        return self._directory / str(FileName(*_split(prefix), f"s{self._slot}"))

    def _failed(self, error: BaseException) -> None:
        self._unreported.append(error)
        self._uncounted += 1.0
        self._count()

    def _count(self) -> None:
        file = self._files.get("counter")
        if file is not None:
            with contextlib.suppress(OSError):
                at = file.locate(_ERRORS_KEY)
                file.view[at] += self._uncounted
                self._uncounted = 0.0


def current() -> Storage:
    """Return the storage of this process, new after a fork. Safe from any thread; takes no slot yet."""
    global _last  # noqa: PLW0603 - a process has one
    last = _last
    while not last.here[0]:
        # One step that no thread can come in between: all get the same.
        last = last.heirs.setdefault(0, Storage())
    _last = last
    return last


# A parent's storage is kept, through its heirs: to unmap a file closes a descriptor by its number, which in a
# daemon that closed all is another file's by now.
_first = _last = Storage()


def _at_exit() -> None:
    if _last.here[0]:
        with _last.lock:
            _last.finish()


atexit.register(_at_exit)


def _split(prefix: str) -> tuple[str, str]:
    kind, _, mode = prefix.partition("_")
    return kind, mode


def _clear(directory: Path, slot: int) -> bool:
    """Remove of a slot what ended with its last holder; tell whether this process can write the rest."""
    try:
        for name in os.listdir(directory):
            found = FileName.parse(name.removesuffix(UNFINISHED))
            if found is None or found.slot != slot:
                continue
            if found.is_live or name.endswith(UNFINISHED):
                os.unlink(directory / name)
            else:
                os.close(os.open(directory / name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return False
        raise
    return True
