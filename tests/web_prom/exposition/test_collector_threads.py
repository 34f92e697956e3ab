"""Custom collectors run concurrently in threads of their own, and none delays a scrape for long."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Info
from prometheus_client.core import GaugeMetricFamily

from flask_prom import FlaskProm
from tests.web_prom.asgi import asgi_server
from tests.web_prom.http_server.serving import ask
from tests.web_prom.support import environ_of, hello, python, serve
from web_prom import PrometheusMiddleware, make_asgi_app, make_wsgi_app, start_http_server
from web_prom.asgi import PrometheusMiddleware as ASGIMiddleware
from web_prom.config import Config
from web_prom.exposition.http import Exposition
from web_prom.exposition.scrape_context import scrape_context

PATIENCE_SECONDS = 60.0
# An immediate answer never takes that long, and no test waits for this timeout.
LONG = PATIENCE_SECONDS
# A test that waits for this timeout waits for nothing else.
SHORT = 0.05

TIMEOUT_MESSAGE = "it takes longer than PROM_COLLECTOR_TIMEOUT allows"


class RecordingCollector:
    """A collector of one gauge that records the threads of its calls."""

    def __init__(self, name: str, value: float = 1, act: Callable[[], object] = int) -> None:
        self.name, self.value, self._act = name, value, act
        self.threads: list[threading.Thread] = []
        self.called = threading.Event()

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        self.threads.append(threading.current_thread())
        self.called.set()
        yield GaugeMetricFamily(f"{self.name}_first", "Help.", value=0)
        self._act()
        yield GaugeMetricFamily(self.name, "Help.", value=self.value)


class BlockingCollector(RecordingCollector):
    """A collector that blocks between two families until an event is set."""

    def __init__(self, name: str = "hanging") -> None:
        self.let = threading.Event()
        super().__init__(name, act=lambda: self.let.wait(PATIENCE_SECONDS))


@pytest.fixture
def hanging() -> Iterator[BlockingCollector]:
    """Return a collector that blocks until the end of the test."""
    made = BlockingCollector()
    yield made
    made.let.set()
    for thread in made.threads:
        assert thread.daemon


def register_and_expose(
    registry: CollectorRegistry, *collectors: Any, limit: float = LONG
) -> Callable[[], dict[str, float]]:
    """Register collectors, and return a function that scrapes them and returns values by name and labels."""
    for collector in collectors:
        registry.register(collector)
    exposition = Exposition(registry, Config(collector_timeout=limit))

    def scrape() -> dict[str, float]:
        return values(exposition.respond(environ_of("/metrics")).body.decode())

    return scrape


def values(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def failures(scrape: dict[str, float]) -> dict[str, float]:
    """Return the counted failures in a scrape by collector."""
    prefix = 'web_prom_instrumentation_errors_total{stage="collector '
    return {name[len(prefix) : -2]: value for name, value in scrape.items() if name.startswith(prefix)}


def test_late_collector_is_counted_and_only_its_families_are_missing(
    registry: CollectorRegistry, hanging: BlockingCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """Families that it has yielded already are missing too. The failure is counted in the same scrape."""
    scrape = register_and_expose(registry, hanging, RecordingCollector("other", 7), limit=2.0)
    Counter("jobs", "Jobs.", registry=registry).inc(3)
    found = scrape()
    assert found["other"] == 7
    assert found["jobs_total"] == 3
    assert not {"hanging", "hanging_first"} & found.keys()
    assert failures(found) == {"BlockingCollector": 1}
    (record,) = caplog.records
    assert record.exc_info is not None
    assert TIMEOUT_MESSAGE in str(record.exc_info[1])


def test_late_collector_is_not_called_again_before_it_ends(
    registry: CollectorRegistry, hanging: BlockingCollector
) -> None:
    """Scrapes meanwhile do not contain it and count the failure. Later scrapes contain it."""
    scrape = register_and_expose(registry, hanging, limit=SHORT)
    assert [failures(scrape()) for _ in range(3)] == [{"BlockingCollector": count} for count in (1, 2, 3)]
    assert hanging.called.wait(PATIENCE_SECONDS)
    assert len(hanging.threads) == 1
    hanging.let.set()
    more, found = 1, scrape()
    while "hanging" not in found:  # it may not have ended yet, or be late again on a busy machine
        more, found = more + 1, scrape()
    assert found["hanging_first"] == 0
    assert len(hanging.threads) <= 1 + more, "nothing was kept for later"
    assert hanging.threads[0] is hanging.threads[-1]


def test_late_collector_is_logged_once_with_the_remedy(
    registry: CollectorRegistry, hanging: BlockingCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """A scraper comes every few seconds. Another kind of failure of the same collector is logged too."""
    scrape = register_and_expose(registry, hanging, limit=SHORT)
    for _ in range(3):
        scrape()
    (record,) = caplog.records
    assert "collector BlockingCollector failed" in record.getMessage()
    assert record.exc_info is not None
    assert "set a timeout for the operation that it waits for" in str(record.exc_info[1])
    hanging.value = "no number"  # type: ignore[assignment]
    hanging.let.set()
    while len(caplog.records) == 1:
        scrape()
    assert caplog.records[1].exc_info is not None
    assert caplog.records[1].exc_info[0] is ValueError


def test_collectors_run_concurrently(registry: CollectorRegistry) -> None:
    """None of the three collectors ends before the other two run."""
    together = threading.Barrier(3, timeout=PATIENCE_SECONDS)
    scrape = register_and_expose(registry, *(RecordingCollector(name, act=together.wait) for name in "abc"))
    found = scrape()
    assert {"a", "b", "c"} <= found.keys()
    assert failures(found) == {}


def test_families_are_in_the_order_of_the_registry(registry: CollectorRegistry) -> None:
    """The order in which the collectors end has no effect."""
    last = threading.Event()
    slow, quick = (
        RecordingCollector("slow", act=lambda: last.wait(PATIENCE_SECONDS)),
        RecordingCollector("quick", act=last.set),
    )
    found = list(register_and_expose(registry, slow, quick)())
    assert found[:4] == ["slow_first", "slow", "quick_first", "quick"]


def test_collector_keeps_its_thread_between_scrapes(registry: CollectorRegistry) -> None:
    """Thread-local objects, for example a connection, are reused."""
    one, other = RecordingCollector("one"), RecordingCollector("other")
    scrape = register_and_expose(registry, one, other)
    for _ in range(3):
        scrape()
    assert len(one.threads) == 3
    assert len(set(one.threads)) == len(set(other.threads)) == 1
    assert one.threads[0] is not other.threads[0]
    assert one.threads[0].name == "web-prom-collector-RecordingCollector"


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3)])
def test_failing_collector_gets_a_new_thread(registry: CollectorRegistry, error: BaseException) -> None:
    """A thread-local connection may be the cause of the failure. No exception ends the scrape."""
    failing: list[BaseException] = [error]

    def act() -> None:
        if failing:
            raise failing.pop()

    collector = RecordingCollector("one", act=act)
    scrape = register_and_expose(registry, collector)
    assert failures(scrape()) == {"RecordingCollector": 1}
    assert scrape()["one"] == 1
    assert len(set(collector.threads)) == 2
    collector.threads[0].join(PATIENCE_SECONDS)
    assert not collector.threads[0].is_alive()


def test_no_thread_is_started_without_custom_collectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instruments and the collectors of prometheus_client need no thread."""
    from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a thread was made")

    monkeypatch.setattr("web_prom.exposition.collector_threads.threading.Thread", refuse)
    registry = CollectorRegistry(target_info={"env": "prod"})
    Info("build", "Help.", registry=registry).info({"version": "7"})
    Counter("jobs", "Jobs.", registry=registry)
    found = register_and_expose(registry, GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR)()
    assert found.keys() >= {"jobs_total", 'build_info{version="7"}', 'target_info{env="prod"}'}
    assert failures(found) == {}


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_fault_62_collector_runs_in_the_thread_of_the_scrape_if_none_can_be_started(
    error: Exception, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its families are in each answer with status 200, also at the end of a process.

    It runs inside the context of the scrape, which is not entered again.
    """
    inside: list[str] = []

    @contextlib.contextmanager
    def surrounding() -> Iterator[None]:
        inside.append("enter")
        yield
        inside.append("leave")

    scrape_context(surrounding, registry)

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    one = RecordingCollector("one", act=lambda: inside.append("collect"))
    two = RecordingCollector("two", act=lambda: 1 / 0)
    scrape = register_and_expose(registry, one, two)
    monkeypatch.setattr("web_prom.exposition.collector_threads.threading.Thread", refuse)
    found = scrape()
    assert found["one"] == 1
    assert failures(found) == {"RecordingCollector": 1}
    assert one.threads == [threading.current_thread()]
    assert inside == ["enter", "collect", "leave"]
    monkeypatch.undo()
    assert scrape()["one"] == 1
    assert one.threads[1] is not threading.current_thread()


def test_timeout_of_zero_starts_no_thread(registry: CollectorRegistry) -> None:
    """The collector sees, for example, the database transaction of a test."""
    one = RecordingCollector("one")
    register_and_expose(registry, one, limit=0)()
    assert one.threads == [threading.current_thread()]


def test_collector_sees_the_context_variables_of_the_scrape(registry: CollectorRegistry) -> None:
    """As if it ran in the thread of the scrape."""
    tenant = contextvars.ContextVar("tenant", default="none")
    seen: list[str] = []
    scrape = register_and_expose(registry, RecordingCollector("one", act=lambda: seen.append(tenant.get())))
    for name in ("a", "b"):
        token = tenant.set(name)
        scrape()
        tenant.reset(token)
    assert seen == ["a", "b"]


def test_threads_end_when_collector_or_exposition_is_deleted(registry: CollectorRegistry) -> None:
    """The thread of an unregistered collector ends at the next scrape, all others with the exposition."""
    one, other = RecordingCollector("one"), RecordingCollector("other")
    scrape = register_and_expose(registry, one, other)
    scrape()
    registry.unregister(one)
    scrape()
    one.threads[0].join(PATIENCE_SECONDS)
    assert not one.threads[0].is_alive()
    assert other.threads[0].is_alive()
    del scrape
    gc.collect()
    other.threads[0].join(PATIENCE_SECONDS)
    assert not other.threads[0].is_alive()


def test_process_with_another_id_starts_its_own_threads(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if at-fork hooks do not run (uWSGI), so that the threads of the parent look alive."""
    one = RecordingCollector("one")
    scrape = register_and_expose(registry, one)
    scrape()
    monkeypatch.setattr("web_prom.exposition.collector_threads.os.getpid", lambda: -1)
    scrape()
    assert len(set(one.threads)) == 2


# Everywhere ------------------------------------------------------------------------------------------------


def of_asgi(app: Any) -> str:
    return asgi_server.Server().run(app, asgi_server.scope_of("/metrics")).decode()


def of_wsgi_app(registry: CollectorRegistry) -> str:
    return serve(make_wsgi_app(registry), "/metrics").decode()


def of_asgi_app(registry: CollectorRegistry) -> str:
    return of_asgi(make_asgi_app(registry))


def of_wsgi_middleware(registry: CollectorRegistry) -> str:
    return serve(PrometheusMiddleware(hello, registry=registry), "/metrics").decode()


def of_asgi_middleware(registry: CollectorRegistry) -> str:
    return of_asgi(ASGIMiddleware(make_asgi_app(registry), registry=registry))


def of_flask(registry: CollectorRegistry) -> str:
    from flask import Flask

    app = Flask("shop")
    FlaskProm(app, registry=registry)
    text: str = app.test_client().get("/metrics").text
    return text


def of_a_port(registry: CollectorRegistry) -> str:
    server, _ = start_http_server(0, "127.0.0.1", registry)
    try:
        return ask(server.server_port)[2].decode()
    finally:
        server.shutdown()


WAYS = [of_wsgi_app, of_asgi_app, of_wsgi_middleware, of_asgi_middleware, of_flask, of_a_port]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_timeout_applies_to_every_endpoint(
    registry: CollectorRegistry, hanging: BlockingCollector, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    """The timeout is read from the environment."""
    monkeypatch.setenv("PROM_COLLECTOR_TIMEOUT", str(SHORT))
    registry.register(hanging)
    found = values(way(registry))
    assert failures(found) == {"BlockingCollector": 1}
    assert "hanging" not in found


def test_timeout_is_an_argument_of_start_http_server(
    registry: CollectorRegistry, hanging: BlockingCollector
) -> None:
    """It is an argument of the middleware too."""
    registry.register(hanging)
    app = PrometheusMiddleware(hello, registry=registry, collector_timeout=SHORT)
    assert failures(values(serve(app, "/metrics").decode())) == {"BlockingCollector": 1}
    server, _ = start_http_server(0, "127.0.0.1", registry, collector_timeout=SHORT)
    try:
        assert failures(values(ask(server.server_port)[2].decode())) == {"BlockingCollector": 2}
    finally:
        server.shutdown()


PROGRAM = """
    import logging, os, sys, threading, warnings
    from prometheus_client import REGISTRY, Counter
    from prometheus_client.core import GaugeMetricFamily
    from web_prom.config import Config
    from web_prom.exposition.http import Exposition

    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    logging.disable()
    jobs = Counter("jobs", "Jobs.")
    let = threading.Event()

    class Depth:
        def describe(self):
            return []
        def collect(self):
            yield GaugeMetricFamily("depth", "Help.", value=os.getpid())

    class BlockingCollector(Depth):
        def collect(self):
            let.wait()
            yield GaugeMetricFamily("hanging", "Help.", value=1)

    def scrape(limit=60):
        body = Exposition(config=Config(collector_timeout=limit)).respond({}).body.decode()
        return {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in body.splitlines()}

    REGISTRY.register(Depth())
"""


@pytest.mark.slow
def test_timeout_applies_with_shared_values(tmp_path: Any) -> None:
    """The answering process runs the collectors once, and the merged scrape contains their failures."""
    code = (
        PROGRAM
        + """
    from web_prom.multiprocess.writing.activation import share_values
    share_values()
    jobs.inc()
    REGISTRY.register(BlockingCollector())
    found = scrape(4)
    print(found["depth"] == f"{os.getpid()}.0", found["jobs_total"], found["web_prom_workers"])
    errors = found['web_prom_instrumentation_errors_total{stage="collector BlockingCollector"}']
    print("hanging" in found, errors)
    """
    )
    assert python(code, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) == "True 1.0 1.0\nFalse 1.0\n"


@pytest.mark.slow
def test_forked_child_starts_its_own_threads() -> None:
    """A child does not inherit threads. A collector that blocks in the parent is not late in the child."""
    code = (
        PROGRAM
        + """
    REGISTRY.register(BlockingCollector())
    exposition = Exposition(config=Config(collector_timeout=4))
    assert b"hanging" not in exposition.respond({}).body
    child = os.fork()
    if not child:
        let.set()
        body = exposition.respond({}).body
        os._exit(0 if b"hanging 1.0" in body and f"depth {os.getpid()}.0".encode() in body else 1)
    print(os.waitpid(child, 0)[1])
    """
    )
    assert python(code) == "0\n"


@pytest.mark.slow
def test_running_collector_does_not_delay_the_end_of_a_program() -> None:
    code = (
        PROGRAM
        + """
    REGISTRY.register(BlockingCollector())
    print("hanging" in scrape(0.05))
    """
    )
    assert python(code) == "False\n"


@pytest.mark.slow
def test_works_with_patches_of_gevent() -> None:
    """Threads are greenlets then. A collector that waits for a socket does not block the scrape."""
    code = (
        """
    from gevent import monkey
    monkey.patch_all()
    """
        + PROGRAM
        + """
    REGISTRY.register(BlockingCollector())
    found = scrape(4)
    print(found["depth"] == f"{os.getpid()}.0", "hanging" in found)
    """
    )
    assert python(code) == "True False\n"
