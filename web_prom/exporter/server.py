"""The exporter's server: scrapes of a shared directory, over HTTP on a port of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from web_prom.config import Config
from web_prom.exporter.connections import Connection, Connections
from web_prom.exporter.handler import Handler, Respond
from web_prom.exporter.listening import BACKLOG
from web_prom.exporter.tls import Certificates
from web_prom.exposition import Exposition, Response

logger = logging.getLogger("web_prom")

DEFAULT_PATH = "/metrics"

# At most one thread each; many more than there are scrapers.
_CONNECTIONS = 64
_HOUSEKEEPING_SECONDS = 1.0
# For what is under way when the server stops.
_GRACE_SECONDS = 5.0

_TEXT = ("Content-Type", "text/plain; charset=utf-8")


class Scrapes:
    """Answers requests with the merged view of a directory. May be called from any thread.

    Nothing is written to the directory and no lock is held on it: it may be mounted read-only, and an
    exporter beside a server must not make the directory of a dead deployment look used.

    Args:
        directory: The directory that the workers share.
        config: The settings on access, and the path.
    """

    def __init__(self, directory: Path, config: Config) -> None:
        self._directory = directory
        # An application that answers no scrapes itself has an empty path; this server is there for them.
        self._path = config.path or DEFAULT_PATH
        self._exposition = Exposition(config=config, directory=str(directory))
        self._unreadable = False

    @property
    def is_open(self) -> bool:
        """Whether anybody may scrape."""
        return self._exposition.access.is_open

    def __call__(self, environ: Mapping[str, Any]) -> Response:
        """Answer a request. Never raises."""
        if environ["PATH_INFO"].rstrip("/") != self._path.rstrip("/"):
            return _plain("404 Not Found", f"metrics are at {self._path}\n")
        if not self._is_readable() and self._exposition.access.check(environ) is None:
            return _plain("503 Service Unavailable", "the shared directory cannot be read; see the log\n")
        try:
            return self._exposition.respond(environ)
        except Exception:
            logger.exception("a scrape failed")
            return _plain("500 Internal Server Error", "the scrape failed; see the log\n")

    def _is_readable(self) -> bool:
        """Tell whether the directory is there, which may come after this process; log when that changes."""
        try:
            os.scandir(self._directory).close()
        except OSError as error:
            if not self._unreadable:
                logger.warning("no metrics until the shared directory can be read: %s", error)
            self._unreadable = True
            return False
        if self._unreadable:
            logger.info("the shared directory %s can be read again", self._directory)
        self._unreadable = False
        return True


class ExporterServer:
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
        self._wakes, self._wake = socket.socketpair()
        self._wakes.setblocking(False)
        self._wake.setblocking(False)

    def run(self, going_on: Callable[[], bool] = lambda: True) -> None:
        """Serve until :meth:`stop` is called, then answer what has arrived and close the listening socket.

        Args:
            going_on: Asked about once a second; false stops the server too.
        """
        try:
            while not self._stopping and going_on():
                self._turn()
            self._stopping = True
            # What is queued gets an answer, whether there is room or not, and not whoever comes meanwhile:
            # clients that kept coming would keep this from its end. Linux queues one more than it is told.
            for _ in range(BACKLOG + 1):
                if self._listener.fileno() < 0 or not self._accept():
                    break
        finally:
            self._listener.close()
            self._finish()
            self._wake.close()
            self._wakes.close()

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
        self._connections = Connections(0)

    def _turn(self) -> None:
        ready = self._wait(_HOUSEKEEPING_SECONDS, listening=self._connections.have_room())
        if self._listener in ready and self._connections.make_room():
            self._accept()
        self._connections.end_overdue()

    def _wait(self, seconds: float, *, listening: bool) -> list[Any]:
        """Wait until there is something to do; return the sockets that are ready."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakes, selectors.EVENT_READ)
            if listening:
                selector.register(self._listener, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(seconds)]
        if self._wakes in ready:
            self._wakes.recv(4096)
        return ready

    def _awake(self) -> None:
        with contextlib.suppress(OSError):  # it is full, which will do, or closed
            self._wake.send(b"!")

    def _accept(self) -> bool:
        """Accept a connection if one is there; return whether it was."""
        try:
            accepted, peer = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return False  # another process was faster, or the client thought better of it
        except OSError as error:
            logger.error("no connection can be accepted: %s", error)
            time.sleep(_HOUSEKEEPING_SECONDS)  # out of descriptors or memory; at once it would be the same
            return False
        accepted.setblocking(True)
        connection = Connection(accepted, peer[0], self._clock)
        self._connections.add(connection)
        context = self._certificates.context() if self._certificates else None
        try:
            Thread(target=self._serve, args=(connection, context), name="scrape", daemon=True).start()
        except RuntimeError as error:
            logger.error("no thread for a connection: %s", error)
            self._close(connection)
        return True

    def _serve(self, connection: Connection, context: ssl.SSLContext | None) -> None:
        try:
            if context is not None:
                secured = context.wrap_socket(
                    connection.socket, server_side=True, do_handshake_on_connect=False
                )
                connection.socket = secured
                secured.do_handshake()
            Handler(connection, self._respond, lambda: not self._stopping)
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
        deadline = time.monotonic() + _GRACE_SECONDS
        while len(self._connections) and time.monotonic() < deadline:
            self._connections.end_idle()
            self._wait(_GRACE_SECONDS / 100, listening=False)
        self._connections.end_all()


def _plain(status: str, text: str) -> Response:
    body = text.encode()
    return Response(status, [_TEXT, ("Content-Length", str(len(body)))], body)
