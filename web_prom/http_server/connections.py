"""The connections of the HTTP server, limited in number, time and memory: no client can block the server."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from enum import Enum
from threading import Lock

# A client may take this long to send a request or to receive an answer, even when others wait for a
# connection.
_MIN_SECONDS = 1.0

# A new body is built only while the bodies in transit take at most _MAX_BODY_BYTES bytes or _MAX_BODIES times
# the largest body.
_MAX_BODY_BYTES = 33_554_432
_MAX_BODIES = 3
_POLL_SECONDS = 0.02


class State(Enum):
    """What a connection is doing. The value is the time limit in seconds; None for no limit."""

    READING = 10.0
    """The TLS handshake, the first request, or the rest of a later request."""
    IDLE = 150.0
    """Between requests. Most scrapes are at most one or two minutes apart."""
    PROCESSING = None
    """A scrape is being built. The client cannot end it."""
    WRITING = 30.0
    """The answer is being sent."""


class Connection:
    """The connection of one client. Its own thread sets the state, and the thread of the server reads it.

    Args:
        connected: The socket.
        peer: The address of the client.
        clock: Returns monotonic seconds.

    Attributes:
        socket: The socket, or the TLS socket that replaced it.
        peer: The address of the client.
        state: What the connection is doing.
        since: When the connection entered this state.
        body: The body that is being sent. Several connections can send the same object.
    """

    def __init__(self, connected: socket.socket, peer: str, clock: Callable[[], float]) -> None:
        self.socket = connected
        self.peer = peer
        self._clock = clock
        self.body = b""
        self.enter(State.READING)

    def enter(self, state: State) -> None:
        """Change the state."""
        self.since = self._clock()
        self.state = state

    @property
    def is_overdue(self) -> bool:
        """Whether the time limit of the state is exceeded."""
        limit = self.state.value
        return limit is not None and self._clock() - self.since > limit

    @property
    def processing_seconds(self) -> float:
        """For how many seconds the answer has been built; 0 in other states."""
        return self._clock() - self.since if self.state is State.PROCESSING else 0.0

    @property
    def is_evictable(self) -> bool:
        """Whether the connection may be ended in favour of another client."""
        if self.state in (State.READING, State.WRITING):
            return self._clock() - self.since > _MIN_SECONDS
        return self.state is State.IDLE

    def abort(self) -> None:
        """Shut the socket down from another thread. The connection's own thread then reads its end."""
        # Not the method of the TLS socket, which removes the TLS object that the other thread uses.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket from the connection's own thread, so that the client receives the last bytes."""
        with contextlib.suppress(OSError):
            # Closing a socket with unread bytes resets it. A client that has seen the end before keeps its
            # answer.
            socket.socket.shutdown(self.socket, socket.SHUT_WR)
        self.socket.close()


class Connections:
    """The open connections of a server, up to a limit. Safe to use from any thread.

    Args:
        limit: The largest number of connections.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[Connection] = set()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._open)

    def snapshot(self) -> list[Connection]:
        """Return the open connections without the lock; none if another thread changes them just now."""
        with contextlib.suppress(RuntimeError):
            return list(self._open)
        return []

    def add(self, connection: Connection) -> None:
        """Add a connection."""
        with self._lock:
            self._open.add(connection)

    def remove(self, connection: Connection) -> bool:
        """Remove a connection that ended; return whether the limit was reached before."""
        with self._lock:
            was_full = len(self._open) >= self._limit
            self._open.discard(connection)
            return was_full

    def can_accept(self) -> bool:
        """Return whether the number is below the limit, or a connection can be evicted."""
        with self._lock:
            return len(self._open) < self._limit or bool(self._evictable())

    def evict(self) -> bool:
        """Return whether the number is below the limit, after one connection is evicted if necessary.

        The connection that has been in its state for the longest time is evicted.
        """
        with self._lock:
            if len(self._open) < self._limit:
                return True
            evictable = self._evictable()
            if not evictable:
                return False
            longest = min(evictable, key=lambda one: one.since)
            self._open.discard(longest)
        longest.abort()
        return True

    def wait_for_memory(self) -> None:
        """Wait until there is memory for another body beside those that are being sent.

        Meanwhile clients that take more than a second to receive their answer are ended.
        """
        while not self._has_memory():
            self._abort_if(lambda one: one.state is State.WRITING and one.is_evictable)
            time.sleep(_POLL_SECONDS)

    def longest_processing_seconds(self) -> float:
        """Return for how many seconds the oldest answer has been built."""
        return max((one.processing_seconds for one in self.snapshot()), default=0.0)

    def abort_overdue(self) -> None:
        """End the connections whose time limit is exceeded."""
        self._abort_if(lambda one: one.is_overdue)

    def abort_idle(self) -> None:
        """End the connections that are between requests."""
        self._abort_if(lambda one: one.state is State.IDLE)

    def abort_all(self) -> None:
        """End all connections."""
        self._abort_if(lambda _: True)

    def _has_memory(self) -> bool:
        with self._lock:
            sizes = list({id(one.body): len(one.body) for one in self._open}.values())
        return sum(sizes) < max(_MAX_BODY_BYTES, _MAX_BODIES * max(sizes, default=0))

    def _evictable(self) -> list[Connection]:
        return [one for one in self._open if one.is_evictable]

    def _abort_if(self, condition: Callable[[Connection], bool]) -> None:
        with self._lock:
            found = [one for one in self._open if condition(one)]
        for connection in found:
            connection.abort()
