"""WebSockets of WSGI applications with real servers and clients: each is counted by how it closes."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import gunicorn as gunicorn_server
import prometheus_client
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.programs import needs_program
from tests.servers.prefork import Prefork, running
from tests.servers.process import PATIENCE_SECONDS, ROOT, Scratch, wait_until

APPS = "tests.servers.apps.sockets_app"

UWSGI = "/usr/bin/uwsgi"

Command = Callable[[int], list[str]]


def gunicorn(app: str, worker: str) -> Command:
    """Return the command line of gunicorn with one worker."""
    script = str(Path(sysconfig.get_path("scripts"), "gunicorn"))
    options = ["--worker-class", worker, "--threads", "8", "--graceful-timeout", "5"]
    return lambda port: [sys.executable, script, *options, "--bind", f"127.0.0.1:{port}", f"{APPS}:{app}"]


def program(server: str) -> Command:
    """Return the command line of a server that the applications' module starts."""
    return lambda port: [sys.executable, "-m", APPS, server, str(port)]


def uwsgi(port: int) -> list[str]:
    """Return the command line of Debian's uWSGI: PyPI's wheel of pyuwsgi is built without WebSockets."""
    options = ["--master", "--processes", "1", "--threads", "8", "--die-on-term", "--plugin", "python3"]
    where = ["--http-socket", f"127.0.0.1:{port}", "--module", f"{APPS.replace('sockets', 'uwsgi_sockets')}"]
    return [UWSGI, *options, *where, "--need-app"]


GEVENT_WEBSOCKET = "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"

SERVERS: dict[str, Command] = {
    "gthread": gunicorn("sock", "gthread"),
    "gevent": gunicorn("sock", "gevent"),
    "gevent_pywsgi": gunicorn("sock", "gunicorn.workers.ggevent.GeventPyWSGIWorker"),
    "pywsgi": program("pywsgi"),
    "gevent-websocket": gunicorn("gevent_websocket", GEVENT_WEBSOCKET),
    "werkzeug": program("werkzeug"),
    "eventlet": program("eventlet"),
    "uwsgi": uwsgi,
}


# The handler returns; the client closes with 1000 and 1001; the handler raises; the connection is lost.
USUAL_CODES = {"1000": 2, "1001": 1, "1011": 1, "1006": 1}
CODES = {
    "eventlet": {"1005": 1, "1000": 1, "1001": 1, "1011": 1, "1006": 1},  # it closes without a code
    "uwsgi": {"_unknown": 4, "1011": 1},
}


@contextlib.contextmanager
def serving(place: Scratch, command: Command) -> Iterator[Prefork]:
    """Run a server."""
    with running(place, command, place.folder / "shared", folder=ROOT) as server:
        yield server


@contextlib.contextmanager
def chatting(server: Prefork, path: str = "/ws/one") -> Iterator[ClientConnection]:
    """Open a WebSocket; check that the gauge of open WebSockets includes it."""
    url = f"ws://127.0.0.1:{server.port}{path}"
    with connect(url, close_timeout=1, open_timeout=PATIENCE_SECONDS) as ws:
        ws.send("hello")
        assert ws.recv(PATIENCE_SECONDS) in {"hello", b"hello"}, server.log()
        wait_until(lambda: open_ones(server) == 1, "a WebSocket", shown=server.log)
        assert server.gauge("http_requests_in_progress") == 0
        yield ws
    wait_until(lambda: open_ones(server) == 0, "the WebSocket to end", shown=server.log)


def open_ones(server: Prefork) -> float | None:
    """Return how many are open, or None if there is no answer: gunicorn 21 may reset others as one ends."""
    with contextlib.suppress(ConnectionError):
        return server.gauge("websocket_connections_in_progress")
    return None


def only_prometheus_client(place: Scratch) -> None:
    """Have a server of another Python import that package from here: it is pure Python."""
    packages = place.folder / "packages"
    packages.mkdir()
    (packages / "prometheus_client").symlink_to(Path(prometheus_client.__file__).parent)
    place.environ["PYTHONPATH"] = f"{ROOT}:{packages}"


def have_it(do: str, ws: ClientConnection, server: Prefork) -> None:
    """Have the handler ``end`` or ``fail``; some servers then send a page of HTTP and stay connected."""
    ws.send(do)
    wait_until(lambda: open_ones(server) == 0, "the end", shown=server.log)
    hang_up(ws)


def hang_up(ws: ClientConnection) -> None:
    """Disconnect without a close frame. close() would wait for the client's reading thread."""
    with contextlib.suppress(OSError):  # closed by the server
        ws.socket.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("name", SERVERS)
def test_fault_37_websockets_are_counted_by_close_code(place: Scratch, name: str) -> None:
    """They are in the WebSocket metrics, and not among requests, exceptions and request durations."""
    if name == "gthread" and gunicorn_server.version_info < (22,):
        pytest.skip("the threads of gunicorn 21 reset connections that wait as a WebSocket ends")
    if name == "eventlet":
        place.environ["EVENTLET_NO_GREENDNS"] = "yes"  # its DNS imports trio, which does not bear its sockets
    if name == "uwsgi":
        needs_program(UWSGI, package="uwsgi-core uwsgi-plugin-python3")
        only_prometheus_client(place)
    (place.folder / "shared").mkdir()
    with serving(place, SERVERS[name]) as server:
        with chatting(server) as ws:
            have_it("end", ws, server)
        with chatting(server) as ws:
            ws.close(1000)
        with chatting(server) as ws:
            ws.close(1001)
        with chatting(server) as ws:
            have_it("fail", ws, server)
        with chatting(server) as ws:
            hang_up(ws)
        with contextlib.suppress(http.client.RemoteDisconnected):  # uWSGI answers nothing
            assert server.get("/error")[0] == 500
        server.settle(Counter({("GET", "/", "200"): server.sent, ("GET", "/error", "500"): 1}))
        assert server.exceptions() == {("/error", "MeantError"): 1}
        route, codes = "/ws/<name>", CODES.get(name, USUAL_CODES)
        assert server.connections() == {(route, code): number for code, number in codes.items()}
        assert server.samples("websocket_messages", "websocket_messages_total", "route", "direction") == {
            (route, "received"): 7,
            (route, "sent"): 5,
        }


@pytest.mark.parametrize("worker", ["gthread", GEVENT_WEBSOCKET], ids=["gthread", "gevent-websocket"])
def test_fault_37_socketio_websockets_are_counted(place: Scratch, worker: str) -> None:
    """Flask-SocketIO puts python-engineio around Flask, so Flask does not see them."""
    (place.folder / "shared").mkdir()
    with serving(place, gunicorn("engineio", worker)) as server:
        url = f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket"
        with connect(url, open_timeout=PATIENCE_SECONDS) as ws:
            assert str(ws.recv(PATIENCE_SECONDS)).startswith("0{")
            assert server.gauge("websocket_connections_in_progress") == 1
            ws.close(1001)
        wait_until(lambda: open_ones(server) == 0, "its end")
        assert server.connections() == {("_unmatched", "1001"): 1}
        server.settle(Counter({("GET", "/", "200"): server.sent}))
        assert server.exceptions() == {}


@pytest.mark.parametrize("name", ["gthread", "werkzeug"])
def test_fault_37_rejected_handshake_is_an_ordinary_request(place: Scratch, name: str) -> None:
    """An exception in a view is an ordinary error, whatever the client asks for."""
    (place.folder / "shared").mkdir()
    with serving(place, SERVERS[name]) as server:
        for path in ("/error", "/ws/one"):
            # Without a key, and without the header by which Flask's router recognises a WebSocket.
            head = f"GET {path} HTTP/1.1\nHost: localhost\nUpgrade: websocket\nConnection: close\n\n"
            with contextlib.closing(server.raw(head)) as opened:
                assert opened.recv(1000).startswith(b"HTTP/1.1 ")
        server.settle(
            Counter(
                {
                    ("GET", "/", "200"): server.sent,
                    ("GET", "/error", "500"): 1,
                    ("GET", "_unmatched", "400"): 1,
                }
            )
        )
        assert server.exceptions() == {("/error", "MeantError"): 1}
        assert server.connections() == {}
