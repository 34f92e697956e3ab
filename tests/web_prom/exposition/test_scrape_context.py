"""Context managers around scrapes: where they are entered, in which order, and what their errors do."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily

from tests.web_prom.asgi import asgi_server
from tests.web_prom.http_server.serving import ask
from tests.web_prom.support import hello, serve
from web_prom import PrometheusMiddleware, make_asgi_app, make_wsgi_app, start_http_server
from web_prom.asgi import PrometheusMiddleware as ASGIMiddleware
from web_prom.exposition.scrape_context import _process_factories, scrape_context


class Recorded:
    """A factory of context managers that notes each enter and exit, with its thread."""

    def __init__(self, name: str = "context", *, fails: str = "") -> None:
        self.name = name
        self.fails = fails
        self.steps: list[tuple[str, threading.Thread]] = []
        self.errors: list[BaseException | None] = []
        self.local = threading.local()

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Note the enter and the exit."""
        self._note("enter")
        self.local.inside = True
        try:
            yield
        except Exception as error:
            self.errors.append(error)
            raise
        finally:
            self.local.inside = False
            self._note("exit")

    @property
    def is_inside(self) -> bool:
        """Whether the current thread is inside."""
        return getattr(self.local, "inside", False)

    def _note(self, step: str) -> None:
        self.steps.append((step, threading.current_thread()))
        if step == self.fails:
            raise RuntimeError(step)


class Collector:
    """A custom collector that calls a function."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.threads: list[threading.Thread] = []

    def describe(self) -> list[Any]:
        """Return no names."""
        return []

    def collect(self) -> Iterator[Any]:
        """Call the function and yield its result."""
        self.threads.append(threading.current_thread())
        yield GaugeMetricFamily("collected", "Help.", value=float(self.act()))  # type: ignore[arg-type]


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Return a context that every scrape of the process enters."""
    recorded = Recorded()
    scrape_context(recorded.enter)
    yield recorded
    _process_factories.remove(recorded.enter)


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of the test's own."""
    return CollectorRegistry()


def of_asgi(app: Any) -> str:
    return asgi_server.Server().run(app, asgi_server.scope_of("/metrics")).decode()


def of_a_port(registry: CollectorRegistry) -> str:
    server, _ = start_http_server(0, "127.0.0.1", registry)
    try:
        return ask(server.server_port)[2].decode()
    finally:
        server.shutdown()


EXPOSITIONS: dict[str, Callable[[CollectorRegistry], str]] = {
    "make_wsgi_app": lambda registry: serve(make_wsgi_app(registry), "/metrics").decode(),
    "make_asgi_app": lambda registry: of_asgi(make_asgi_app(registry)),
    "WSGI middleware": lambda registry: serve(
        PrometheusMiddleware(hello, registry=registry), "/metrics"
    ).decode(),
    "ASGI middleware": lambda registry: of_asgi(ASGIMiddleware(make_asgi_app(registry), registry=registry)),
    "start_http_server": of_a_port,
}


@pytest.mark.parametrize("exposition", EXPOSITIONS.values(), ids=EXPOSITIONS)
@pytest.mark.parametrize("of_registry", [False, True], ids=["process", "registry"])
def test_fault_46_context_is_entered_in_both_threads_of_each_endpoint(
    registry: CollectorRegistry, recorded: Recorded, exposition: Any, of_registry: bool
) -> None:
    """The answering thread and the collector's own thread, each on enter and on exit."""
    context = recorded
    if of_registry:
        context = Recorded()
        scrape_context(context.enter, registry)
    collector = Collector(lambda: context.is_inside)
    registry.register(collector)
    Gauge("asked", "Help.", registry=registry).set_function(lambda: context.is_inside)
    lines = exposition(registry).splitlines()
    assert "collected 1.0" in lines
    assert "asked 1.0" in lines
    assert [step for step, thread in context.steps if thread is collector.threads[0]] == ["enter", "exit"]
    answering = [(step, thread) for step, thread in context.steps if thread is not collector.threads[0]]
    assert [step for step, _ in answering] == ["enter", "exit"]
    assert len({thread for _, thread in answering}) == 1


def test_fault_46_context_is_entered_once_without_a_timeout(
    registry: CollectorRegistry, recorded: Recorded
) -> None:
    """With PROM_COLLECTOR_TIMEOUT=0 collectors run in the answering thread, inside its context."""
    registry.register(Collector(lambda: recorded.is_inside))
    app = PrometheusMiddleware(hello, registry=registry, collector_timeout=0)
    assert b"\ncollected 1.0\n" in serve(app, "/metrics")
    assert [step for step, _ in recorded.steps] == ["enter", "exit"]


def test_fault_46_access_control_runs_inside_the_context(
    registry: CollectorRegistry, recorded: Recorded
) -> None:
    """PROM_ALLOW_SCRAPE is user code as well; a refused scrape leaves the context too."""
    seen: list[bool] = []

    def refuse(_: Any) -> bool:
        seen.append(recorded.is_inside)
        return False

    serve(PrometheusMiddleware(hello, registry=registry, allow_scrape=refuse), "/metrics")
    assert seen == [True]
    assert [step for step, _ in recorded.steps] == ["enter", "exit"]


def test_fault_46_context_receives_the_error_of_a_collector(
    registry: CollectorRegistry, recorded: Recorded
) -> None:
    """A teardown function can roll back; the error is still counted as the collector's."""
    registry.register(Collector(lambda: 1 / 0))
    text = serve(make_wsgi_app(registry), "/metrics").decode()
    assert 'web_prom_instrumentation_errors_total{stage="collector Collector"} 1.0' in text.splitlines()
    assert [type(error) for error in recorded.errors] == [ZeroDivisionError]


@pytest.mark.parametrize("step", ["enter", "exit"])
def test_fault_46_failing_context_is_counted_and_the_scrape_continues(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    """The failure is counted and logged once. The other contexts are entered and exited."""
    bad, good = Recorded(fails=step), Recorded()
    scrape_context(bad.enter)
    scrape_context(good.enter)
    registry.register(Collector(lambda: good.is_inside))
    try:
        app = make_wsgi_app(registry)
        for _ in range(2):
            text = serve(app, "/metrics").decode()
            assert "collected 1.0" in text.splitlines()
    finally:
        _process_factories.remove(bad.enter)
        _process_factories.remove(good.enter)
    assert [each for each, _ in good.steps].count("exit") == 4
    counted = registry.get_sample_value("web_prom_instrumentation_errors_total", {"stage": "scrape context"})
    assert counted == 4  # two threads, two scrapes
    assert sum("scrape context failed" in message for message in caplog.messages) == 1


def test_fault_46_context_of_the_answering_application_replaces_that_of_the_registry(
    registry: CollectorRegistry,
) -> None:
    first, second = Recorded("first"), Recorded("second")
    scrape_context(first.enter, registry)
    scrape_context(second.enter, registry)
    scrape_context(first.enter, registry)
    serve(PrometheusMiddleware(hello, registry=registry, scrape_context=second.enter), "/metrics")
    assert (len(first.steps), len(second.steps)) == (0, 2)
    serve(make_wsgi_app(registry), "/metrics")
    assert (len(first.steps), len(second.steps)) == (2, 2)
    del first
    gc.collect()
    serve(make_wsgi_app(registry), "/metrics")
    assert len(second.steps) == 4


def test_fault_46_scrape_of_another_registry_does_not_enter_the_context(registry: CollectorRegistry) -> None:
    other = Recorded()
    scrape_context(other.enter, CollectorRegistry())
    serve(make_wsgi_app(registry), "/metrics")
    assert other.steps == []


def test_fault_46_function_can_be_a_context_factory(registry: CollectorRegistry) -> None:
    entered: list[int] = []

    @contextlib.contextmanager
    def factory() -> Iterator[None]:
        entered.append(1)
        yield

    scrape_context(factory, registry)
    serve(make_wsgi_app(registry), "/metrics")
    assert entered == [1]
