"""A service with a live page whose answers a test decides. Its page, files and headers are the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, cast

from tests.live_page import shop
from web_prom.exposition.http import Header, Response, text_response
from web_prom.live.access import Refusal
from web_prom.live.app import LiveApp
from web_prom.live.source import SnapshotSource

FIRST = 185
"""The step of the first snapshot."""

PREFIX = "/behind/a/proxy/live"


class Service:
    """What the page reads. Each snapshot is five seconds later than the one before it.

    Attributes:
        url: The address of the page.
        interval_seconds: The interval that the snapshot states.
        step: The step of the latest snapshot.
        started: The step at which the service started last.
        change: Changes a snapshot before it is sent.
        refusal: The answer to everything, in the place of the page's own.
        may_sign_in: Whether a client that is refused may give a token.
        given: The header ``Authorization`` of the latest client that gave a token.
        holds: Whether the same snapshot is sent again.
    """

    def __init__(self, interval_seconds: float = 0.2) -> None:
        self.url = ""
        self.interval_seconds = interval_seconds
        self.step = FIRST - 1
        self.started = 0
        self.change: Callable[[dict[str, Any]], None] = lambda document: None
        self.refusal: Response | None = None
        self.may_sign_in = False
        self.given = ""
        self.holds = False
        self.has_history = True

    def snapshot_json(self) -> bytes:
        """Return the next snapshot."""
        if not self.holds or self.step < FIRST:
            self.step += 1
        document = shop.snapshot(self.step, started=self.started, interval_seconds=self.interval_seconds)
        self.change(document)
        return json.dumps(document).encode()

    def history_json(self) -> bytes:
        """Return the history up to the latest snapshot."""
        document = shop.history(self.step if self.has_history else 0)
        return json.dumps(document).encode()

    def refusal_for(self, _environ: object) -> Refusal | None:
        """Return the refusal that the test has set, or None."""
        return Refusal(self.refusal, self.may_sign_in) if self.refusal else None

    def sign_in(self, environ: Mapping[str, Any]) -> list[Header] | None:
        """Accept no token."""
        self.given = environ["HTTP_AUTHORIZATION"]
        return None

    def fail(self, status: str, reason: str = "") -> None:
        """Answer everything with a status and a reason from now on."""
        self.refusal = text_response(status, reason)


@contextmanager
def serve(service: Service) -> Iterator[Service]:
    """Serve the page of a service on a free port below a prefix."""
    app = LiveApp(cast("SnapshotSource", service), service)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(ConnectionResetError):  # the browser has closed the page
                super().handle()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            environ = {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": path,
                "HTTP_ACCEPT_ENCODING": self.headers.get("Accept-Encoding", ""),
                "HTTP_AUTHORIZATION": self.headers.get("Authorization", ""),
            }
            if path.startswith(PREFIX):
                response = app.respond(environ, path.removeprefix(PREFIX))
            else:
                response = text_response("404 Not Found", "no such page\n")
            code, _, reason = response.status.partition(" ")
            self.send_response(int(code), reason)
            for name, value in response.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}{PREFIX}/"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
