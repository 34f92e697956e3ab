"""Scrapes of a Flask application: the context of collectors and callbacks, and its teardown."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, current_app, g
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily

from flask_prom import FlaskProm
from tests.web_prom.http_server.serving import ask
from tests.web_prom.support import serve
from web_prom import make_wsgi_app, start_http_server

from .conftest import MakeApp, Metrics


class Users:
    """A custom collector that uses the application context."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def describe(self) -> list[Any]:
        """Return no names."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield the length of a list in the application's configuration."""
        self.threads.append(threading.current_thread())
        yield GaugeMetricFamily("users", "Help.", value=count_users())


def count_users() -> float:
    """Return the number of users of the current application, and use its ``g``."""
    g.session = "open"
    return float(len(current_app.config["USERS"]))


def of_client(app: Flask, registry: CollectorRegistry) -> str:
    text: str = app.test_client().get("/metrics").text
    return text


def of_mounted(app: Flask, registry: CollectorRegistry) -> str:
    return serve(make_wsgi_app(registry), "/").decode()


def of_a_port(app: Flask, registry: CollectorRegistry) -> str:
    server, _ = start_http_server(0, "127.0.0.1", registry)
    try:
        return ask(server.server_port)[2].decode()
    finally:
        server.shutdown()


@pytest.mark.parametrize("scrape", [of_client, of_mounted, of_a_port])
def test_fault_46_collectors_and_callbacks_run_in_the_application_context(
    registry: CollectorRegistry, make_app: MakeApp, scrape: Any
) -> None:
    """Each thread has a context, whose teardown returns the database session."""
    app = make_app()
    app.config["USERS"] = ["ann", "bob"]
    torn_down: list[tuple[threading.Thread, Any]] = []

    @app.teardown_appcontext
    def give_back(_: BaseException | None) -> None:
        torn_down.append((threading.current_thread(), g.pop("session", None)))

    users = Users()
    registry.register(users)
    Gauge("pool", "Help.", registry=registry).set_function(count_users)
    lines = scrape(app, registry).splitlines()
    assert {"users 2.0", "pool 2.0"} <= set(lines)
    assert not any(line.startswith("web_prom_instrumentation_errors_total{") for line in lines)
    assert [session for _, session in torn_down] == ["open", "open"]
    threads = {thread for thread, _ in torn_down}
    assert len(threads) == 2
    assert users.threads[0] in threads


def test_fault_46_context_is_of_the_application_that_answers(registry: CollectorRegistry) -> None:
    """Two applications may share a registry. Each answers in its own context."""
    Gauge("users", "Help.", registry=registry).set_function(lambda: float(current_app.config["USERS"]))
    apps = []
    for number in (1, 2):
        app = Flask(f"app{number}")
        app.config["USERS"] = number
        FlaskProm(app, registry=registry)
        apps.append(app)
    found = [of_client(app, registry).splitlines() for app in apps]
    assert ["users 1.0" in lines for lines in found] == [True, False]
    assert ["users 2.0" in lines for lines in found] == [False, True]
    assert "users 1.0" in of_mounted(apps[0], registry).splitlines()


def test_fault_46_exception_of_a_teardown_does_not_fail_the_scrape(
    make_app: MakeApp, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()

    @app.teardown_appcontext
    def fail(_: BaseException | None) -> None:
        raise RuntimeError("teardown")

    assert app.test_client().get("/metrics").status_code == 200
    assert metrics.errors == {("scrape context",): 1}
    assert "scrape context failed" in caplog.text


def test_fault_46_scrape_inside_another_context_does_not_change_it(
    registry: CollectorRegistry, make_app: MakeApp
) -> None:
    app = make_app()
    with app.app_context():
        g.mine = 1
        assert app.test_client().get("/metrics").status_code == 200
        assert g.mine == 1


def make_and_drop(registry: CollectorRegistry) -> Callable[[], Flask | None]:
    app = Flask("shop")
    FlaskProm(app, registry=registry)
    app.test_client().get("/metrics")
    return weakref.ref(app)


def test_fault_46_dropped_application_is_freed(registry: CollectorRegistry) -> None:
    """The registry still exists. Its scrapes are answered without the context."""
    found = make_and_drop(registry)
    gc.collect()
    assert found() is None
    assert serve(make_wsgi_app(registry), "/")
