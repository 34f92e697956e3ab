"""Slots: small numbers, held by locks, that name the value files of processes.

The file ``slots.lock`` has a record for each slot: the id of the process that acquired the slot last. A
process *holds* a slot while it has a write lock on the slot's record. The kernel releases the lock when the
process dies, also by ``kill -9``. A fork does not inherit it. A *read* lock reserves free slots for a
moment, so that no process acquires one while files are removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.lockfile import Span
from web_prom.multiprocess.directory.process_states import ProcessState, ProcessStates
from web_prom.multiprocess.directory.slot_file import SlotFile, spans_without
from web_prom.multiprocess.regular_file import NotRegularError
from web_prom.posix import at_fork

LOCK_NAME = "slots.lock"
"""The name of the lock file. web-prom never removes it before the directory."""

# Other processes reserve free slots only while they remove files.
_TIMEOUT_SECONDS = 1.0


class Slots:
    """The slots of one directory, and the slot that this process holds.

    There is one object for each directory in a process, see :func:`slots_of`. Two objects would not exclude
    each other, and would release each other's locks. Safe to use from any thread and after any fork. A
    signal handler may call only :meth:`find_by_pid` and :meth:`reserve_free`.

    Args:
        directory: The shared directory.

    Attributes:
        directory: The same directory. With :func:`slots_of` its path has no symbolic links, so that a
            changed link does not move a holder.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = SlotFile(directory / LOCK_NAME)
        self._states = ProcessStates()

    def acquire(self) -> int:
        """Return the number of this process's slot. Without one, acquire the lowest free slot.

        A process keeps its slot until it dies or calls :meth:`skip`. A fork of it acquires another slot.

        Raises:
            DirectoryError: The directory does not exist, or this process may not write to it.
        """
        state = self._states.current()
        slot = state.slot
        if slot is None:
            with state.lock, self._file.directory_errors():
                slot = state.slot
                if slot is None:
                    slot = state.slot = self._acquire_from(0, state)
        return slot

    def skip(self, slot: int) -> int:
        """Release a slot whose files this process cannot write, and acquire the next free one above it.

        Nothing happens if the process holds another slot: then a second thread has skipped this one already.

        Returns:
            The number of the slot that the process holds now.

        Raises:
            DirectoryError: As with :meth:`acquire`; the process then holds no slot.
        """
        state = self._states.current()
        with state.lock, self._file.directory_errors():
            if state.slot is not None and state.slot != slot:
                return state.slot
            if self._open(state, writing=True) and state.slot is not None:
                state.slot = None
                self._unlock(slot)
            state.slot = self._acquire_from(slot + 1, state)
            return state.slot

    def holds(self, slot: int) -> bool:
        """Return whether this process holds the slot in the file that the path leads to now. Never waits."""
        state = self._states.current()
        if not state.lock.acquire(blocking=False):
            return True  # another thread changes the slot at this moment; the caller asks again
        try:
            return state.slot == slot and self._file.is_current
        finally:
            state.lock.release()

    def reacquire(self, slot: int, is_suitable: Callable[[int], bool]) -> int:
        """Acquire a slot in place of one that is lost or can no longer be used. Never waits.

        A slot that is not lost stays locked until :meth:`release_former`.

        Args:
            slot: The former slot. If it is lost, it is acquired again, provided that it is free and suitable.
            is_suitable: Whether the files of a slot can be used; called when the slot is locked.

        Returns:
            The number of the slot that the process holds now.

        Raises:
            DirectoryError: As with :meth:`acquire`.
        """
        state = self._states.current()
        with state.lock, self._file.directory_errors():
            while True:
                self._open(state, writing=True, create=True)
                self._file.check_single_interpreter()
                found = self._file.lock_preferred(slot, is_suitable, state.slot)
                if self._is_acquired(found):
                    state.slot = found
                    return found

    def release_former(self, slot: int) -> None:
        """Unlock a slot that :meth:`reacquire` left locked."""
        state = self._states.current()
        with state.lock, contextlib.suppress(OSError):
            if state.slot not in (None, slot):
                self._unlock(slot)

    def touch(self) -> None:
        """Set the lock file's time to the present, so that programs that remove old files keep it."""
        state = self._states.current()
        with state.lock, contextlib.suppress(OSError):
            if state.slot is not None:
                self._file.touch()

    def holders(self) -> dict[int, int]:
        """Return the process id of each slot's holder, in the order of the slots.

        The id is 0 for a holder that is not visible here (another container's). Acquires no slot, and needs
        only permission to read. Without a lock file there are no holders.

        Where the kernel does not report the holders of locks, these are the processes that recorded their
        slots and are alive.

        Raises:
            DirectoryError: This process may not read the file.
        """
        state = self._states.current()
        with state.lock, self._file.directory_errors():
            if not self._open(state, writing=False):
                return {}
            found = self._file.holders()
            if state.slot is not None:  # the kernel does not report a process's own locks
                found[state.slot] = os.getpid()
        return dict(sorted(found.items()))

    def presumed_holders(self) -> dict[int, int]:
        """Return the process id of each slot's holder, for a scrape, also where the holders are not known.

        Where this process may not read the lock file, or the name belongs to something else, every slot with
        files counts as held, by a process with the id 0.

        Raises:
            DirectoryError: The file cannot be read for another reason, which may be temporary.
        """
        try:
            return self.holders()
        except DirectoryError as error:
            if not isinstance(error.__cause__, NotRegularError | PermissionError):
                raise
            self._file.warn_once(f"{error.__cause__}; every slot with files counts as a worker's")
            return dict.fromkeys(sorted(self._file.slots_with_files()), 0)

    def find_by_pid(self, pid: int) -> list[int]:
        """Return the slots that a process id acquired last, whether they are held now or not.

        Never waits. The list is empty if another thread, or the code that a signal interrupted, is in a
        method of this object.

        Raises:
            DirectoryError: This process may not read the file.
        """
        state = self._states.current()
        if not state.lock.acquire(blocking=False):
            return []
        try:
            with self._file.directory_errors():
                records = self._file.read_records() if self._open(state, writing=False) else []
        finally:
            state.lock.release()
        return [slot for slot, record in enumerate(records) if record == pid]

    @contextlib.contextmanager
    def reserve_free(self, slot: int) -> Iterator[bool]:
        """Reserve a free slot while the context is active, to remove files; give whether it was free.

        Never waits, as :meth:`find_by_pid`. No other method may be called within the context.

        Raises:
            DirectoryError: This process may not write to the file.
        """
        state = self._states.current()
        if not state.lock.acquire(blocking=False):
            yield False
            return
        try:
            with self._file.directory_errors():
                span = Span(slot, slot + 1)
                exists = self._open(state, writing=True) and state.slot != slot
                reserved = exists and self._file.try_lock(span, shared=True)
            try:
                yield reserved
            finally:
                if reserved:
                    self._file.unlock(span)
        finally:
            state.lock.release()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[bool]:
        """Reserve all free slots while the context is active; give whether no other process holds a slot.

        A process that wants to acquire a slot meanwhile waits for up to a second. No other method may be
        called within the context.

        Raises:
            DirectoryError: This process may not write to the file.
        """
        state = self._states.current()
        with state.lock:
            with self._file.directory_errors():
                self._open(state, writing=True, create=True)
                others = spans_without(state.slot)
                reserved = [span for span in others if self._file.try_lock(span, shared=True)]
            try:
                yield reserved == others
            finally:
                for span in reserved:
                    self._file.unlock(span)

    def close(self) -> None:
        """Close the file, unless this process holds a slot. A later call of any method opens it again."""
        state = self._states.current()
        with state.lock:
            if state.slot is None:
                self._file.close()

    def _open(self, state: ProcessState, *, writing: bool, create: bool = False) -> bool:
        # A removed file still shows who holds a slot, until a process creates another file.
        if self._file.is_usable(writing=writing, create=create):
            return True
        # The file is closed, replaced, or open for reading alone: this process no longer holds a slot.
        state.slot = None
        return self._file.open(writing=writing, create=create)

    def _acquire_from(self, first: int, state: ProcessState) -> int:
        while True:
            self._open(state, writing=True, create=True)
            # Another interpreter may have acquired a slot since the parent process opened the file.
            self._file.check_single_interpreter()
            try:
                slot = self._file.lock_lowest(first, _TIMEOUT_SECONDS if state.may_wait else 0.0)
            except TimeoutError:
                # A request may have waited. The next attempts do not wait, because they could fail too.
                state.may_wait = False
                raise
            if self._is_acquired(slot):
                return slot

    def _is_acquired(self, slot: int) -> bool:
        """Record a slot that is locked; return false if the lock file was removed or replaced meanwhile."""
        if not self._file.is_current:
            return False
        self._file.try_write_record(slot, os.getpid())
        self._file.unlock_replaced()
        return True

    def _unlock(self, slot: int) -> None:
        self._file.try_write_record(slot, 0)
        self._file.unlock(Span(slot, slot + 1))


_slots: dict[str, Slots] = {}


def slots_of(directory: str | Path) -> Slots:
    """Return the slots of a directory: the same object for each call in a process. Safe from any thread."""
    path = os.path.realpath(directory)
    return _slots.get(path) or _slots.setdefault(path, Slots(Path(path)))


def _clear_states() -> None:
    for slots in _slots.values():
        slots._states.clear()


at_fork(after_in_child=_clear_states)
