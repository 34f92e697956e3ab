"""A threaded HTTP server for scrapes, with a bounded number of connections."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import ssl
import time
from collections.abc import Callable
from threading import Thread
from typing import Any

from web_prom.http_server.connections import Connection, Connections
from web_prom.http_server.handler import Handler, Respond
from web_prom.http_server.listener import BACKLOG, plain_address
from web_prom.http_server.tls import Certificates
from web_prom.log_limit import LogLimit

logger = logging.getLogger("web_prom")

# At most one thread each; many more than there are scrapers.
_CONNECTIONS = 64
_HOUSEKEEPING_SECONDS = 1.0
_SEND_BUFFER_BYTES = 262_144
# For what is under way when the server stops.
_GRACE_SECONDS = 5.0

# Prometheus waits ten seconds, if nothing else is configured.
_STUCK_SECONDS = 60.0


class ScrapeServer:
    """An HTTP server with one thread for each of a bounded number of connections.

    :meth:`run` serves in the thread that calls it; :meth:`stop` may be called from any other, or from a
    signal handler.

    Args:
        listener: The listening socket, which does not block; other processes may accept from it too.
        respond: Answers a request.
        certificates: For TLS.
        limit: How many connections there may be. When one more comes, the one that has kept the server
            waiting longest is ended.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        listener: socket.socket,
        respond: Respond,
        *,
        certificates: Certificates | None = None,
        limit: int = _CONNECTIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        self._respond = respond
        self._certificates = certificates
        self._connections = Connections(limit)
        self._clock = clock
        self._stopping = False
        self._failures = LogLimit()
        self._unserved: Connection | None = None
        self._wakes, self._wake = socket.socketpair()
        self._wakes.setblocking(False)
        self._wake.setblocking(False)
        self._selector: selectors.BaseSelector | None = None
        self._listens = False

    def run(self, keep_running: Callable[[], bool] = lambda: True) -> None:
        """Serve until :meth:`stop` is called, then answer what has arrived and close the listening socket.

        What fails meanwhile (no descriptors, no memory, no threads) is logged once a minute and tried again.

        Args:
            keep_running: Asked about once a second; false stops the server too.
        """
        try:
            while not self._stopping and keep_running():
                self._turn_or_wait()
            self._stopping = True
            # What is queued gets an answer, whether there is room or not, and not whoever comes meanwhile:
            # clients that kept coming would keep this from its end. Linux queues one more than it is told.
            with contextlib.suppress(Exception):  # what cannot be accepted now is refused
                for _ in range(BACKLOG + 1):
                    if self._listener.fileno() < 0 or not self._accept():
                        break
        finally:
            if self._selector is not None:
                self._listen(self._selector, False)
            self._listener.close()
            self._finish()
            if self._selector is not None:
                self._selector.close()
            self._wake.close()
            self._wakes.close()

    @property
    def is_stuck(self) -> bool:
        """Whether a scrape takes longer than any scraper waits: something that it needs is blocked."""
        return self._connections.longest_work() > _STUCK_SECONDS

    def stop(self) -> None:
        """Have :meth:`run` return. Answers that are being made are still sent."""
        self._stopping = True
        self._awake()

    def disown(self) -> None:
        """Close what a fork took along; called in the child alone, where nobody serves.

        Otherwise a child that outlives its parent would keep the port, with nobody to answer. What it
        closes stays as it is for the parent. No lock is taken: a thread of the parent's may hold it.
        """
        self._stopping = True
        inherited = [
            self._listener,
            self._wake,
            self._wakes,
            *(one.socket for one in self._connections.all()),
        ]
        for one in inherited:
            with contextlib.suppress(OSError):
                # Not close(): what reads from a connection in the parent's thread keeps that from closing.
                os.close(one.detach())
        # Nothing is unregistered: a selector of the kernel's is shared with the parent.
        if self._selector is not None:
            with contextlib.suppress(Exception):
                self._selector.close()
        self._connections = Connections(0)

    def _turn_or_wait(self) -> None:
        try:
            self._turn()
        except Exception as error:
            remark = self._failures.admit("turn")
            if remark is not None:
                logger.error(
                    "the metrics server cannot accept connections: %s; it tries again every second%s",
                    error,
                    remark,
                    exc_info=not isinstance(error, OSError),
                )
            self._pause()

    def _turn(self) -> None:
        if self._unserved is not None:
            self._begin(self._unserved)
        ready = self._wait(_HOUSEKEEPING_SECONDS, listening=self._connections.have_room())
        if self._listener in ready and self._connections.make_room():
            self._accept()
        self._connections.end_overdue()

    def _pause(self) -> None:
        """Wait until what failed may work again, or until somebody wakes the server."""
        try:
            self._connections.end_overdue()
            self._wait(_HOUSEKEEPING_SECONDS, listening=False)
        except Exception:
            time.sleep(_HOUSEKEEPING_SECONDS / 10)

    def _wait(self, seconds: float, *, listening: bool) -> list[Any]:
        """Wait until there is something to do; return the sockets that are ready."""
        if self._selector is None:
            # Made once, in the thread that uses it: later there may be no descriptor for another one.
            made = selectors.DefaultSelector()
            made.register(self._wakes, selectors.EVENT_READ)
            self._selector = made
        self._listen(self._selector, listening)
        ready = [key.fileobj for key, _ in self._selector.select(seconds)]
        if self._wakes in ready:
            self._wakes.recv(4096)
        return ready

    def _listen(self, selector: selectors.BaseSelector, wanted: bool) -> None:
        """Have the selector watch the listening socket, or no longer."""
        if wanted and not self._listens:
            selector.register(self._listener, selectors.EVENT_READ)
        elif self._listens and not wanted:
            with contextlib.suppress(Exception):  # a socket that is closed is no longer watched
                selector.unregister(self._listener)
        self._listens = wanted

    def _awake(self) -> None:
        with contextlib.suppress(OSError):  # it is full, which will do, or closed
            self._wake.send(b"!")

    def _accept(self) -> bool:
        """Accept a connection if one is there; return whether it was.

        Raises:
            OSError: There are no descriptors or there is no memory.
            RuntimeError: There is no thread for it. The connection is kept and served in a later turn.
        """
        try:
            accepted, peer = self._listener.accept()
        except (BlockingIOError, ConnectionError, InterruptedError):
            return False  # another process was faster, or the client closed the connection
        try:
            accepted.setblocking(True)
            # Or the kernel keeps up to 4 MB for each client that does not read.
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            connection = Connection(accepted, plain_address(peer[0]), self._clock)
            self._connections.add(connection)
        except BaseException:
            accepted.close()
            raise
        self._begin(connection)
        return True

    def _begin(self, connection: Connection) -> None:
        """Serve a connection in a thread of its own.

        Raises:
            Exception: There is no thread or no memory.
        """
        self._unserved = connection
        context = self._certificates.context() if self._certificates else None
        Thread(target=self._serve, args=(connection, context), name="scrape", daemon=True).start()
        self._unserved = None

    def _serve(self, connection: Connection, context: ssl.SSLContext | None) -> None:
        try:
            if context is not None:
                secured = context.wrap_socket(
                    connection.socket, server_side=True, do_handshake_on_connect=False
                )
                connection.socket = secured
                secured.do_handshake()
            wait_for_memory = self._connections.wait_for_memory
            Handler(connection, self._respond, lambda: not self._stopping, wait_for_memory).run()
        except OSError as error:
            logger.debug("a connection from %s broke: %s", connection.peer, error)
        except Exception:
            logger.exception("a connection from %s failed", connection.peer)
        finally:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        connection.close()
        if self._connections.remove(connection) or self._stopping:
            self._awake()

    def _finish(self) -> None:
        if self._unserved is not None:
            self._close(self._unserved)
        deadline = time.monotonic() + _GRACE_SECONDS
        while len(self._connections) and time.monotonic() < deadline:
            self._connections.end_idle()
            try:
                self._wait(_GRACE_SECONDS / 100, listening=False)
            except Exception:
                time.sleep(_GRACE_SECONDS / 100)
        self._connections.end_all()
