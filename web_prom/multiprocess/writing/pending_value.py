"""Values that wait in memory for their file, removed values, and what a storage expects of a value."""

from __future__ import annotations

from array import array
from collections import defaultdict
from contextlib import nullcontext
from typing import Any, Protocol

from web_prom.multiprocess.writing.fork_guard import EVERY_PROCESS, NO_PROCESS, ForkGuard
from web_prom.multiprocess.writing.value_file import ValueFile

_NO_LOCK = nullcontext()


class PendingValue:
    """A value that waits in memory until there is room for it in a file.

    It has the attributes of a ``ValueFile`` that ``SharedValue`` uses.

    Attributes:
        owner: The storage in which the value waits; None before the value is attached to a storage.
        lock: The lock of this storage.
        view: The value, its timestamp, and for a bucket the revision.
        was_set: Whether the value was set. If not, it is added to what the file has.
    """

    __slots__ = ("lock", "owner", "view", "was_set")

    guard: ForkGuard = NO_PROCESS
    """Every write goes through the storage, which tries to move the value to its file."""

    def __init__(self, owner: object, lock: Any) -> None:
        self.owner = owner
        self.lock = lock
        self.view: Any = array("d", (0.0, 0.0, 0.0))
        self.was_set = False


UNATTACHED = PendingValue(None, None)
"""What a value is attached to before its first use, in any process."""


class RemovedValue(PendingValue):
    """A value whose label set was removed. Only the ``SharedValue`` itself reads it.

    The ``SharedValue`` uses its former position in the file as an index here. That is right in forks, too.
    """

    __slots__ = ()

    guard = EVERY_PROCESS

    def __init__(self, position: int, value: float) -> None:
        self.owner = None
        self.lock = _NO_LOCK
        self.view = defaultdict(float, {position: value})
        self.was_set = False


class StoredValue(Protocol):
    """A value that is in a file, or in memory until there is room."""

    file: ValueFile | PendingValue

    @property
    def prefix(self) -> str:
        """How the name of the file begins, for example ``gauge_livesum``."""

    @property
    def key(self) -> bytes:
        """The key of the entry."""

    @property
    def sum_key(self) -> bytes | None:
        """For a bucket, the key of its histogram's sum; else None."""

    def attach(self, file: ValueFile | PendingValue, position: int, revision_position: int) -> None:
        """Use these positions in a file from now on, counted in doubles."""

    def flush(self, pending: PendingValue) -> None:
        """Write what was in memory to the file."""
