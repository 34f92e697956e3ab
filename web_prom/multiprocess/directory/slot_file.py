"""The file with the slots' locks: which slot a process may lock, and who holds which."""

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
from web_prom.multiprocess.directory.lockfile import Lock, LockFile, OtherInterpreterError, Span
from web_prom.multiprocess.file_format import FileName
from web_prom.multiprocess.regular_file import is_in_use

logger = logging.getLogger("web_prom")

_PAUSE_SECONDS = 0.001

# What a kernel says that does not know F_GETLK (gVisor), or whose sandbox refuses it.
_NO_ANSWER = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ENOLCK}


class SlotFile(LockFile):
    """A lock file with a record for each slot: the process that took the slot last.

    As LockFile not safe between threads, and open() comes before all others.

    Args:
        path: The file; value files of the slots are in the same directory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._former: LockFile | None = None
        self._reported: set[str] = set()

    def open(self, *, writing: bool, making: bool = False) -> bool:
        """Open the file, as LockFile does. A removed one is kept, for those that still hold slots in it."""
        former = self.set_aside()
        if former is not None:
            if self._former is not None:
                self._former.close()
            self._former = former
        return super().open(writing=writing, making=making)

    def give_former_back(self) -> None:
        """Give back what this process locked in a removed file, now that it has a slot in this one."""
        if self._former is not None and self._former.has_descriptor:
            self._former.unlock(Span(0, None))

    def lock_from(self, first: int, patience: float) -> int:
        """Lock the lowest free slot from ``first`` up, and return it.

        Args:
            first: The lowest that is tried.
            patience: How many seconds to wait for a process that keeps slots free.

        Raises:
            TimeoutError: They were not enough.
        """
        slot = first
        deadline = time.monotonic() + patience
        while not self.lock_fitting(slot, self._is_unused):
            lock = self._lock_on(slot)
            if lock is None or not lock.shared:
                slot += 1
            elif time.monotonic() > deadline:
                raise TimeoutError(f"process {lock.pid or '?'} does not end cleaning up")
            else:
                time.sleep(_PAUSE_SECONDS)
        # One that was passed may have become free meanwhile: in a rush of deaths and births the numbers would
        # grow beyond the processes that there are.
        for lower in range(first, slot):
            if self.lock_fitting(lower, self._is_unused):
                self.unlock(Span(slot, slot + 1))
                return lower
        return slot

    def lock_again(self, slot: int, fits: Callable[[int], bool], own: int | None) -> int:
        """Lock a slot if it is free and fits, else the lowest one that does, and return it. Never waits.

        Args:
            slot: The first that is tried.
            fits: Whether a slot fits, once it is locked.
            own: The slot that this process holds already, which is left out.

        Raises:
            TimeoutError: A process keeps slots free.
        """
        for each in chain([slot], count()):
            if each == own:
                continue
            if self.lock_fitting(each, fits):
                return each
            lock = self._lock_on(each)
            if lock is not None and lock.shared:
                raise TimeoutError(f"process {lock.pid or '?'} does not end cleaning up")
        raise AssertionError

    def lock_fitting(self, slot: int, fits: Callable[[int], bool]) -> bool:
        """Lock a slot if it is free and, once it is locked, fits; return whether it is locked."""
        span = Span(slot, slot + 1)
        if not self.try_lock(span):
            return False
        try:
            if fits(slot):
                return True
        except BaseException:
            self.unlock(span)
            raise
        self.unlock(span)
        return False

    def _lock_on(self, slot: int) -> Lock | None:
        """Return the lock of another process on a slot."""
        try:
            return self.lock_in(Span(slot, slot + 1))
        except OSError as error:
            if error.errno not in _NO_ANSWER:
                raise
            taker = self.record_of(slot)
            return Lock(Span(slot, slot + 1), taker <= 0, max(taker, 0))

    def _is_unused(self, slot: int) -> bool:
        """Return whether no process uses the files of a slot that this process has locked.

        A process that took the slot in a former lock file, which was removed, may not have noticed yet.
        """
        if self.record_of(slot) > 0:  # somebody took it in this one
            return True
        return not any(map(is_in_use, self._files(slot)))

    def _files(self, slot: int) -> list[Path]:
        directory = self.path.parent
        names = {name: FileName.parse(name) for name in os.listdir(directory)}
        return [directory / name for name, found in names.items() if found is not None and found.slot == slot]

    def slots_with_files(self) -> set[int]:
        """Return the slots that have value files."""
        try:
            names = map(FileName.parse, os.listdir(self.path.parent))
        except FileNotFoundError:
            return set()
        return {name.slot for name in names if name is not None and name.slot is not None}

    def holders(self) -> dict[int, int]:
        """Return the other processes that hold slots, by slot; 0 for one that this process cannot see.

        Where the kernel does not tell, it is those that recorded their slots and are alive. Processes that
        have not noticed yet that the former file was removed are among them.
        """
        found = self._holders()
        if self._former is not None and self._former.has_descriptor:
            late = {lock.span.first: lock.pid for lock in self._former.locks()}
            if late:
                here = set(found.values()) - {0}
                return {**{slot: pid for slot, pid in late.items() if pid not in here}, **found}
            self._former.close()
        self._former = None
        return found

    def _holders(self) -> dict[int, int]:
        try:
            return {lock.span.first: lock.pid for lock in self.locks()}
        except OSError as error:
            if error.errno not in _NO_ANSWER:
                raise
            self.report(f"the kernel does not tell who holds a lock ({error}); process ids tell it")
            return {slot: pid for slot, pid in enumerate(self.records()) if _is_alive(pid)}

    def try_record(self, slot: int, pid: int) -> None:
        """Record who took a slot, if that can be written."""
        # On a full disk the slot is held all the same; the record only helps to clean up sooner.
        with contextlib.suppress(OSError):
            self.record(slot, pid)

    def report(self, message: str) -> None:
        """Log what is wrong with the file, once."""
        if message not in self._reported:
            self._reported.add(message)
            logger.warning("%s: %s", self.path, message)


@contextlib.contextmanager
def explained(variable: str, directory: Path, name: str) -> Iterator[None]:
    """Raise DirectoryError, with what to do, for what is raised within.

    Args:
        variable: The environment variable that names the directory.
        directory: The directory.
        name: The name of the file with the locks.
    """
    try:
        yield
    except OtherInterpreterError as error:
        raise DirectoryError(
            f"{variable} is {str(directory)!r}, which another interpreter of process {os.getpid()} "
            "uses already, and no lock keeps two of one process apart; let the applications share one "
            "(mod_wsgi: application-group=%{GLOBAL}; uWSGI: single-interpreter), or give each of them "
            "processes or a directory of its own"
        ) from error
    except OSError as error:
        raise DirectoryError(
            f"{variable} is {str(directory)!r}, where user {os.geteuid()} cannot use {name} "
            f"({error}); name a directory on a local disk that all workers can write"
        ) from error


def all_but(slot: int | None) -> list[Span]:
    """Return all slots without one."""
    if slot is None:
        return [Span(0, None)]
    return [span for span in (Span(0, slot), Span(slot + 1, None)) if span.first != span.last]


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
