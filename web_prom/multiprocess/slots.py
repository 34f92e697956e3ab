"""Slots: the small numbers that processes name their files by, each held by a lock of the kernel.

``slots.lock`` has a record for each slot: the process id of whoever took it last. A slot is *held* by a write
lock on its record. The kernel gives it back at any death, ``kill -9`` included; a fork does not inherit it. A
*read* lock is not a holder's: somebody sees to it for a moment that nobody holds what it covers.

What must hold after a fork goes by ``os.getpid()``: uWSGI runs no at-fork hooks.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from web_prom.errors import DirectoryError
from web_prom.multiprocess.lockfile import LockFile, OtherInterpreterError, Span

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the shared directory; prometheus_client's own."""

LOCK_NAME = "slots.lock"
"""The name of the file with the locks. Never removed while its directory stays."""

# Others hold read locks only for as long as it takes to remove files.
_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.001


class _Process:
    """What one process has of a directory's slots; a fork begins with nothing, and with a lock of its own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.slot: int | None = None


class Slots:
    """The slots of one directory, and the one that this process holds.

    There is one for each directory in a process, see :func:`slots_of`: two would not exclude each other,
    and take each other's locks away. Safe to use from any thread and after any fork. Only :meth:`find` and
    :meth:`claim` may be called by what handles a signal.

    Args:
        directory: The shared directory.

    Attributes:
        directory: The same; with :func:`slots_of` free of links: moving one moves no holder.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = LockFile(directory / LOCK_NAME)
        self._processes: dict[int, _Process] = {}

    def take(self) -> int:
        """Return the number of this process's slot; it takes the lowest free one when it has none yet.

        A process keeps its slot until its death or :meth:`pass_over`; a fork of it takes one of its own.

        Raises:
            DirectoryError: There is no such directory, or this process may not write to it.
        """
        process = self._process()
        slot = process.slot
        if slot is None:
            with process.lock, self._explained():
                slot = process.slot
                if slot is None:
                    slot = process.slot = self._take_from(0, process)
        return slot

    def pass_over(self, slot: int) -> int:
        """Give back a slot with files that this process cannot write, and take the next free one above it.

        Nothing happens if the process has another one by now: a second thread passed it over already.

        Returns:
            The number of the slot that the process holds now.

        Raises:
            DirectoryError: As with :meth:`take`; the process then holds no slot.
        """
        process = self._process()
        with process.lock, self._explained():
            if process.slot is not None and process.slot != slot:
                return process.slot
            if self._open(process, writing=True) and process.slot is not None:
                process.slot = None
                self._record(slot, 0)
                self._file.unlock(Span(slot, slot + 1))
            process.slot = self._take_from(slot + 1, process)
            return process.slot

    def held(self) -> dict[int, int]:
        """Return who holds which slot: process ids by slot, in the order of the slots.

        The id is 0 where this process cannot see the holder: another container's. Takes no slot, and needs
        no more than to read; nobody holds one where there is no such file.

        Raises:
            DirectoryError: This process may not read the file.
        """
        process = self._process()
        with process.lock, self._explained():
            if not self._open(process, writing=False):
                return {}
            found = {lock.span.first: lock.pid for lock in self._file.locks() if not lock.shared}
            if process.slot is not None:  # one's own locks are not in one's way, and so not told
                found[process.slot] = os.getpid()
        return dict(sorted(found.items()))

    def find(self, pid: int) -> list[int]:
        """Return the slots that this process id took last, whether or not anybody holds them now.

        Never waits: while another thread, or this one that a signal interrupted, is at work here, none.

        Raises:
            DirectoryError: This process may not read the file.
        """
        process = self._process()
        if not process.lock.acquire(blocking=False):
            return []
        try:
            with self._explained():
                records = self._file.records() if self._open(process, writing=False) else []
        finally:
            process.lock.release()
        return [slot for slot, taker in enumerate(records) if taker == pid]

    @contextlib.contextmanager
    def claim(self, slot: int) -> Iterator[bool]:
        """Keep a slot that nobody holds free for a moment, to clean up; tell whether it is.

        Never waits, as :meth:`find`. Nothing else may be asked of the slots in between.

        Raises:
            DirectoryError: This process may not write to the file.
        """
        process = self._process()
        if not process.lock.acquire(blocking=False):
            yield False
            return
        try:
            with self._explained():
                span = Span(slot, slot + 1)
                there = self._open(process, writing=True) and process.slot != slot
                free = there and self._file.try_lock(span, shared=True)
            try:
                yield free
            finally:
                if free:
                    self._file.unlock(span)
        finally:
            process.lock.release()

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Keep all slots free that this process does not hold; tell whether no other process holds one.

        Whoever wants one waits meanwhile, a second at most. Nothing else may be asked here in between.

        Raises:
            DirectoryError: This process may not write to the file.
        """
        process = self._process()
        with process.lock:
            with self._explained():
                self._open(process, writing=True, making=True)
                others = _all_but(process.slot)
                locked = [span for span in others if self._file.try_lock(span, shared=True)]
            try:
                yield locked == others
            finally:
                for span in locked:
                    self._file.unlock(span)

    def close(self) -> None:
        """Close the file, unless this process holds a slot. Whatever is asked afterwards opens it again."""
        process = self._process()
        with process.lock:
            if process.slot is None:
                self._file.close()

    def _process(self) -> _Process:
        pid = os.getpid()
        process = self._processes.get(pid)
        if process is None:
            # One step that no thread can come in between: all threads get the same.
            process = self._processes.setdefault(pid, _Process())
            for ancestor in set(self._processes) - {pid}:
                self._processes.pop(ancestor, None)
        return process

    def _open(self, process: _Process, *, writing: bool, making: bool = False) -> bool:
        if self._file.is_open(writing=writing):
            return True
        # Closed or replaced, or one that nothing can be held by: with it goes what was held.
        process.slot = None
        return self._file.open(writing=writing, making=making)

    def _take_from(self, first: int, process: _Process) -> int:
        while True:
            self._open(process, writing=True, making=True)
            self._file.refuse_another()  # which came between our parent's opening and our taking
            slot = self._lock_from(first)
            if self._file.is_current:
                self._record(slot, os.getpid())
                return slot
            # The directory was removed in between, and perhaps made again.

    def _lock_from(self, first: int) -> int:
        slot = first
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._file.try_lock(Span(slot, slot + 1)):
            lock = self._file.lock_in(Span(slot, slot + 1))
            if lock is not None and not lock.shared:
                slot += 1
            elif time.monotonic() > deadline:
                raise TimeoutError(f"process {lock.pid if lock else '?'} does not end cleaning up")
            else:
                time.sleep(_PAUSE_SECONDS)
        # One that was passed may have become free meanwhile: in a rush of deaths and births the numbers would
        # grow beyond the processes that there are.
        for lower in range(first, slot):
            if self._file.try_lock(Span(lower, lower + 1)):
                self._file.unlock(Span(slot, slot + 1))
                return lower
        return slot

    def _record(self, slot: int, pid: int) -> None:
        # On a full disk the slot is held all the same; the record only helps to clean up sooner.
        with contextlib.suppress(OSError):
            self._file.record(slot, pid)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OtherInterpreterError as error:
            raise DirectoryError(
                f"{VARIABLE} is {str(self.directory)!r}, which another interpreter of process {os.getpid()} "
                "uses already, and no lock keeps two of one process apart; let the applications share one "
                "(mod_wsgi: application-group=%{GLOBAL}; uWSGI: single-interpreter), or give each of them "
                "processes or a directory of its own"
            ) from error
        except OSError as error:
            raise DirectoryError(
                f"{VARIABLE} is {str(self.directory)!r}, where user {os.geteuid()} cannot use {LOCK_NAME} "
                f"({error}); name a directory on a local disk that all workers can write"
            ) from error


@dataclass(frozen=True)
class Identifier:
    """A process's name in prometheus_client's file names: written as its slot, equal in one process only.

    A fork may get its dead parent's number before its own first operation. prometheus_client reads its files
    again when the identifier *changes*, and would otherwise go on with the values that it had at the fork.
    """

    slot: int
    pid: int

    def __str__(self) -> str:
        return f"s{self.slot}"


_all: dict[str, Slots] = {}


def slots_of(directory: str | Path) -> Slots:
    """Return the slots of a directory: in one process always the same object. Safe from any thread."""
    path = os.path.realpath(directory)
    return _all.get(path) or _all.setdefault(path, Slots(Path(path)))


def process_identifier() -> Identifier:
    """Return what ``MultiProcessValue(process_identifier=...)`` of prometheus_client asks for.

    Raises:
        DirectoryError: As with :meth:`Slots.take`.
        KeyError: The environment names no directory.
    """
    return Identifier(slots_of(os.environ[VARIABLE]).take(), os.getpid())


def _forget() -> None:
    for slots in _all.values():
        slots._processes.clear()


# Needed only where the system gives a fork the id of an ancestor that is dead by then.
os.register_at_fork(after_in_child=_forget)


def _all_but(slot: int | None) -> list[Span]:
    if slot is None:
        return [Span(0, None)]
    return [span for span in (Span(0, slot), Span(slot + 1, None)) if span.first != span.last]
