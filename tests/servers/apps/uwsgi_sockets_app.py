"""A WSGI application with WebSockets by uWSGI's own functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import uwsgi

from web_prom.wsgi import PrometheusMiddleware, set_route

Environ = dict[str, Any]
Start = Callable[..., Any]


class MeantError(Exception):
    pass


def on_uwsgi(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Serve WebSockets by uWSGI's own functions."""
    path = environ["PATH_INFO"]
    set_route(environ, "/ws/<name>" if path.startswith("/ws/") else path)
    if path.startswith("/ws"):
        uwsgi.websocket_handshake(environ["HTTP_SEC_WEBSOCKET_KEY"], environ.get("HTTP_ORIGIN", ""))
        while (message := uwsgi.websocket_recv()) != b"end":  # raises OSError where the peer has closed
            if message == b"fail":
                raise MeantError
            uwsgi.websocket_send(message)
        return b""  # type: ignore[return-value]  # as uWSGI's documentation has it
    if path == "/error":
        raise MeantError
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


application = PrometheusMiddleware(on_uwsgi)
