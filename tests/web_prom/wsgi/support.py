"""WSGI applications of all shapes, and a server, for the tests of the middleware."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.handlers import SimpleHandler

from prometheus_client import CollectorRegistry

from tests.web_prom.support import App, Environ, environ_of, errors, in_progress
from web_prom import PrometheusMiddleware

Start = Callable[..., Any]
OK = ("GET", "_unmatched", "200")
BROKEN = ("GET", "_unmatched", "500")
PLAIN = [("Content-Type", "text/plain")]
Measure = Callable[..., PrometheusMiddleware]


def assert_idle(registry: CollectorRegistry, **expected: float) -> None:
    """Assert that nothing is in progress and that the instrumentation had no errors."""
    assert in_progress(registry) == 0
    assert errors(registry) == {}


class Wire(SimpleHandler):
    """wsgiref's server, which keeps what it sends in memory."""

    origin_server = False  # no Date header, which would differ in each run

    def __init__(self, environ: Environ) -> None:
        self.wire = io.BytesIO()
        super().__init__(environ.pop("wsgi.input", io.BytesIO()), self.wire, io.StringIO(), environ)
        self.sent_by_kernel = False

    def sendfile(self) -> bool:
        """Claim to have sent the file without iterating over it."""
        self.sent_by_kernel = True
        self.send_headers()
        return True

    @property
    def status_code(self) -> str:
        """The status that the client got."""
        return self.wire.getvalue()[len("Status: ") :][:3].decode()


def send(app: App, environ: Environ | None = None) -> Wire:
    """Serve one request by wsgiref's server."""
    handler = Wire(environ or environ_of())
    handler.run(app)
    return handler


def app_list(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [*PLAIN, ("Content-Length", "4")])
    return [b"ab", b"cd"]


def app_list_without_length(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    return [b"ab", b"cd"]


def app_tuple(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    return (b"abcd",)


def app_iterator(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    return iter([b"ab", b"cd"])


def app_generator(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Call start_response at the first chunk of the body."""
    start_response("200 OK", PLAIN)
    yield b"ab"
    yield b"cd"


def app_write(environ: Environ, start_response: Start) -> Iterable[bytes]:
    write = start_response("200 OK", PLAIN)
    write(b"ab")
    write(b"cd")
    return []


def app_write_and_list(environ: Environ, start_response: Start) -> Iterable[bytes]:
    write = start_response("200 OK", PLAIN)
    write(b"ab")
    return [b"cd"]


def app_restarted(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("500 Oops", PLAIN)
    try:
        raise KeyError
    except KeyError:
        start_response("200 OK", [*PLAIN, ("Content-Length", "4")], sys.exc_info())
    return [b"abcd"]


SHAPES = [
    app_list, app_list_without_length, app_tuple, app_iterator, app_generator, app_write,
    app_write_and_list, app_restarted,
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {},
    {"request_size": True, "response_size": True, "first_byte": True, "queue_time": True},
]


def raising(error: BaseException, *, started: bool = False, written: bool = False) -> App:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        if started or written:
            write = start_response("200 OK", PLAIN)
            if written:
                write(b"x")
        raise error

    return app


def boom(*_: Any, **__: Any) -> Any:
    raise OSError("no space left on device")
