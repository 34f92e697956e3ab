"""HTTP/1.1 as far as scrapes need it: from a request's bytes to a WSGI environ, and the answer back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any

from web_prom.exposition.http import BEFORE_SCRAPE, Response, header_variables, text_response
from web_prom.http_server.connections import Connection, State
from web_prom.http_server.request_head import Head, HeadError, end_of_head, read_head

logger = logging.getLogger("web_prom")

Respond = Callable[[Mapping[str, Any]], Response]

_READ_BYTES = 16_384
# Up to here a body is sent in one piece with its head; a larger one is not copied.
_JOINED_BYTES = 65_536


class Handler:
    """Serves one connection, request after request.

    Args:
        connection: The connection.
        respond: Answers a request.
        keep_running: Whether the connection may stay open after this request.
        wait_for_memory: Waits until the text of a scrape may be made.
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
        self._going_on = keep_running
        self._wait_for_memory = wait_for_memory
        # What was read beyond the last head.
        self._rest = b""

    def run(self) -> None:
        """Serve requests until either side has enough."""
        try:
            while self._serve_request():
                self._connection.enter(State.IDLE)
        except OSError as error:
            logger.debug("a scraper's connection broke: %s", error)

    def _serve_request(self) -> bool:
        """Read a request and answer it; return whether there may be another one."""
        try:
            data = self._read()
            if data is None:
                return False
            head = read_head(data)
        except HeadError as error:
            self._refuse(error.status)
            return False
        self._connection.enter(State.PROCESSING)
        response = self._respond(self._environ(head))
        # A body is not read, and so nothing after it.
        stays = head.keeps_alive and not head.has_body and self._going_on()
        self._send(response, stays=stays, with_body=head.method != "HEAD")
        return stays

    def _read(self) -> bytes | None:
        """Return a complete head; None if the client ended before it began.

        Raises:
            HeadError: What arrived is none.
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
            more = self._connection.socket.recv(_READ_BYTES)
            if not more:
                if data:
                    raise HeadError
                return None
            data += more

    def _environ(self, head: Head) -> dict[str, Any]:
        """Return the request as WSGI has it, as far as whoever decides on access may ask."""
        return {
            "REQUEST_METHOD": head.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": head.path,
            "QUERY_STRING": head.query,
            "SERVER_PROTOCOL": head.version,
            "REMOTE_ADDR": self._connection.peer,
            BEFORE_SCRAPE: self._wait_for_memory,
            **header_variables(head.fields),
        }

    def _refuse(self, status: str) -> None:
        """Answer a request that could not be read."""
        reason = status.partition(" ")[2].lower()
        self._send(text_response(status, f"{reason}\n"), stays=False, with_body=True)

    def _send(self, response: Response, *, stays: bool, with_body: bool) -> None:
        body = response.body if with_body else b""
        self._connection.body = body
        self._connection.enter(State.WRITING)
        headers = [
            *response.headers,
            ("Date", formatdate(usegmt=True)),
            ("Connection", "keep-alive" if stays else "close"),
        ]
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"HTTP/1.1 {response.status}\r\n{fields}\r\n".encode("latin-1")
        if len(body) <= _JOINED_BYTES:
            self._connection.socket.sendall(head + body)
        else:
            self._connection.socket.sendall(head)
            self._connection.socket.sendall(body)
        self._connection.body = b""
