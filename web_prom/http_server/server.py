"""A threaded HTTP server for scrapes, with a limited number of connections."""

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

# Each connection has one thread. There are far fewer scrapers.
_MAX_CONNECTIONS = 64
_HOUSEKEEPING_SECONDS = 1.0
_SEND_BUFFER_BYTES = 262_144
# For the requests that are still being answered when the server stops.
_GRACE_SECONDS = 5.0

# Prometheus waits for ten seconds by default.
_STUCK_SECONDS = 60.0


class ScrapeServer:
    """An HTTP server with one thread for each connection.

    :meth:`run` serves in the thread that calls it. Any thread, or a signal handler, may call :meth:`stop`.

    Args:
        listener: The non-blocking listening socket. Other processes may accept from it too.
        respond: Answers a request.
        certificates: The certificates for TLS; None for plain HTTP.
        limit: The largest number of connections. For one more, the connection that has been in its state for
            the longest time is ended.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        listener: socket.socket,
        respond: Respond,
        *,
        certificates: Certificates | None = None,
        limit: int = _MAX_CONNECTIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        self._respond = respond
        self._certificates = certificates
        self._connections = Connections(limit)
        self._clock = clock
        self._stopping = False
        self._failures = LogLimit()
        # An accepted connection for which no thread could be started yet.
        self._pending: Connection | None = None
        self._wakeup_receiver, self._wakeup_sender = socket.socketpair()
        self._wakeup_receiver.setblocking(False)
        self._wakeup_sender.setblocking(False)
        self._selector: selectors.BaseSelector | None = None
        self._is_listening = False

    def run(self, keep_running: Callable[[], bool] = lambda: True) -> None:
        """Serve until :meth:`stop` is called, then answer the requests that have arrived.

        Failures meanwhile (no descriptors, no memory, no threads) are logged once a minute, and retried.

        Args:
            keep_running: Called about once a second. The server stops if it returns false.
        """
        try:
            while not self._stopping and keep_running():
                self._try_turn()
            self._stopping = True
            # Connections that are queued now are answered, even above the limit. Later ones are not, because
            # clients that keep coming would prevent the end. Linux queues one connection more than BACKLOG.
            with contextlib.suppress(Exception):  # connections that cannot be accepted now are refused
                for _ in range(BACKLOG + 1):
                    if self._listener.fileno() < 0 or not self._accept():
                        break
        finally:
            if self._selector is not None:
                self._watch_listener(self._selector, False)
            self._listener.close()
            self._finish_connections()
            if self._selector is not None:
                self._selector.close()
            self._wakeup_sender.close()
            self._wakeup_receiver.close()

    @property
    def is_stuck(self) -> bool:
        """Whether a scrape takes longer than any scraper waits: it is probably blocked."""
        return self._connections.longest_processing_seconds() > _STUCK_SECONDS

    def stop(self) -> None:
        """Make :meth:`run` return. Answers that are being built are still sent."""
        self._stopping = True
        self._wake_up()

    def close_inherited(self) -> None:
        """Close the inherited sockets in a forked child process, which does not serve.

        Without this, a child that outlives its parent would keep the port open, and nothing would answer
        there. The sockets of the parent stay open. No lock is taken, because a thread of the parent may
        have held it during the fork.
        """
        self._stopping = True
        inherited = [
            self._listener,
            self._wakeup_sender,
            self._wakeup_receiver,
            *(one.socket for one in self._connections.snapshot()),
        ]
        for one in inherited:
            with contextlib.suppress(OSError):
                # Not socket.close(), which does nothing while a file object of the socket is open.
                os.close(one.detach())
        # Nothing is unregistered, because an epoll instance is shared with the parent.
        if self._selector is not None:
            with contextlib.suppress(Exception):
                self._selector.close()
        self._connections = Connections(0)

    def _try_turn(self) -> None:
        """Run one turn of the accept loop. If it fails, log the failure and wait."""
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
        if self._pending is not None:
            self._start_thread(self._pending)
        ready = self._wait(_HOUSEKEEPING_SECONDS, listening=self._connections.can_accept())
        if self._listener in ready and self._connections.evict():
            self._accept()
        self._connections.abort_overdue()

    def _pause(self) -> None:
        """Wait for a second, or until the server is woken up."""
        try:
            self._connections.abort_overdue()
            self._wait(_HOUSEKEEPING_SECONDS, listening=False)
        except Exception:
            time.sleep(_HOUSEKEEPING_SECONDS / 10)

    def _wait(self, seconds: float, *, listening: bool) -> list[Any]:
        """Wait until a socket is ready; return the sockets that are."""
        if self._selector is None:
            # The selector is created once. Later there may be no descriptor for another one.
            selector = selectors.DefaultSelector()
            selector.register(self._wakeup_receiver, selectors.EVENT_READ)
            self._selector = selector
        self._watch_listener(self._selector, listening)
        ready = [key.fileobj for key, _ in self._selector.select(seconds)]
        if self._wakeup_receiver in ready:
            self._wakeup_receiver.recv(4096)
        return ready

    def _watch_listener(self, selector: selectors.BaseSelector, wanted: bool) -> None:
        """Register the listening socket with the selector, or unregister it."""
        if wanted and not self._is_listening:
            selector.register(self._listener, selectors.EVENT_READ)
        elif self._is_listening and not wanted:
            with contextlib.suppress(Exception):  # a closed socket is not registered any more
                selector.unregister(self._listener)
        self._is_listening = wanted

    def _wake_up(self) -> None:
        with contextlib.suppress(OSError):  # the buffer is full, which wakes the server up, or closed
            self._wakeup_sender.send(b"!")

    def _accept(self) -> bool:
        """Accept one connection if there is one; return whether there was.

        Raises:
            OSError: There are no descriptors, or there is no memory.
            RuntimeError: No thread can be started. The connection is kept and served in a later turn.
        """
        try:
            accepted, peer = self._listener.accept()
        except (BlockingIOError, ConnectionError, InterruptedError):
            return False  # another process accepted it, or the client closed it
        try:
            accepted.setblocking(True)
            # By default the kernel buffers up to 4 MB for each client that does not read.
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            connection = Connection(accepted, plain_address(peer[0]), self._clock)
            self._connections.add(connection)
        except BaseException:
            accepted.close()
            raise
        self._start_thread(connection)
        return True

    def _start_thread(self, connection: Connection) -> None:
        """Serve a connection in a thread of its own.

        Raises:
            Exception: There is no thread or no memory.
        """
        self._pending = connection
        context = self._certificates.context() if self._certificates else None
        Thread(target=self._serve, args=(connection, context), name="scrape", daemon=True).start()
        self._pending = None

    def _serve(self, connection: Connection, context: ssl.SSLContext | None) -> None:
        try:
            if context is not None:
                tls_socket = context.wrap_socket(
                    connection.socket, server_side=True, do_handshake_on_connect=False
                )
                connection.socket = tls_socket
                tls_socket.do_handshake()
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
            self._wake_up()

    def _finish_connections(self) -> None:
        """Wait until the requests that are being answered are finished, and end all other connections."""
        if self._pending is not None:
            self._close(self._pending)
        deadline = time.monotonic() + _GRACE_SECONDS
        while len(self._connections) and time.monotonic() < deadline:
            self._connections.abort_idle()
            try:
                self._wait(_GRACE_SECONDS / 100, listening=False)
            except Exception:
                time.sleep(_GRACE_SECONDS / 100)
        self._connections.abort_all()
