"""HTTP/1.1 to the extent that scrapes need it: from bytes to a WSGI environ, and from a response to bytes."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any

from web_prom.exposition.http import BEFORE_SCRAPE, Response, header_variables, text_response
from web_prom.http_server.connections import Connection, State
from web_prom.http_server.request_head import Head, HeadError, end_of_head, read_head

logger = logging.getLogger("web_prom")

Respond = Callable[[Mapping[str, Any]], Response]
"""Answers a request that is described by a WSGI environ."""

_READ_BYTES = 16_384
# A body of at most this size is sent in one call with the head. A larger one is not copied.
_SINGLE_SEND_BYTES = 65_536


class Handler:
    """Serves the requests of one connection, one after another.

    Args:
        connection: The connection.
        respond: Answers a request.
        keep_running: Returns whether the connection may stay open after this request.
        wait_for_memory: Waits until there is memory for the body of a scrape.
    """

    def __init__(
        self,
        connection: Connection,
        respond: Respond,
        keep_running: Callable[[], bool],
        wait_for_memory: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._respond = respond
        self._keep_running = keep_running
        self._wait_for_memory = wait_for_memory
        # Bytes that were read after the last head.
        self._rest = b""

    def run(self) -> None:
        """Serve requests until the client or the server ends the connection."""
        try:
            while self._serve_request():
                self._connection.enter(State.IDLE)
        except OSError as error:
            logger.debug("a scraper's connection broke: %s", error)

    def _serve_request(self) -> bool:
        """Read one request and answer it; return whether another one may follow."""
        try:
            data = self._read_head()
            if data is None:
                return False
            head = read_head(data)
        except HeadError as error:
            self._reject(error.status)
            return False
        self._connection.enter(State.PROCESSING)
        response = self._respond(self._environ(head))
        # The body of a request is not read, so the next request cannot be found.
        keep_alive = head.keeps_alive and not head.has_body and self._keep_running()
        self._send(response, keep_alive=keep_alive, with_body=head.method != "HEAD")
        return keep_alive

    def _read_head(self) -> bytes | None:
        """Return a complete head; None if the client closed the connection before the first byte.

        Raises:
            HeadError: The bytes are not a head.
        """
        data, checked = self._rest, 0
        while True:
            if data and not checked:
                self._connection.enter(State.READING)
            end = end_of_head(data, checked)
            if end >= 0:
                self._rest = data[end:]
                return data[:end]
            checked = len(data)
            received = self._connection.socket.recv(_READ_BYTES)
            if not received:
                if data:
                    raise HeadError
                return None
            data += received

    def _environ(self, head: Head) -> dict[str, Any]:
        """Return the request as a WSGI environ with the keys that access control and scrapes use."""
        return {
            "REQUEST_METHOD": head.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": head.path,
            "QUERY_STRING": head.query,
            "SERVER_PROTOCOL": head.version,
            "REMOTE_ADDR": self._connection.peer,
            "wsgi.url_scheme": "https" if isinstance(self._connection.socket, ssl.SSLSocket) else "http",
            BEFORE_SCRAPE: self._wait_for_memory,
            **header_variables(head.fields),
        }

    def _reject(self, status: str) -> None:
        """Answer a request whose head is not allowed."""
        reason = status.partition(" ")[2].lower()
        self._send(text_response(status, f"{reason}\n"), keep_alive=False, with_body=True)

    def _send(self, response: Response, *, keep_alive: bool, with_body: bool) -> None:
        body = response.body if with_body else b""
        self._connection.body = body
        self._connection.enter(State.WRITING)
        headers = [
            *response.headers,
            ("Date", formatdate(usegmt=True)),
            ("Connection", "keep-alive" if keep_alive else "close"),
        ]
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"HTTP/1.1 {response.status}\r\n{fields}\r\n".encode("latin-1")
        if len(body) <= _SINGLE_SEND_BYTES:
            self._connection.socket.sendall(head + body)
        else:
            self._connection.socket.sendall(head)
            self._connection.socket.sendall(body)
        self._connection.body = b""
