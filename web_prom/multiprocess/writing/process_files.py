"""The value files of this process: made and grown with their space reserved, in the slot that it holds."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from threading import RLock
from time import monotonic, sleep
from typing import Any, Protocol

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.slots import LOCK_NAME, slots_of
from web_prom.multiprocess.file_entries import CorruptFileError
from web_prom.multiprocess.file_format import CORRUPT_SUFFIX, entry_key
from web_prom.multiprocess.writing.fork_guard import ABSENT, presence
from web_prom.multiprocess.writing.place import LostFilesError, Place
from web_prom.multiprocess.writing.value_file import Held, Removed, ValueFile
from web_prom.multiprocess.writing.watch import Watch

logger = logging.getLogger("web_prom")

ERRORS = "web_prom_storage_errors"
_ERRORS_HELP = (
    "Failures to make, open or extend a value file, such as on a full disk, where values wait in memory "
    "meanwhile; damaged files that were put aside; and files that were removed while a process used them."
)
_ERRORS_KEY = entry_key(ERRORS, f"{ERRORS}_total", (), (), _ERRORS_HELP)

# How long values wait in memory before it is tried again.
_RETRY_SECONDS = 1.0
# Whoever removes a directory removes one file after the other.
_REMOVAL_SECONDS = 0.1
_REPORT_SECONDS = 3600.0


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
        self._place: Place | None = None
        self._watch = Watch(self._look_around)
        self._files: dict[str, ValueFile] = {}
        self._waiting: deque[Cell] = deque()
        self._retry_at = 0.0
        self._busy = False
        self._removals: deque[tuple[str, Choose]] = deque()
        self._uncounted = 0.0
        self._unreported: deque[BaseException] = deque()
        self._reported: dict[str, float] = {}

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

    def look(self) -> None:
        """See whether the files and the slot are still this process's, and have them again if they are not.

        Files can be removed while they are used: by a clean-up, by hand, or by the application. Their values
        are still in memory, and go on in copies.
        """
        if self._busy or self._place is None:
            return
        self._busy = True
        try:
            if self._place.is_lost(self._files):
                self._recover()
            if self._waiting and monotonic() >= self._retry_at:
                self._settle()
        except OSError as error:
            self._failed(error)
        finally:
            self._busy = False

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
            assert self._place is not None
            there = prefix in self._files or self._place.path(prefix).exists()
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
        self._watch.stop()
        # A directory that is removed as the process ends stays removed.
        if self._place is not None and self._place.slots.directory.exists():
            self.look()
        if not self._busy:
            self._settle()

    def try_again(self) -> None:
        """Write what waits in memory, if there is any and it can be written: something has been mended."""
        with self.lock:
            self._retry_at = 0.0
            if self._waiting and not self._busy:
                self._settle()

    def report(self) -> None:
        """Log what failed, the first of each kind; to be called without the lock, which handlers may want."""
        while self._unreported:
            error = self._unreported.popleft()
            kind, now = f"{type(error).__name__} {getattr(error, 'errno', '')}", monotonic()
            if now >= self._reported.get(kind, now):
                self._reported[kind] = now + _REPORT_SECONDS
                logger.warning(
                    "the metrics of process %s: %s; counted in %s_total", os.getpid(), error, ERRORS
                )

    def close(self) -> None:
        """Close all files; what is written later waits in memory for ever. For a test that is over."""
        self._watch.stop()
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
            if self._place is None:
                self._take_over()
            elif self._place.is_lost({}):
                self._recover()
            # Where errors are counted; before anything fails, as it may do on a disk that is full by then.
            if "counter" not in self._files:
                self._open("counter")
            found = self._files.get(prefix) or self._open(prefix)
        return found

    def _take_over(self) -> None:
        path = os.environ.get(DIR_VARIABLE)
        if not path:
            raise DirectoryError(f"{DIR_VARIABLE} is no longer in the environment")
        self._place = Place(slots_of(path), self._failed)
        self._watch.start()

    def _recover(self) -> None:
        assert self._place is not None
        for prefix in self._place.recover(self._files):
            # It stays mapped: another thread may be about to write to it.
            file = self._files.pop(prefix)
            file.owner, file.here = None, ABSENT
        self._failed(
            LostFilesError(
                f"value files or {LOCK_NAME} in {self._place.slots.directory} were removed or replaced by "
                f"others; the values of this process go on there, in slot {self._place.slot}"
            )
        )

    def _look_around(self) -> None:
        """Look, as the watch does: never while the lock is held, and not while files are being removed."""
        if not self.here[0] or self._place is None or not self._place.is_lost(dict(self._files)):
            if self._place is not None:
                self._place.touch(self._files)
            return
        sleep(_REMOVAL_SECONDS)
        if self.lock.acquire(timeout=_RETRY_SECONDS):
            try:
                self.look()
            finally:
                self.lock.release()
            self.report()

    def _open(self, prefix: str) -> ValueFile:
        assert self._place is not None
        try:
            file = self._opened(prefix)
        except OSError as error:
            if not self._place.is_blocked(prefix, error):
                raise
            self._failed(error)
            self._place.leave(self._files)
            file = self._opened(prefix)
        file.owner = self
        self._files[prefix] = file
        self._count()
        return file

    def _opened(self, prefix: str) -> ValueFile:
        assert self._place is not None
        path = self._place.path(prefix)
        here = ABSENT if self._waiting else self.here
        try:
            return ValueFile(path, self.lock, here)
        except CorruptFileError as error:
            path.replace(f"{path}{CORRUPT_SUFFIX}")
            self._failed(error)
            return ValueFile(path, self.lock, here)

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


def look() -> None:
    """Have this process's files and slot again if they were removed or replaced. Never raises.

    Every process does so by itself, within about a second. A process that answers a scrape does so at once.
    """
    storage = current()
    with storage.lock:
        storage.look()
    storage.report()


# A parent's storage is kept, through its heirs: to unmap a file closes a descriptor by its number, which in a
# daemon that closed all is another file's by now.
_first = _last = Storage()


def _at_exit() -> None:
    if _last.here[0]:
        with _last.lock:
            _last.finish()


atexit.register(_at_exit)
