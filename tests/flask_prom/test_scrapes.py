"""Scrapes of a Flask application: what collectors and callbacks find, and what is cleaned up after them."""

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
    """A custom collector that asks the application."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def describe(self) -> list[Any]:
        """Name nothing."""
        return []

    def collect(self) -> Iterator[Any]:
        """Give the length of a list in the application's configuration."""
        self.threads.append(threading.current_thread())
        yield GaugeMetricFamily("users", "Help.", value=count_users())


def count_users() -> float:
    """Return what the current application has, and use its ``g``."""
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
    """In each thread, with a teardown in each thread that hands the session back."""
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
    """Two applications may share a registry; each answers for itself."""
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
    """The registry lives on, and its scrapes go on without the context."""
    found = make_and_drop(registry)
    gc.collect()
    assert found() is None
    assert serve(make_wsgi_app(registry), "/")
