"""Scrapes under ASGI: the response is the same as under WSGI, and the event loop is not blocked."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

import web_prom
from tests.web_prom import support
from tests.web_prom.asgi.asgi_server import Scope, Server, hello, scope_of, sending, serve
from tests.web_prom.support import errors, in_progress, python, requests
from web_prom import asgi, make_asgi_app, wsgi
from web_prom.asgi.endpoint import to_environ

OK = ("GET", "_unmatched", "200")


def scrape(app: Any, path: str = "/metrics", method: str = "GET", **more: Any) -> Server:
    """Scrape an application; check that the response is one start and one body."""
    server = Server()
    server.run(app, scope_of(path, method, **more))
    assert [message["type"] for message in server.sent] == ["http.response.start", "http.response.body"]
    return server


def headers_of(**headers: str) -> list[tuple[bytes, bytes]]:
    """Return headers in the format of a scope."""
    return [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]


CASES: list[tuple[str, dict[str, str]]] = [
    ("GET", {}),
    ("HEAD", {}),
    ("OPTIONS", {}),
    ("POST", {}),
    ("GET", {"Accept": "application/openmetrics-text;version=1.0.0"}),
    ("GET", {"Accept": "application/openmetrics-text; version=abc"}),
    ("GET", {"Accept": "é" * 10}),
    ("GET", {"Authorization": "Bearer right"}),
    ("GET", {"Authorization": "Bearer wrong"}),
    ("HEAD", {"Authorization": "Bearer wrong"}),
    ("GET", {"X-Forwarded-For": "10.0.0.1"}),
]


@pytest.mark.parametrize(("method", "headers"), CASES)
@pytest.mark.parametrize(
    "options",
    [{}, {"bearer_token": "right"}, {"allowed_networks": "10.0.0.0/8", "trusted_proxies": "192.0.2.0/24"}],
)
def test_scrape_is_answered_as_under_wsgi(
    method: str, headers: dict[str, str], options: dict[str, Any], registry: CollectorRegistry
) -> None:
    server = scrape(
        asgi.PrometheusMiddleware(hello, registry=registry, **options),
        method=method,
        headers=headers_of(**headers),
    )
    other = support.Server()
    environ = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()}
    environ["REMOTE_ADDR"] = "192.0.2.1"
    other.run(
        wsgi.PrometheusMiddleware(support.hello, registry=registry, **options),
        support.environ_of("/metrics", method, **environ),
    )
    assert other.status is not None
    assert server.status == int(other.status[:3])
    upper, lower = server.headers, {name.lower(): value for name, value in other.headers}
    # The body contains the duration of the scrape, whose number of digits varies.
    assert bool(upper.pop("content-length")) == bool(lower.pop("content-length"))
    assert upper == lower
    assert bool(server.body) == bool(b"".join(other.sent))
    assert in_progress(registry) == 0
    assert errors(registry) == {}


def test_fault_32_scrape_supports_gzip_head_and_vary(registry: CollectorRegistry) -> None:
    app = asgi.PrometheusMiddleware(hello, registry=registry)
    zipped = scrape(app, headers=headers_of(Accept_Encoding="gzip"))
    assert zipped.headers["content-encoding"] == "gzip"
    assert b"http_requests_in_progress" in gzip.decompress(zipped.body)
    assert "content-encoding" not in scrape(app, headers=headers_of(Accept_Encoding="gzip;q=0")).headers
    assert "Accept-Encoding" in zipped.headers["vary"]
    head = scrape(app, method="HEAD")
    assert (head.status, head.body, int(head.headers["content-length"]) > 0) == (200, b"", True)


def test_fault_31_scrape_has_the_accepted_format(registry: CollectorRegistry) -> None:
    app = asgi.PrometheusMiddleware(hello, registry=registry)
    accept = headers_of(Accept="application/openmetrics-text;version=1.0.0")
    modern = scrape(app, headers=accept)
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.body.endswith(b"# EOF\n")
    assert scrape(app).headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_scrape_is_restricted_by_names(registry: CollectorRegistry) -> None:
    app = asgi.PrometheusMiddleware(hello, registry=registry)
    body = scrape(app, query_string=b"name[]=http_requests_in_progress").body
    assert b"\nhttp_requests_in_progress 0.0\n" in body
    assert b"http_requests_total" not in body


def test_scrape_is_answered_and_not_counted(registry: CollectorRegistry) -> None:
    app = asgi.PrometheusMiddleware(hello, registry=registry)
    serve(app)
    for _ in range(3):
        assert b"http_requests_total" in scrape(app).body
    assert requests(registry) == {OK: 1}
    assert in_progress(registry) == 0


def test_fault_79_mounted_scrape_is_not_in_progress(registry: CollectorRegistry) -> None:
    mounted, other = make_asgi_app(registry), CollectorRegistry()
    wrapped = asgi.PrometheusMiddleware(mounted, registry=registry, path="")
    wrapped = asgi.PrometheusMiddleware(wrapped, registry=other, path="")
    for _ in range(2):
        assert b"\nhttp_requests_in_progress 0.0\n" in serve(wrapped, "/metrics")
    for each in (registry, other):
        assert in_progress(each) == 0
        assert requests(each) == {}


def test_mounted_scrape_is_not_counted(registry: CollectorRegistry) -> None:
    """The application is mounted below a measured one."""
    app = asgi.PrometheusMiddleware(make_asgi_app(registry), registry=registry, path="")
    assert b"http_requests" in scrape(app).body
    assert requests(registry) == {}
    assert in_progress(registry) == 0


@pytest.mark.parametrize(
    ("path", "root_path", "answered"),
    [
        ("/metrics", "", True),
        ("/metrics", "/shop", True),  # as in servers before uvicorn 0.26
        ("/shop/metrics", "/shop", True),
        ("/shop/metrics", "/shop/", True),
        ("/shop/metrics", "", False),
        ("/shopmetrics", "/shop", False),
        ("/metrics/", "", True),
        ("/shop/metrics/", "/shop", True),
        ("/metrics/metrics", "/metrics", True),
        ("/metrics/metrics/", "/metrics", True),
        ("/metrics/", "/metrics", False),  # the index page of an application at /metrics
        ("/metrics/", "/metrics/", False),
        ("/metrics/a", "/metrics", False),
        ("/live/", "/live", False),
        ("/live/live", "/live", True),
        ("/live/live/", "/live", True),
        ("/live/metrics", "/live", True),
        ("/metrics//", "", False),
        ("/metricsx", "", False),
        ("//metrics", "", False),
        ("/Metrics", "", False),
        ("/", "", False),
        ("", "", False),
    ],
)
def test_fault_54_scrape_path_is_relative_to_the_root_path(
    path: str, root_path: str, answered: bool, registry: CollectorRegistry
) -> None:
    app = asgi.PrometheusMiddleware(hello, registry=registry, live=True)
    assert (serve(app, path, root_path=root_path) != b"hello") is answered


@pytest.mark.parametrize("path", ["", "/", "/metrics", "/shop"])
def test_empty_scrape_path_answers_no_scrape(path: str, registry: CollectorRegistry) -> None:
    app = asgi.PrometheusMiddleware(hello, registry=registry, path="")
    assert serve(app, path) == b"hello"
    assert serve(app, path, root_path="/shop") == b"hello"
    scope = scope_of(path)
    del scope["path"]
    server = Server()
    server.run(app, scope)
    assert server.body == b"hello"


def test_scrape_path_may_have_non_ascii_letters(registry: CollectorRegistry) -> None:
    app = asgi.PrometheusMiddleware(hello, registry=registry, path="/größen")
    assert b"http_requests" in serve(app, "/größen")


def test_to_environ_returns_the_environ_of_wsgi() -> None:
    """An access check gets this environ."""
    scope = scope_of(
        "/shop/größe",
        "GET",
        root_path="/shop",
        query_string=b"a=%20",
        headers=[(b"X-A", b" 1 "), (b"x-a", b"2"), (b"x_forwarded_for", b"10.0.0.1"), (b"b", b"\xe9")],
    )
    assert to_environ(scope) == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/shop",
        "PATH_INFO": "/größe".encode().decode("latin-1"),
        "QUERY_STRING": "a=%20",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "wsgi.url_scheme": "http",
        "HTTP_X_A": "1,2",
        "HTTP_B": "é",
    }
    clients: list[Any] = [None, [], ("", 0)]
    for client in clients:
        assert to_environ(scope_of(client=client))["REMOTE_ADDR"] == ""


def test_fault_18_scrape_does_not_reach_the_application(registry: CollectorRegistry) -> None:
    """The application would raise."""
    app = asgi.PrometheusMiddleware(sending(error=PermissionError("log in first")), registry=registry)
    assert scrape(app, headers=headers_of(Host="10.1.2.3")).status == 200


def test_unix_socket_is_in_no_allowed_network(registry: CollectorRegistry) -> None:
    app = asgi.PrometheusMiddleware(hello, registry=registry, allowed_networks="0.0.0.0/0")
    assert scrape(app).status == 200
    assert scrape(app, client=None).status == 403


def test_header_with_underscores_is_not_the_one_with_dashes(registry: CollectorRegistry) -> None:
    options: Any = {"allowed_networks": "10.0.0.0/8", "trusted_proxies": "192.0.2.0/24"}
    app = asgi.PrometheusMiddleware(hello, registry=registry, **options)
    assert scrape(app, headers=[(b"x_forwarded_for", b"10.0.0.1")]).status == 403
    assert scrape(app, headers=[(b"x-forwarded-for", b"10.0.0.1")]).status == 200
    both = [(b"x-forwarded-for", b"10.0.0.1"), (b"x-forwarded-for", b"203.0.113.1")]
    assert scrape(app, headers=both).status == 403, "the address of the last hop is checked"


# The event loop is not blocked -----------------------------------------------------------------------


class Slow:
    """A collector that waits for an event."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.entered, self.event = threading.Event(), threading.Event()
        self.threads: set[str] = set()
        self.event.set()
        registry.register(self)  # this collects once, for the names
        self.event.clear()
        self.entered.clear()
        self.threads.clear()

    def collect(self) -> Iterable[Any]:
        """Wait."""
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.event.wait(60), "the event loop is blocked"
        return []


@pytest.mark.parametrize("mounted", [False, True])
def test_fault_26_scrape_does_not_block_the_event_loop(mounted: bool, registry: CollectorRegistry) -> None:
    """While scrapes wait, the event loop runs, and lets them continue."""
    app = make_asgi_app(registry) if mounted else asgi.PrometheusMiddleware(hello, registry=registry)
    slow = Slow(registry)

    async def main() -> None:
        servers = [Server() for _ in range(6)]
        scrapes = [asyncio.ensure_future(server.serve(app, scope_of("/metrics"))) for server in servers]
        while not slow.entered.is_set():
            await asyncio.sleep(0.001)
        slow.event.set()  # a blocked event loop would not reach this line
        await asyncio.gather(*scrapes)
        assert {server.status for server in servers} == {200}

    asyncio.run(main())
    assert slow.threads
    assert all(name.startswith("web-prom-") for name in slow.threads)


def test_scrape_does_not_block_the_event_loop_of_trio(registry: CollectorRegistry) -> None:
    trio = pytest.importorskip("trio")
    app = make_asgi_app(registry)
    slow = Slow(registry)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app, scope_of("/metrics"), Server().receive, send)
            while not slow.entered.is_set():
                await trio.sleep(0.001)
            slow.event.set()

    trio.run(main)
    assert [message.get("status") for message in sent] == [200, None]


def test_scrape_on_an_unknown_event_loop_is_answered_without_a_thread(registry: CollectorRegistry) -> None:
    """The coroutine is driven without an event loop."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    coroutine: Any = make_asgi_app(registry)(scope_of("/metrics"), Server().receive, send)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert sent[0]["status"] == 200


def test_failed_scrape_is_a_500() -> None:
    """The source is not a registry, so there is nothing else to expose."""

    class Broken:
        def collect(self) -> Iterable[Any]:
            raise ValueError("secret")

    server = scrape(make_asgi_app(Broken()))
    assert server.status == 500
    assert b"secret" not in server.body


FORKED = """
    import asyncio, os, sys
    from prometheus_client import CollectorRegistry
    from web_prom import make_asgi_app
    app = make_asgi_app(CollectorRegistry())
    def scrape():
        sent = []
        async def send(message):
            sent.append(message)
        async def receive():
            return {"type": "http.request"}
        scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": []}
        asyncio.run(asyncio.wait_for(app(scope, receive, send), 60))
        assert sent[0]["status"] == 200
    scrape()
    child = os.fork()
    if not child:
        try:
            scrape()
        except BaseException:
            os._exit(1)
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""


@pytest.mark.slow
def test_forked_child_starts_its_own_threads() -> None:
    assert python(FORKED).strip() == "0"


# make_asgi_app ---------------------------------------------------------------------------------------


def test_make_asgi_app_can_be_mounted_at_any_path(registry: CollectorRegistry) -> None:
    app = web_prom.make_asgi_app(registry)
    for path, root_path in (("/", ""), ("/metrics", ""), ("/a/metrics", "/a"), ("", "/metrics")):
        assert scrape(app, path, root_path=root_path).status == 200


def test_make_asgi_app_can_disable_compression(registry: CollectorRegistry) -> None:
    gzipped = headers_of(Accept_Encoding="gzip")
    assert "content-encoding" in scrape(make_asgi_app(registry), headers=gzipped).headers
    assert "content-encoding" not in scrape(make_asgi_app(registry, True), headers=gzipped).headers


def test_make_asgi_app_handles_lifespan_events(registry: CollectorRegistry) -> None:
    """A server starts it and stops it."""
    server = Server([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    server.run(make_asgi_app(registry), {"type": "lifespan"})
    assert server.sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


def test_make_asgi_app_rejects_other_connection_types(registry: CollectorRegistry) -> None:
    scope: Scope = {"type": "websocket"}
    with pytest.raises(ValueError, match="websocket"):
        Server().run(make_asgi_app(registry), scope)


MERGED = """
    import asyncio, os, sys
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
    from web_prom.asgi import PrometheusMiddleware
    async def hello(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
    app = PrometheusMiddleware(hello)
    def get(path):
        sent = []
        async def send(message):
            sent.append(message)
        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        asyncio.run(app(scope, None, send))
        return sent[1]["body"].decode()
    children = []
    for _ in range(3):
        child = os.fork()
        if not child:
            get("/")
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    print([line for line in get("/metrics").splitlines() if line.startswith("http_requests_total")])
"""


@pytest.mark.slow
def test_make_asgi_app_reports_the_totals_of_all_workers(tmp_path: Path) -> None:
    printed = python(MERGED, str(tmp_path))
    assert printed.strip() == """['http_requests_total{method="GET",route="_unmatched",status="200"} 3.0']"""


def test_fault_71_large_response_is_sent_in_chunks(registry: CollectorRegistry) -> None:
    """A server buffers what it cannot send at once."""
    counter = Counter("shop_orders", "Help.", ["customer"], registry=registry)
    for number in range(20_000):
        counter.labels(f"customer-{number}-of-a-shop-with-many-customers").inc()
    server = Server()
    server.run(make_asgi_app(registry), scope_of("/metrics"))
    start, *pieces = server.sent
    assert len(pieces) > 3
    assert all(type(piece["body"]) is bytes and len(piece["body"]) <= 262_144 for piece in pieces)
    assert [piece.get("more_body", False) for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    length = dict(start["headers"])[b"content-length"]
    assert sum(len(piece["body"]) for piece in pieces) == int(length)
    assert pieces[-1]["body"].endswith(b"\n")


def test_fault_62_scrape_is_answered_in_the_event_loop_if_no_thread_starts(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a process no thread can be started."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    monkeypatch.setattr("web_prom.asgi.endpoint._executor", lambda: pool)
    answer = scrape(make_asgi_app(registry))
    assert answer.status == 200
    assert b"web_prom_scrape_series" in answer.body
