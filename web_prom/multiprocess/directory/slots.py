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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.lockfile import Span
from web_prom.multiprocess.directory.slot_file import SlotFile, all_but, explained
from web_prom.multiprocess.regular_file import NotRegularError
from web_prom.posix import at_fork

LOCK_NAME = "slots.lock"
"""The name of the file with the locks. web-prom never removes it while its directory stays."""

# Others hold read locks only for as long as it takes to remove files.
_PATIENCE_SECONDS = 1.0


class _Process:
    """What one process has of a directory's slots; a fork begins with nothing, and with a lock of its own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.slot: int | None = None
        self.waits = True


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
        self._file = SlotFile(directory / LOCK_NAME)
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
                self._file.try_record(slot, 0)
                self._file.unlock(Span(slot, slot + 1))
            process.slot = self._take_from(slot + 1, process)
            return process.slot

    def holds(self, slot: int) -> bool:
        """Return whether this process holds the slot in the file that the path leads to now. Never waits."""
        process = self._process()
        if not process.lock.acquire(blocking=False):
            return True  # another thread is at work here; the caller asks again
        try:
            return process.slot == slot and self._file.is_current
        finally:
            process.lock.release()

    def renew(self, slot: int, fits: Callable[[int], bool]) -> int:
        """Take another slot, where the present one is lost or cannot be used any more. Never waits.

        A slot that is not lost stays locked as well, until :meth:`give_back`.

        Args:
            slot: The former slot. If it is lost it is taken again, provided that it is free and fits.
            fits: Whether the files of a slot, which this process has locked, are no obstacle.

        Returns:
            The number of the slot that the process holds now.

        Raises:
            DirectoryError: As with :meth:`take`.
        """
        process = self._process()
        with process.lock, self._explained():
            while True:
                self._open(process, writing=True, making=True)
                self._file.refuse_another()
                found = self._file.lock_again(slot, fits, process.slot)
                if self._file.is_current:
                    self._file.try_record(found, os.getpid())
                    self._file.give_former_back()
                    process.slot = found
                    return found

    def give_back(self, slot: int) -> None:
        """Unlock a slot that :meth:`renew` left locked."""
        process = self._process()
        with process.lock, contextlib.suppress(OSError):
            if process.slot not in (None, slot):
                self._file.try_record(slot, 0)
                self._file.unlock(Span(slot, slot + 1))

    def touch(self) -> None:
        """Give the file with the locks the present time, so that no clean-up by age removes it."""
        process = self._process()
        with process.lock, contextlib.suppress(OSError):
            if process.slot is not None:
                self._file.touch()

    def held(self) -> dict[int, int]:
        """Return who holds which slot: process ids by slot, in the order of the slots.

        The id is 0 where this process cannot see the holder: another container's. Takes no slot, and needs
        no more than to read; nobody holds one where there is no such file.

        Where the kernel does not tell the holders, those are returned that recorded their slots and are
        alive.

        Raises:
            DirectoryError: This process may not read the file.
        """
        process = self._process()
        with process.lock, self._explained():
            if not self._open(process, writing=False):
                return {}
            found = self._file.holders()
            if process.slot is not None:  # one's own locks are not in one's way, and so not told
                found[process.slot] = os.getpid()
        return dict(sorted(found.items()))

    def presumed(self) -> dict[int, int]:
        """Return who holds which slot, for a scrape, which goes on if that is not to be known.

        Where this process may not read the file, or something else has its name, every slot with files counts
        as held, by the id 0.

        Raises:
            DirectoryError: The file cannot be read for another reason, which may pass.
        """
        try:
            return self.held()
        except DirectoryError as error:
            if not isinstance(error.__cause__, NotRegularError | PermissionError):
                raise
            self._file.report(f"{error.__cause__}; every slot with files counts as a worker's")
            return dict.fromkeys(sorted(self._file.slots_with_files()), 0)

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
                others = all_but(process.slot)
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
        # A removed file goes on to tell who holds what, until somebody makes another.
        if self._file.is_open(writing=writing, making=making):
            return True
        # Closed or replaced, or one that nothing can be held by: with it goes what was held.
        process.slot = None
        return self._file.open(writing=writing, making=making)

    def _take_from(self, first: int, process: _Process) -> int:
        while True:
            self._open(process, writing=True, making=True)
            self._file.refuse_another()  # which came between our parent's opening and our taking
            try:
                slot = self._file.lock_from(first, _PATIENCE_SECONDS if process.waits else 0.0)
            except TimeoutError:
                # A request may have waited. The next attempts do not: they could fail in the same way.
                process.waits = False
                raise
            if self._file.is_current:
                self._file.try_record(slot, os.getpid())
                self._file.give_former_back()
                return slot
            # The directory was removed in between, and perhaps made again.

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained(DIR_VARIABLE, self.directory, LOCK_NAME)


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
    return Identifier(slots_of(os.environ[DIR_VARIABLE]).take(), os.getpid())


def _forget() -> None:
    for slots in _all.values():
        slots._processes.clear()


# Needed only where the system gives a fork the id of an ancestor that is dead by then.
at_fork(after_in_child=_forget)
