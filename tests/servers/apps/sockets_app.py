"""WSGI applications with WebSockets, one for each library: they echo, close and fail as a message asks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, request

from flask_prom import FlaskProm
from web_prom.wsgi import PrometheusMiddleware, set_route

Environ = dict[str, Any]
Start = Callable[..., Any]


class MeantError(Exception):
    pass


def make_app() -> Flask:
    """Return an application with ordinary views."""
    app = Flask(__name__)

    @app.get("/")
    def index() -> str:
        return "ok"

    @app.get("/error")
    def error() -> str:
        raise MeantError

    return app


def with_flask_sock() -> Flask:
    """Return one with Flask-Sock."""
    from flask_sock import Sock

    app = make_app()
    sock = Sock(app)

    @sock.route("/ws/<name>")
    def chat(ws: Any, name: str) -> None:
        while (message := ws.receive()) != "end":
            if message == "fail":
                raise MeantError
            if message == "close":
                ws.close(1001)
                return
            ws.send(message)

    FlaskProm(app)
    return app


def with_engineio() -> Flask:
    """Return one with python-engineio, as Flask-SocketIO has it."""
    import socketio

    app = make_app()
    mode = "gevent" if "gevent" in sys.modules else "threading"
    # It notices a disconnect only at the next ping.
    server = socketio.Server(async_mode=mode, ping_interval=0.3, ping_timeout=0.3)
    app.wsgi_app = socketio.WSGIApp(server, app.wsgi_app)  # type: ignore[method-assign]
    FlaskProm(app)
    return app


def with_gevent_websocket() -> Flask:
    """Return one whose view takes what gevent-websocket has put in the environ."""
    app = make_app()

    @app.route("/ws/<name>", websocket=True)
    def chat(name: str) -> str:
        ws = request.environ["wsgi.websocket"]
        while (message := ws.receive()) not in {None, "end"}:
            if message == "fail":
                raise MeantError
            if message == "close":
                ws.close(1001)
                break
            ws.send(message)
        return ""

    FlaskProm(app)
    return app


def on_eventlet() -> Callable[..., Any]:
    """Return an application that serves WebSockets by eventlet's own class."""
    from eventlet.websocket import WebSocketWSGI

    @WebSocketWSGI
    def chat(ws: Any) -> None:
        while (message := ws.wait()) not in {None, "end"}:
            if message == "fail":
                raise MeantError
            if message == "close":
                ws.close((1001, ""))
                return
            ws.send(message)

    def serve(environ: Environ, start_response: Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        set_route(environ, "/ws/<name>" if path.startswith("/ws/") else path)
        if path.startswith("/ws/"):
            body: Iterable[bytes] = chat(environ, start_response)
            return body
        if path == "/error":
            raise MeantError
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    return serve


def __getattr__(name: str) -> Any:
    """Make the application that a server asks for, and import its library only then."""
    makers = {"sock": with_flask_sock, "engineio": with_engineio, "gevent_websocket": with_gevent_websocket}
    if name in makers:
        return makers[name]()
    raise AttributeError(name)


def main(server: str, port: int) -> None:
    """Serve by a server that has no command of its own."""
    if server == "werkzeug":
        with_flask_sock().run(port=port, threaded=True)
    elif server == "pywsgi":
        from gevent import monkey, pywsgi

        monkey.patch_all()
        pywsgi.WSGIServer(("127.0.0.1", port), with_flask_sock()).serve_forever()
    else:
        import eventlet
        from eventlet import wsgi

        application = PrometheusMiddleware(on_eventlet())
        wsgi.server(eventlet.listen(("127.0.0.1", port)), application)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
