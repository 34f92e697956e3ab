"""The live page where applications answer scrapes: WSGI, ASGI, Flask and the exporter; remote services."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry, generate_latest

import web_prom
from flask_prom import FlaskProm
from tests.web_prom.asgi.asgi_server import Server as ASGIServer
from tests.web_prom.asgi.asgi_server import chunk, scope_of, sending, start
from tests.web_prom.live.support import valid
from tests.web_prom.support import Server, environ_of, hello, in_progress, python, requests
from web_prom import PrometheusMiddleware
from web_prom.asgi import PrometheusMiddleware as ASGIMiddleware
from web_prom.asgi import make_live_app as make_asgi_live_app
from web_prom.config.exporter_settings import load_exporter_config
from web_prom.errors import SnapshotError
from web_prom.exporter.directory_app import DirectoryMetricsApp
from web_prom.live import remote_source, take_snapshot
from web_prom.live.keeper import HistoryKeeper

FILES = ("/live/", "/live/snapshot.json", "/live/history.json")
OPEN: dict[str, Any] = {"live": True, "allowed_networks": "127.0.0.1,10.0.0.0/8"}


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[HistoryKeeper]:
    """Keep the keepers that were started. They start no thread here."""
    found: list[HistoryKeeper] = []

    def keep(keeper: HistoryKeeper) -> None:
        found.append(keeper)

    monkeypatch.setattr(HistoryKeeper, "start", keep)
    return found


def ask_wsgi(app: Any, path: str, **more: Any) -> tuple[str, bytes]:
    server = Server()
    body = server.run(app, environ_of(path, REMOTE_ADDR="127.0.0.1", **more))
    return str(server.status)[:3], body


def ask_asgi(app: Any, path: str, **more: Any) -> tuple[str, bytes]:
    server = ASGIServer()
    server.run(app, scope_of(path=path, client=("127.0.0.1", 1), headers=[], **more))
    status = next(message["status"] for message in server.sent if "status" in message)
    return str(status), b"".join(message.get("body", b"") for message in server.sent)


def test_wsgi_middleware_shows_the_page(registry: CollectorRegistry, started: list[HistoryKeeper]) -> None:
    app = PrometheusMiddleware(hello, registry=registry, **OPEN)
    assert ask_wsgi(app, "/")[0] == "200"
    assert started
    assert [ask_wsgi(app, path)[0] for path in FILES] == ["200", "200", "200"]
    snapshot = valid(json.loads(ask_wsgi(app, "/live/snapshot.json", SCRIPT_NAME="/shop")[1]))
    assert sum(sum(row["counts"]) for row in snapshot["requests"]["routes"]) == 1
    assert ask_wsgi(app, "/live")[0] == "308"
    # The page's own requests are no requests of the application.
    assert requests(registry) == {("GET", "_unmatched", "200"): 1}
    assert (in_progress(registry), snapshot["requests"]["in_progress"]) == (0, 0)


def test_wsgi_middleware_leaves_other_paths_to_the_application(registry: CollectorRegistry) -> None:
    app = PrometheusMiddleware(hello, registry=registry, **OPEN)
    for path in ("/lively", "/live/other", "/x/live"):
        assert ask_wsgi(app, path)[1] == b"hello"


def test_wsgi_middleware_has_the_page_at_another_path(registry: CollectorRegistry) -> None:
    app = PrometheusMiddleware(hello, registry=registry, live_path="/internal/now", **OPEN)
    assert ask_wsgi(app, "/internal/now/")[0] == "200"
    assert ask_wsgi(app, "/live/")[1] == b"hello"
    assert b"# TYPE" in ask_wsgi(app, "/metrics")[1]


@pytest.mark.parametrize("more", [{}, {"root_path": "/shop", "path": "/shop/live/snapshot.json"}])
def test_asgi_middleware_shows_the_page(
    registry: CollectorRegistry, started: list[HistoryKeeper], more: dict[str, Any]
) -> None:
    app = ASGIMiddleware(sending(start(), chunk(b"x")), registry=registry, **OPEN)
    assert ask_asgi(app, "/")[0] == "200"
    assert started
    status, body = ask_asgi(app, **{"path": "/live/snapshot.json", **more})
    assert status == "200"
    assert sum(sum(row["counts"]) for row in valid(json.loads(body))["requests"]["routes"]) == 1
    assert requests(registry) == {("GET", "_unmatched", "200"): 1}
    assert in_progress(registry) == 0


def test_asgi_page_reads_a_session_of_repeated_cookie_headers(registry: CollectorRegistry) -> None:
    app = ASGIMiddleware(sending(start()), registry=registry, live=True, bearer_token="s3cret")

    def ask(path: str, *headers: tuple[bytes, bytes]) -> ASGIServer:
        server = ASGIServer()
        server.run(app, scope_of(path=path, headers=list(headers)))
        return server

    begun = ask("/live/session", (b"authorization", b"Bearer s3cret"))
    cookie = begun.headers["set-cookie"].partition(";")[0].encode()
    shown = ask("/live/snapshot.json", (b"cookie", b"a=1"), (b"cookie", cookie), (b"cookie", b"b=2"))
    assert shown.status == 200
    assert ask("/live/snapshot.json", (b"cookie", b"a=1")).status == 401


def test_live_apps_can_be_mounted_anywhere(registry: CollectorRegistry) -> None:
    wsgi = web_prom.make_live_app(registry, public=True)
    asgi = make_asgi_live_app(registry, public=True)
    for ask, app in ((ask_wsgi, wsgi), (ask_asgi, asgi)):
        assert ask(app, "/")[0] == "200"
        assert json.loads(ask(app, "/snapshot.json")[1])["version"] == 1
        assert ask(app, "/other")[0] == "404"
    assert ask_wsgi(wsgi, "", SCRIPT_NAME="/page")[0] == "308"
    assert ask_asgi(asgi, "/page/snapshot.json", root_path="/page")[0] == "200"


def test_flask_shows_the_page_in_debug_mode_or_with_access_control(registry: CollectorRegistry) -> None:
    app = Flask(__name__)
    app.config["PROM_LIVE"] = True
    FlaskProm(app, registry=registry)
    client = app.test_client()
    refused = client.get("/live/")
    assert (refused.status_code, "PROM_BASIC_AUTH_FILE" in refused.text) == (403, True)
    app.debug = True
    assert [client.get(path).status_code for path in FILES] == [200, 200, 200]
    assert client.get("/live").headers["Location"] == "live/"
    assert requests(registry) == {}


def test_numbers_of_the_page_are_those_of_the_scrape(registry: CollectorRegistry) -> None:
    app = PrometheusMiddleware(hello, registry=registry, **OPEN)
    for _ in range(7):
        ask_wsgi(app, "/")
    snapshot = json.loads(ask_wsgi(app, "/live/snapshot.json")[1])
    text = ask_wsgi(app, "/metrics")[1]
    assert snapshot["requests"] == take_snapshot(text)["requests"]


def test_exporter_shows_the_page(tmp_path: Path, started: list[HistoryKeeper]) -> None:
    environ = {"PROM_LIVE": "1", "PROM_ALLOWED_NETWORKS": "127.0.0.1"}
    app = DirectoryMetricsApp(tmp_path, load_exporter_config(environ))
    assert started
    for path in (*FILES, "/live/other"):
        response = app(environ_of(path, REMOTE_ADDR="127.0.0.1"))
        assert response.status[:3] == ("404" if "other" in path else "200")
        assert app(environ_of(path, REMOTE_ADDR="192.0.2.1")).status[:3] == "403"
    assert not any(tmp_path.iterdir())
    closed = DirectoryMetricsApp(tmp_path, load_exporter_config({"PROM_LIVE": "1"}))
    assert b"PROM_BASIC_AUTH_FILE" in closed(environ_of("/live/")).body
    off = DirectoryMetricsApp(tmp_path, load_exporter_config({}))
    assert off(environ_of("/live/")).status[:3] == "404"


@pytest.mark.slow
def test_off_imports_nothing() -> None:
    """Neither in a middleware nor in Flask nor in the exporter."""
    code = """
        import sys
        from pathlib import Path
        from flask import Flask
        import web_prom.asgi
        from flask_prom import FlaskProm
        from web_prom.config.exporter_settings import load_exporter_config
        from web_prom.exporter.directory_app import DirectoryMetricsApp

        app = Flask("shop")
        FlaskProm(app)
        client = app.test_client()
        client.get("/"), client.get("/metrics")
        web_prom.asgi.PrometheusMiddleware(app)
        DirectoryMetricsApp(Path("."), load_exporter_config({}))
        assert type(app.wsgi_app.__self__._scrape_paths) is tuple
        print([name for name in sys.modules if name.startswith("web_prom.live") or "advice" in name])
    """
    assert python(code).strip() == "[]"


# Remote services ---------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        kind, body, encoding = "text/plain; version=0.0.4", b"# TYPE a counter\na_total 1\n", ""
        if self.path == "/html":
            kind = "text/html"
        elif self.path == "/words":
            body = b"Hello, world.\n"
        elif self.path == "/large":
            body = b"#" * 1_000_001
        elif self.path == "/bomb":
            body, encoding = gzip.compress(b"#" * 1_000_001), "gzip"
        elif self.path == "/secret":
            self.send_error(401)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    """Return the address of a server of metrics of all kinds."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_remote_snapshot_is_that_of_the_service(address: str) -> None:
    snapshot = valid(take_snapshot(f"{address}/metrics"))
    assert snapshot["title"] == f"{address}/metrics"
    assert snapshot["own"][0]["series"] == [{"labels": [], "value": 1}]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("html", "is no page of metrics: its type is text/html"),
        ("large", "the answer is longer than 1 MB"),
        ("bomb", "the answer is longer than 1 MB"),
        ("secret", "answered 401 Unauthorized; give what it asks for"),
    ],
)
def test_remote_error_is_a_sentence(
    address: str, path: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web_prom.live.remote.MAX_BYTES", 1_000_000)
    source = remote_source(f"{address}/{path}", timeout=30)
    for _ in range(2):
        with pytest.raises(SnapshotError) as caught:
            source.snapshot()
        assert text in str(caught.value)


def test_remote_service_that_hangs_is_asked_once() -> None:
    """The queue of the listening socket accepts the connection, and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = remote_source(f"http://127.0.0.1:{silent.getsockname()[1]}/metrics", timeout=0.2)
        for _ in range(5):
            with pytest.raises(SnapshotError, match=r"did not answer within 0\.2 s"):
                source.snapshot()
        silent.accept()[0].close()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_remote_page_that_is_no_metrics_names_the_line(address: str) -> None:
    with pytest.raises(ValueError, match=r"Hello, world\."):
        take_snapshot(f"{address}/words")


def test_remote_service_that_is_not_there(address: str) -> None:
    with pytest.raises(SnapshotError, match="cannot be reached"):
        take_snapshot("http://127.0.0.1:1/metrics")


@pytest.mark.parametrize(
    "url", ["http://", "http://x:99999/", "http://x y/", "http://x/\u00a0", "https://:1/"]
)
def test_remote_url_is_checked(url: str) -> None:
    with pytest.raises(SnapshotError, match="is no URL of metrics"):
        remote_source(url)


def test_snapshot_of_a_text_is_that_of_its_registry(registry: CollectorRegistry) -> None:
    ask_wsgi(PrometheusMiddleware(hello, registry=registry), "/")
    assert take_snapshot(generate_latest(registry))["requests"] == take_snapshot(registry)["requests"]
