"""The exporter's connections: bounded in number, time and memory, so that no client can hold the server."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from enum import Enum
from threading import Lock

# What a client may take over a request or an answer even when others have no place.
_COURTESY_SECONDS = 1.0

# While bodies that are being sent take more than this, no other one is made: so many bytes, or so many
# bodies as large as the largest.
_BODY_BYTES = 33_554_432
_BODIES = 3
_POLL_SECONDS = 0.02


class State(Enum):
    """What a connection is doing, and how many seconds it may take over it; None for no limit of its own."""

    READING = 10.0
    """Shaking hands, or sending its first request or the rest of another."""
    IDLE = 150.0
    """Between requests: scrapes are seldom more than a minute or two apart."""
    PROCESSING = None
    """Ours to end: a scrape is being made."""
    WRITING = 30.0
    """Taking the answer."""


class Connection:
    """One client's connection. Its state is set by its own thread and read by the server's.

    Args:
        connected: The socket.
        peer: The client's address.
        clock: Seconds that only go forward.

    Attributes:
        socket: The socket, or the TLS socket that took its place.
        peer: The client's address.
        state: What the connection is doing.
        since: When that began.
        body: The answer's body while it is sent; several connections may send the same one.
    """

    def __init__(self, connected: socket.socket, peer: str, clock: Callable[[], float]) -> None:
        self.socket = connected
        self.peer = peer
        self._clock = clock
        self.body = b""
        self.enter(State.READING)

    def enter(self, state: State) -> None:
        """Begin to do something else."""
        self.since = self._clock()
        self.state = state

    @property
    def overdue(self) -> bool:
        """Whether it takes longer than it may."""
        allowed = self.state.value
        return allowed is not None and self._clock() - self.since > allowed

    @property
    def work_seconds(self) -> float:
        """For how long the answer has been made, in seconds."""
        return self._clock() - self.since if self.state is State.PROCESSING else 0.0

    @property
    def may_go(self) -> bool:
        """Whether somebody else may have its place."""
        if self.state in (State.READING, State.WRITING):
            return self._clock() - self.since > _COURTESY_SECONDS
        return self.state is State.IDLE

    def abort(self) -> None:
        """End it under its thread, which then finds the connection at its end."""
        # Not the TLS socket's own method: that one takes from the thread what it is working with.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it from its thread, so that the client gets what was sent last."""
        with contextlib.suppress(OSError):
            # What is closed with bytes unread is reset; a client that saw the end before keeps what it got.
            socket.socket.shutdown(self.socket, socket.SHUT_WR)
        self.socket.close()


class Connections:
    """The connections that a server has, and the room for more. May be used from any thread.

    Args:
        limit: How many there may be.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[Connection] = set()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._open)

    def all(self) -> list[Connection]:
        """Return those that there are, without a lock."""
        with contextlib.suppress(RuntimeError):  # another thread added one meanwhile
            return list(self._open)
        return []

    def add(self, connection: Connection) -> None:
        """Take one in."""
        with self._lock:
            self._open.add(connection)

    def remove(self, connection: Connection) -> bool:
        """Forget one that ended; return whether there was no room before."""
        with self._lock:
            full = len(self._open) >= self._limit
            self._open.discard(connection)
            return full

    def have_room(self) -> bool:
        """Return whether there is room, or could be made."""
        with self._lock:
            return len(self._open) < self._limit or bool(self._who_may_go())

    def make_room(self) -> bool:
        """Return whether there is room, if need be made by ending whoever kept the server waiting longest."""
        with self._lock:
            if len(self._open) < self._limit:
                return True
            found = self._who_may_go()
            if not found:
                return False
            longest = min(found, key=lambda one: one.since)
            self._open.discard(longest)
        longest.abort()
        return True

    def wait_for_memory(self) -> None:
        """Wait until another body may be made beside those that are sent.

        Meanwhile clients that take more than a second over their answer are ended. May be called from any
        thread.
        """
        while not self._have_memory():
            self._end(lambda one: one.state is State.WRITING and one.may_go)
            time.sleep(_POLL_SECONDS)

    def longest_work(self) -> float:
        """Return for how many seconds the oldest scrape has been made."""
        return max((one.work_seconds for one in self.all()), default=0.0)

    def end_overdue(self) -> None:
        """End those that take too long."""
        self._end(lambda one: one.overdue)

    def end_idle(self) -> None:
        """End those that are between requests."""
        self._end(lambda one: one.state is State.IDLE)

    def end_all(self) -> None:
        """End all, whatever they are doing."""
        self._end(lambda _: True)

    def _have_memory(self) -> bool:
        with self._lock:
            sizes = list({id(one.body): len(one.body) for one in self._open}.values())
        return sum(sizes) < max(_BODY_BYTES, _BODIES * max(sizes, default=0))

    def _who_may_go(self) -> list[Connection]:
        return [one for one in self._open if one.may_go]

    def _end(self, condition: Callable[[Connection], bool]) -> None:
        with self._lock:
            found = [one for one in self._open if condition(one)]
        for connection in found:
            connection.abort()
