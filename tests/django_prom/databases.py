"""A project with a gauge and a collector that read a database, which can be restarted.

Tests run it in a process of its own. The arguments are an action (``scrapes`` or ``transactions``),
CONN_MAX_AGE and the file of the database. For each scrape it prints the endpoint, the values, and whether a
connection is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import django
from django.conf import settings
from prometheus_client import REGISTRY, Gauge
from prometheus_client.core import GaugeMetricFamily

ACTION, MAX_AGE, FILE = sys.argv[1:4]

urls = sys.modules["urls"] = ModuleType("urls")
backend = sys.modules["restarted.base"] = ModuleType("restarted.base")
sys.modules["restarted"] = ModuleType("restarted")
sys.modules["restarted"].__path__ = []

settings.configure(
    INSTALLED_APPS=["django_prom"],
    ROOT_URLCONF="urls",
    SECRET_KEY="tests",
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "restarted",
            "NAME": FILE,
            "CONN_MAX_AGE": None if MAX_AGE == "None" else int(MAX_AGE),
        }
    },
    PROM_COLLECTOR_TIMEOUT=60,
)

from django.db.backends.sqlite3 import base as sqlite  # noqa: E402

opened: list[Any] = []
restarts = 0


class DatabaseWrapper(sqlite.DatabaseWrapper):  # type: ignore[misc]
    """SQLite that behaves like a database server: after a restart older connections cannot be used."""

    def get_new_connection(self, conn_params: Any) -> Any:
        opened.append(self)
        self.made = restarts
        return super().get_new_connection(conn_params)

    def create_cursor(self, name: Any = None) -> Any:
        if not self.is_usable():
            raise sqlite.Database.OperationalError("server closed the connection unexpectedly")
        return super().create_cursor(name)

    def is_usable(self) -> bool:
        return bool(self.made == restarts)


backend.DatabaseWrapper = DatabaseWrapper  # type: ignore[attr-defined]
django.setup()

from asgiref.sync import async_to_sync  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import AsyncClient, Client, RequestFactory  # noqa: E402
from django.urls import include, path  # noqa: E402

from django_prom.views import metrics  # noqa: E402
from tests.web_prom.asgi import asgi_server  # noqa: E402
from tests.web_prom.support import hello, serve  # noqa: E402
from web_prom import PrometheusMiddleware, make_asgi_app, make_wsgi_app, start_http_server  # noqa: E402

urls.urlpatterns = [path("", include("django_prom.urls"))]  # type: ignore[attr-defined]


def ask() -> float:
    """Run a query."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 7")
        return float(cursor.fetchone()[0])


class Collector:
    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Any:
        yield GaugeMetricFamily("collected", "Help.", value=ask())


Gauge("asked", "Help.").set_function(ask)
REGISTRY.register(Collector())


def of_wsgi(app: Any) -> Callable[[], str]:
    return lambda: serve(app, "/metrics").decode()


def of_asgi(app: Any) -> Callable[[], str]:
    return lambda: asgi_server.Server().run(app, asgi_server.scope_of("/metrics")).decode()


def of_port() -> Callable[[], str]:
    server, _ = start_http_server(0, "127.0.0.1")

    def scrape() -> str:
        client = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        client.request("GET", "/metrics")
        text = client.getresponse().read().decode()
        client.close()
        return text

    return scrape


async def serve_asgi(app: Any) -> str:
    """Serve one scrape with Django's ASGI application, in the running loop."""
    sent: list[bytes] = []
    pending = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        return pending.pop() if pending else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    await app(asgi_server.scope_of("/metrics"), receive, send)
    return b"".join(sent).decode()


def of_django_asgi() -> Callable[[], str]:
    app, loop = get_asgi_application(), asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    # Several concurrent scrapes, so that several threads of the loop's pool answer.
    return lambda: [
        each.result(60)
        for each in [asyncio.run_coroutine_threadsafe(serve_asgi(app), loop) for _ in range(6)]
    ][-1]


def by_view() -> str:
    return str(metrics(RequestFactory().get("/metrics")).content.decode())


def by_client() -> str:
    return str(Client().get("/metrics").content.decode())


def by_async_client() -> str:
    return str(async_to_sync(AsyncClient().get)("/metrics").content.decode())


ENDPOINTS: dict[str, Callable[[], Callable[[], str]]] = {
    "django wsgi": lambda: of_wsgi(get_wsgi_application()),
    "no limit": lambda: of_wsgi(PrometheusMiddleware(hello, collector_timeout=0)),
    "django asgi": of_django_asgi,
    "view": lambda: by_view,
    "make_wsgi_app": lambda: of_wsgi(make_wsgi_app()),
    "make_asgi_app": lambda: of_asgi(make_asgi_app()),
    "start_http_server": of_port,
}


def scrape_often() -> None:
    """Scrape every endpoint ten times. The database restarts after the first scrape of each."""
    global restarts  # noqa: PLW0603
    for endpoint, prepare in ENDPOINTS.items():
        opened.clear()
        scrape = prepare()
        for number in range(10):
            if number == 1:
                restarts += 1
            lines = [line for line in scrape().splitlines() if line.startswith(("asked ", "collected "))]
            state = "open" if any(each.connection for each in opened) else "closed"
            print(endpoint, *sorted(lines), state, sep=",")


def keep_transactions() -> None:
    """Scrape during the transactions of this thread, which then continue."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (number INTEGER)")
    own = connection.connection
    for around in (transaction.atomic, _without_autocommit, contextlib.nullcontext):
        # Outside of a transaction, a call of the view closes old connections.
        by = (by_client, by_async_client, by_view)[: 2 if around is contextlib.nullcontext else 3]
        with around():
            _order()
            for scrape in by:
                assert "asked 7.0" in scrape().splitlines()
                assert connection.connection is own
                _order()
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM orders")
        print(cursor.fetchone()[0], "orders")


@contextlib.contextmanager
def _without_autocommit() -> Any:
    transaction.set_autocommit(False)
    yield
    transaction.commit()
    transaction.set_autocommit(True)


def _order() -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (1)")


{"scrapes": scrape_often, "transactions": keep_transactions}[ACTION]()
