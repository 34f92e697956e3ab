"""HTTP/1.1 as far as scrapes need it: from a request's bytes to a WSGI environ, and the answer back."""

from __future__ import annotations

import http.client
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from web_prom.environ import header_variables
from web_prom.exporter.connections import Connection, State
from web_prom.exposition import Response

logger = logging.getLogger("web_prom")

Respond = Callable[[Mapping[str, Any]], Response]

# The line and headers of one request; what a scraper sends is below 1 kB.
_HEAD_BYTES = 32_768


class _Head:
    """Reads no more of a request than a head may have."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.left = _HEAD_BYTES

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self._file.readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise http.client.LineTooLong("head")
        return line

    def wait(self) -> bool:
        """Wait for the next request; return whether there is one."""
        self.left = _HEAD_BYTES
        return bool(self._file.peek(1))

    def close(self) -> None:
        self._file.close()


class Handler(BaseHTTPRequestHandler):
    """Serves one connection, request after request.

    Args:
        connection: The connection.
        respond: Answers a request.
        going_on: Whether the connection may stay open after this request.
    """

    protocol_version = "HTTP/1.1"

    def __init__(self, connection: Connection, respond: Respond, going_on: Callable[[], bool]) -> None:
        self._record = connection
        self._respond = respond
        self._going_on = going_on
        # What an answer to a request that could not be read has to know.
        self.requestline, self.command, self.request_version = "", "", ""
        super().__init__(connection.socket, (connection.peer, 0), None)  # type: ignore[arg-type]

    def setup(self) -> None:
        """Bound what is read of a request."""
        super().setup()
        self.rfile = _Head(self.rfile)  # type: ignore[assignment]

    def handle(self) -> None:
        """Serve requests until either side has enough."""
        self.close_connection = False
        try:
            while not self.close_connection and self.rfile.wait():  # type: ignore[attr-defined]
                self._record.enter(State.ARRIVING)
                self.handle_one_request()
                self._record.enter(State.IDLE)
        except OSError as error:
            logger.debug("a scraper's connection broke: %s", error)

    def handle_one_request(self) -> None:
        """Read a request and answer it."""
        try:
            self.raw_requestline = self.rfile.readline()
            # Reads the headers too; answers by itself what it cannot read.
            if not self.parse_request():
                return
            environ = self._environ()
        except http.client.LineTooLong:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        if self._has_body():
            # It is not read, so nothing after it can be.
            self.close_connection = True
        self._record.enter(State.WORKING)
        response = self._respond(environ)
        self._record.enter(State.SENDING)
        self._send(response)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that could not be read, and close the connection."""
        self.close_connection = True
        status = HTTPStatus(code)
        body = f"{status.phrase.lower()}\n".encode()
        self._record.enter(State.SENDING)
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        self._send(Response(f"{status.value} {status.phrase}", headers, body))

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the log clean: what clients do is no event of the server's."""
        logger.debug(format, *args)

    def _environ(self) -> dict[str, Any]:
        """Return the request as WSGI has it, as far as whoever decides on access may ask.

        Raises:
            ValueError: The target is no URL.
        """
        target = urlsplit(self.path)
        return {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(target.path, "latin-1"),
            "QUERY_STRING": target.query,
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": self._record.peer,
            **header_variables(self.headers.items()),
        }

    def _has_body(self) -> bool:
        length = self.headers.get("Content-Length", "0").strip()
        return length != "0" or "Transfer-Encoding" in self.headers

    def _send(self, response: Response) -> None:
        if not self._going_on():
            self.close_connection = True
        connection = "close" if self.close_connection else "keep-alive"
        headers = [*response.headers, ("Date", self.date_time_string()), ("Connection", connection)]
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        body = b"" if self.command == "HEAD" else response.body
        self.wfile.write(f"{self.protocol_version} {response.status}\r\n{head}\r\n".encode("latin-1") + body)
