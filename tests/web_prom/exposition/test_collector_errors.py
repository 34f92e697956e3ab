"""Exceptions that end a process, in collectors and in callbacks of gauges."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily

from tests.web_prom.support import environ_of
from web_prom.config import Config
from web_prom.exposition.http import Exposition


class Collecting:
    """A collector that calls a function between two families."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def collect(self) -> Iterator[Any]:
        yield GaugeMetricFamily("collecting_first", "Help.", value=1)
        self._function()
        yield GaugeMetricFamily("collecting_last", "Help.", value=1)


def leave() -> float:
    raise SystemExit("leave")


def respond(registry: CollectorRegistry, timeout: float) -> str:
    """Return the body of a scrape."""
    exposition = Exposition(registry, Config(collector_timeout=timeout))
    response = exposition.respond(environ_of("/metrics"))
    assert response.status == "200 OK"
    return response.body.decode()


def counted(body: str) -> dict[str, float]:
    """Return the counted failures of a scrape by collector."""
    lines = re.findall(r'errors_total\{stage="collector (\w+)"\} (.*)', body)
    return {name: float(value) for name, value in lines}


@pytest.mark.parametrize("timeout", [0, 60])
def test_system_exit_of_a_collector_is_counted(timeout: float, registry: CollectorRegistry) -> None:
    """With a thread and without one, only the families of the collector are missing."""
    Gauge("other", "Help.", registry=registry).set(7)
    registry.register(Collecting(leave))
    body = respond(registry, timeout)
    assert "\nother 7.0\n" in body
    assert "collecting_" not in body
    assert counted(body) == {"Collecting": 1}


def test_system_exit_of_a_collector_without_a_thread_is_counted(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread can be started, for example at the end of a process."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    registry.register(Collecting(leave))
    monkeypatch.setattr("web_prom.exposition.collector_threads.threading.Thread", refuse)
    body = respond(registry, 60)
    assert counted(body) == {"Collecting": 1}


def test_system_exit_of_a_callback_is_counted(registry: CollectorRegistry) -> None:
    Gauge("other", "Help.", registry=registry).set(7)
    Gauge("leaving", "Help.", registry=registry).set_function(leave)
    assert "\nother 7.0\n" in respond(registry, 60)
    # The first failure registers the counter, which the second scrape shows.
    assert counted(respond(registry, 60)) == {"leaving": 2}


class Handler:
    """A signal handler that is an object with methods."""

    def __call__(self, number: int, frame: Any) -> None:
        raise SystemExit("stopped")

    def method(self, number: int, frame: Any) -> None:
        raise SystemExit("stopped")


def stop(number: int, frame: Any) -> None:
    raise SystemExit("stopped")


@pytest.fixture(params=[stop, Handler(), Handler().method], ids=["function", "object", "method"])
def handled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Install a handler of SIGUSR1 that raises SystemExit, as a server does to stop a worker."""
    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGUSR1, request.param)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("handled")
def test_system_exit_of_a_signal_handler_ends_the_scrape(registry: CollectorRegistry) -> None:
    """The server stops the process while a collector runs in the answering thread."""
    registry.register(Collecting(lambda: signal.raise_signal(signal.SIGUSR1)))
    with pytest.raises(SystemExit, match="stopped"):
        respond(registry, 0)
