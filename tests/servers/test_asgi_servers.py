"""Starlette and Django under each ASGI server with several workers: a scrape has the requests that were sent.

The commands are those of docs/how-to/servers.rst, with an application that has more to ask for.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import django
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.servers.client import Account, reset
from tests.servers.documented import WORKERS, commands, requirements
from tests.servers.prefork import Prefork, running
from tests.servers.process import scratch, wait_until

CLIENTS = 4
ROUNDS = 6

COMMANDS = commands()


class Kind(NamedTuple):
    """One kind of request, with its status and the route that it is counted under."""

    method: str
    path: str
    status: int
    route: str


KINDS = (
    Kind("GET", "/", 200, "/"),
    Kind("HEAD", "/", 200, "/"),
    Kind("GET", "/items/{}", 200, "item"),
    Kind("GET", "/items/0", 404, "item"),
    Kind("GET", "/no/such/page/{}", 404, "_unmatched"),
    Kind("POST", "/", 405, "/"),
    Kind("PROPFIND", "/", 405, "/"),
    Kind("POST", "/orders", 201, "/orders"),
    Kind("GET", "/error", 500, "/error"),
    Kind("GET", "/stream", 200, "/stream"),
)


class App(NamedTuple):
    """An application that answers KINDS: its name, its route for items, and its peculiarities."""

    target: str
    item: str
    kinds: tuple[Kind, ...] = KINDS
    hears_disconnects: bool = True

    def route(self, kind: Kind) -> str:
        return self.item if kind.route == "item" else kind.route


DJANGO = App(
    "tests.servers.apps.django_asgi_app:application",
    "/items/<int:number>",
    (*KINDS, Kind("GET", "/async-error", 500, "/async-error")),
    # Older Django does not check for disconnects.
    hears_disconnects=django.VERSION >= (5, 0),
)
APPS = {
    "starlette": App("tests.servers.apps.asgi_app:app", "/items/{number:int}"),
    "django": DJANGO,
    "wrapped": DJANGO._replace(target="tests.servers.apps.django_asgi_app:wrapped"),
}


class Site(NamedTuple):
    """A running server and its application."""

    server: Prefork
    app: App
    name: str


SITES = [
    # test_uvicorn.py has Starlette under uvicorn.
    pytest.param((name, app), id=f"{name} {app}", marks=requirements(name))
    for name in COMMANDS
    for app in ("starlette" if name != "uvicorn" else "wrapped", "django")
]


@pytest.fixture(scope="module", params=SITES)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Return a server that several tests share."""
    name, app = request.param
    with scratch() as place:
        directory = place.folder / "shared"
        directory.mkdir()
        with running(place, COMMANDS[name].serving(APPS[app].target), directory) as server:
            wait_until(lambda: len(_answering(server)) == WORKERS, "an answer of each", shown=server.log)
            yield Site(server, APPS[app], name)


def _answering(server: Prefork) -> set[bytes]:
    """Return the workers that answer a few concurrent requests."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        return {body for _, body in clients.map(server.get, ["/"] * CLIENTS * 4)}


def test_requests_are_counted_as_sent(site: Site) -> None:
    """Several concurrent clients, each with a persistent connection. Every worker serves some of them."""
    server, app = site.server, site.app
    before, raised = server.rest(), Counter(server.exceptions())
    expected: Account = Counter()
    wrong: list[object] = []
    lock = threading.Lock()

    def send(client: int) -> None:
        with server.connection() as opened:
            for number in range(1, ROUNDS + 1):
                for kind in app.kinds:
                    body = b"x" * 100 if kind.method == "POST" else None
                    try:
                        opened.request(kind.method, kind.path.format(client * 1000 + number), body)
                        response = opened.getresponse()
                        response.read()
                        if response.status in (405, 500):
                            opened.close()  # some servers do, when an application fails or leaves a body
                    except Exception as error:
                        wrong.append((kind, error))
                        return
                    if response.status != kind.status:
                        wrong.append((kind, response.status))
                    method = "_OTHER" if kind.method == "PROPFIND" else kind.method
                    with lock:
                        expected[method, app.route(kind), str(kind.status)] += 1

    threads = [threading.Thread(target=send, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(expected.values()) == CLIENTS * ROUNDS * len(app.kinds)
    server.settle(before + expected)
    more = Counter(server.exceptions())
    more.subtract(raised)
    assert +more == {
        (kind.route, "RuntimeError"): CLIENTS * ROUNDS for kind in app.kinds if kind.status == 500
    }
    counted = server.requests()
    name = "http_request_duration_seconds"
    timed = server.samples(name, f"{name}_count", "method", "route")
    for method, route in {key[:2] for key in counted}:
        assert timed[method, route] == sum(n for key, n in counted.items() if key[:2] == (method, route))


def test_body_sizes_are_the_bytes_read_and_sent(site: Site) -> None:
    server = site.server
    name = "http_response_size_bytes"
    before = server.rest()
    sent = server.samples(name, f"{name}_sum", "route").get(("/stream",), 0)
    name = "http_request_size_bytes"
    read = server.samples(name, f"{name}_sum", "route").get(("/orders",), 0)
    for _ in range(5):
        assert server.get("/stream") == (200, b"x" * 10_000)
        assert server.get("/orders", "POST", b"x" * 70_000) == (201, b"70000")
    server.settle(before + Counter({("GET", "/stream", "200"): 5, ("POST", "/orders", "201"): 5}))
    assert server.samples(name, f"{name}_sum", "route")["/orders",] == read + 350_000
    name = "http_response_size_bytes"
    assert server.samples(name, f"{name}_sum", "route")["/stream",] == sent + 50_000


def test_fault_01_stream_is_in_progress_until_its_client_disconnects(site: Site) -> None:
    if not site.app.hears_disconnects:
        pytest.skip("Django 4.2 does not hear of it")
    server = site.server
    before, raised = server.rest(), server.exceptions()
    with contextlib.closing(server.raw("GET /endless HTTP/1.1\nHost: 127.0.0.1\n\n")) as opened:
        assert b"200 " in opened.recv(100)
        assert server.gauge("http_requests_in_progress") == 1
        assert server.requests() == before
        reset(opened)
    server.settle(before + Counter({("GET", "/endless", "200"): 1}))
    assert server.exceptions() == raised


def test_fault_02_body_that_fails_keeps_its_status(site: Site) -> None:
    server = site.server
    before, raised = server.rest(), Counter(server.exceptions())
    with contextlib.suppress(http.client.IncompleteRead):
        server.get("/breaks-half-way")
    server.settle(before + Counter({("GET", "/breaks-half-way", "200"): 1}))
    more = Counter(server.exceptions())
    more.subtract(raised)
    ((route, _),) = +more
    assert route == "/breaks-half-way"


def test_fault_02_client_that_disconnects_before_the_response_is_499(site: Site) -> None:
    if not site.app.hears_disconnects:
        pytest.skip("Django 4.2 does not hear of it")
    server = site.server
    before, raised = server.rest(), server.exceptions()
    waiting = server.raw("GET /patient HTTP/1.1\nHost: 127.0.0.1\n\n")
    wait_until(lambda: server.gauge("http_requests_in_progress") == 1, "the request to arrive")
    waiting.close()
    server.settle(before + Counter({("GET", "/patient", "499"): 1}))
    assert server.exceptions() == raised


def test_scrape_does_not_block_the_event_loop(site: Site, tmp_path: Path) -> None:
    """The worker that computes a scrape answers requests meanwhile."""
    server, path = site.server, tmp_path / "worker"
    with contextlib.closing(
        server.raw(f"GET /metrics HTTP/1.1\nHost: 127.0.0.1\nConnection: close\nX-Wait-For: {path}\n\n")
    ) as scrape:
        worker = wait_until(lambda: path.exists() and path.read_bytes(), "the scrape to begin")
        wait_until(lambda: server.get("/")[1] == worker, "an answer of the same worker")
        path.unlink()
        assert b" 200 " in scrape.recv(100)


def test_scrape_passes_login_and_host_check(site: Site) -> None:
    """A scrape is not counted, whatever its method."""
    before = site.server.rest()
    for method, status in (("GET", 200), ("HEAD", 200), ("OPTIONS", 200), ("POST", 405)):
        with site.server.connection() as opened:
            opened.request(method, "/metrics", headers={"Host": "10.1.2.3", "X-User": "nobody"})
            response = opened.getresponse()
            assert response.status == status
            assert (b"http_requests_in_progress" in response.read()) is (method == "GET")
    site.server.settle(before)


only_django = pytest.mark.parametrize(
    "site", [each for each in SITES if "starlette" not in str(each.id)], indirect=True, scope="module"
)
only_starlette = pytest.mark.parametrize(
    "site", [each for each in SITES if "starlette" in str(each.id)], indirect=True, scope="module"
)


@only_django
def test_responses_of_login_and_host_check_are_counted(site: Site) -> None:
    """web-prom is outside of both."""
    before = site.server.rest()
    for headers, status in (({"X-User": "nobody"}, 302), ({"Host": "10.1.2.3"}, 400)):
        with site.server.connection() as opened:
            opened.request("GET", "/", headers=headers)
            assert opened.getresponse().status == status
    # Django's host check raises inside of Django: it is no exception of the application.
    site.server.settle(before + Counter({("GET", "/", "302"): 1, ("GET", "/", "400"): 1}))


@only_starlette
def test_websockets_are_counted_by_close_code(site: Site) -> None:
    """Closes by the client and by the application, its failure, and a rejected handshake."""
    server, name = site.server, "websocket_messages"
    before = Counter(server.connections())
    messages = Counter(server.samples(name, f"{name}_total", "direction"))

    def url(path: str) -> str:
        return f"ws://127.0.0.1:{server.port}{path}"

    for code in (1000, 3000):
        with connect(url("/echo/1")) as websocket:
            websocket.send("hello")
            assert websocket.recv() == "hello"
            assert server.gauge("websocket_connections_in_progress") == 1
            websocket.close(code)
    for text in ("close", "raise"):
        with connect(url("/echo/1")) as websocket:
            websocket.send(text)
            with pytest.raises(ConnectionClosed):
                websocket.recv()
    with pytest.raises(InvalidStatus), connect(url("/refused")):
        pass
    route = "/echo/{room}"
    # hypercorn reports 1006 for every close code of the client.
    by_client = Counter({"1006": 2} if site.name == "hypercorn" else {"1000": 1, "_OTHER": 1})
    ended = by_client + Counter({"1008": 1, "1011": 1})
    expected = before + Counter({(route, code): count for code, count in ended.items()})
    expected["/refused", "_rejected"] += 1
    with contextlib.suppress(AssertionError):
        wait_until(lambda: server.connections() == expected, "the connections to end")
    assert server.connections() == expected
    assert server.gauge("websocket_connections_in_progress") == 0
    more = Counter(server.samples(name, f"{name}_total", "direction"))
    more.subtract(messages)
    assert more == {("received",): 4, ("sent",): 2}
