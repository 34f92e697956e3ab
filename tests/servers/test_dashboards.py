"""A real Prometheus scrapes the example shops, and every query of every dashboard returns data."""

from __future__ import annotations

import http.client
import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import pytest

from tests.programs import needs_program
from tests.servers.process import HOOKS, ROOT, Gunicorn, Scratch, scratch, wait_until
from tests.servers.prometheus import Prometheus
from tests.web_prom.dashboards.queries import EXAMPLE, Asked, interpolate, queries, selected
from web_prom.dashboards import DASHBOARDS, DashboardOptions, build_dashboard
from web_prom.dashboards.names import Names

INTERVAL = 1
WINDOW = 5 * INTERVAL

APPS = {"flask": "flask_shop:app", "django": "django_shop.wsgi"}
SETTINGS = {
    f"PROM_{name}": "yes"
    for name in ("RUNTIME", "FIRST_BYTE", "REQUEST_SIZE", "RESPONSE_SIZE", "TEMPLATES", "MIGRATIONS")
}
SHOPS = {
    "teapots (flask)": ("flask", "prometheus", "", (2, 1)),
    "teapots (django)": ("django", "prometheus", "shop", (2, 1)),
    "teapots (flask, otel)": ("flask", "opentelemetry", "shop", (1,)),
    "teapots (django, otel)": ("django", "opentelemetry", "", (2,)),
}
"""The application, the naming, the namespace, and the workers of each server, by job."""

PATHS = ("/", "/products/1", "/reviews", "/search", "/report", "/broken", "/no/such/page")

BOTH = frozenset(APPS)
_POOL = "{{db_client_connection_pool_name}}"
_FAILED = "Connections that failed, and waits that timed out"
_NO_POOL = "the shops' databases are in memory, where no connection fails, and Django's have no pool"
_NO_WEBSOCKETS = "the shops have no WebSockets"
_NO_CALLS = "the shops send no requests to other servers"
NOT_IN_DEMO: dict[str, tuple[frozenset[str], str]] = {
    "Requests per second by status class: 3xx": (BOTH, "the shops redirect nobody"),
    "Failed operations by type: {{db_namespace}} {{error_type}}": (BOTH, "no query of the shops fails"),
    f"Pools in use: {_POOL}": (frozenset({"django"}), _NO_POOL),
    f"New connections per second: {_POOL}": (frozenset({"flask"}), "the pool opens one at the import"),
    f"Time to open a connection, p95: {_POOL}": (frozenset({"flask"}), "the pool opens one at the import"),
    f"Time to get a connection, p95: {_POOL}": (frozenset({"django"}), "only SQLAlchemy has this measure"),
    f"Time that a connection is held, p95: {_POOL}": (frozenset({"django"}), "only SQLAlchemy has it"),
    f"{_FAILED}: {_POOL} {{{{error_type}}}}": (BOTH, _NO_POOL),
    f"{_FAILED}: {_POOL} timed out": (BOTH, _NO_POOL),
    f"{_FAILED}: {_POOL} waiting now": (frozenset({"django"}), _NO_POOL),
    "Failed operations of caches: {{cache}} {{operation}}": (BOTH, "a cache in memory does not fail"),
    "Outgoing requests per second: {{server_address}}": (BOTH, _NO_CALLS),
    "Outgoing requests that fail: {{server_address}}": (BOTH, _NO_CALLS),
    "Duration of outgoing requests, p95: {{server_address}}": (BOTH, _NO_CALLS),
    "Migrations that are not applied: {{db_namespace}}": (frozenset({"flask"}), "Flask has no migrations"),
    "Changes of models per second: {{model}} {{operation}}": (BOTH, "the shops change no models"),
    "Duration of templates, p95: {{template}}": (frozenset({"flask"}), "the Flask shop has no templates"),
    "Lag of event loops, p99: asyncio": (BOTH, "gunicorn's sync workers have no event loop"),
    "Lag of event loops, p99: gevent": (BOTH, "gunicorn's sync workers have no hub"),
    "Open WebSockets: {{instance}}": (BOTH, _NO_WEBSOCKETS),
    "WebSockets that end, per second, by close code: {{code}}": (BOTH, _NO_WEBSOCKETS),
    "WebSocket messages per second: {{direction}}": (BOTH, _NO_WEBSOCKETS),
    "Values counted under _overflow: {{family}}": (BOTH, "the shops have few routes"),
    "Faults of the measurement: errors of the instrumentation": (BOTH, "there are none"),
}
"""The queries that have no data in the demo: of which shops, and the reason."""

SOMETIMES = {
    f"Time to open a connection, p95: {_POOL}",
    "Duration of templates, p95: {{template}}",
}
"""Queries of what happens once in a worker. Prometheus sees no increase if it scrapes only after that."""

ONLY_OF_MANY_WORKERS = {
    "Faults of the measurement: values not stored",
    "Faults of the measurement: damaged files",
}


@contextmanager
def load(servers: Iterable[Gunicorn]) -> Iterator[None]:
    """Send requests to servers, until the end of the block."""
    ended = threading.Event()

    def send(server: Gunicorn) -> None:
        while not ended.wait(0.6):
            for path in PATHS:
                with suppress(OSError, http.client.HTTPException):  # while the workers are replaced
                    server.get(path)
            with suppress(OSError, http.client.HTTPException):
                server.get("/orders", "POST")

    threads = [threading.Thread(target=send, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@dataclass
class Observed:
    """A Prometheus that watched the shops.

    Attributes:
        prometheus: The real one, which still answers.
        began, ended: The time range of the load, in seconds since the epoch.
    """

    prometheus: Prometheus
    began: float
    ended: float

    def values(self, asked: Asked, job: str) -> list[str]:
        """Return what a query gives: the values of a variable, or the numbers of all series."""
        variables = {
            "job": job,
            "instance": ".*",
            "route": ".*",
            "__rate_interval": f"{WINDOW}s",
            "__range": f"{math.ceil(self.ended - self.began)}s",
        }
        expr = interpolate(asked.expr, variables)
        if asked.label:
            times = {"start": str(self.began), "end": str(self.ended)}
            found = self.prometheus.ask(f"label/{asked.label}/values", **{"match[]": expr}, **times)
            return [str(value) for value in found]
        if asked.instant:
            found = self.prometheus.ask("query", query=expr, time=str(self.ended))["result"]
            return [series["value"][1] for series in found]
        found = self.prometheus.ask(
            "query_range", query=expr, start=str(self.began), end=str(self.ended), step="1"
        )["result"]
        return [value for series in found for _, value in series["values"]]


def configuration(jobs: dict[str, list[Gunicorn]]) -> str:
    """Return the configuration of a Prometheus that scrapes several servers as one job."""
    lines = [f"global: {{scrape_interval: {INTERVAL}s, scrape_timeout: {INTERVAL}s}}", "scrape_configs:"]
    for job, servers in jobs.items():
        addresses = ", ".join(f"'127.0.0.1:{server.port}'" for server in servers)
        lines.append(f"  - {{job_name: '{job}', static_configs: [{{targets: [{addresses}]}}]}}")
    return "\n".join(lines)


def server(place: Scratch, shop: str, workers: int) -> Gunicorn:
    """Return the server of a shop with one or with many workers."""
    app, naming, namespace, _ = SHOPS[shop]
    environ = {**SETTINGS, "PROM_NAMING": naming, "PROM_NAMESPACE": namespace}
    config = HOOKS if workers > 1 else None
    chdir = f"--chdir={ROOT / 'examples'}"
    return Gunicorn(place, chdir, app=APPS[app], workers=workers, config=config, environ=environ)


def rising_routes(prometheus: Prometheus, job: str) -> float:
    """Return the number of routes of which Prometheus sees requests now."""
    _, naming, namespace, _ = SHOPS[job]
    names = Names(DashboardOptions(naming=naming, namespace=namespace))
    rates = names.sum_rate(names.duration, by=names.route, part="_count", window=f"{WINDOW}s")
    return prometheus.number(interpolate(f"count({rates} > 0)", {**EXAMPLE, "job": job}))


@pytest.fixture(scope="module")
def observed() -> Iterator[Observed]:
    """Run everything once; the tests only query."""
    needs_program("prometheus", package="prometheus")
    with ExitStack() as stack:
        place = stack.enter_context(scratch())
        jobs = {
            shop: [stack.enter_context(server(place, shop, workers)) for workers in SHOPS[shop][-1]]
            for shop in SHOPS
        }
        servers = [each for found in jobs.values() for each in found]
        prometheus = stack.enter_context(Prometheus(place.folder, configuration(jobs)))
        with load(servers):
            prometheus.wait_for_scrapes(jobs, 1)
            began = time.time()
            prometheus.wait_for_scrapes(jobs, WINDOW + 1)
            for job in jobs:
                wait_until(lambda job=job: rising_routes(prometheus, job) == len(PATHS) + 1, job)  # type: ignore[misc]
            newest = prometheus.number("max(process_start_time_seconds)")
            for each in servers:
                each.signal(signal.SIGHUP)
            restarted = f"count(min by (job) (process_start_time_seconds) > {newest!r})"
            wait_until(lambda: prometheus.number(restarted) == len(jobs), "new workers of each shop")
            prometheus.wait_for_scrapes(jobs, 2)
        yield Observed(prometheus, began, time.time())


DASHBOARDS_OF_JOBS = [(name, job) for name in DASHBOARDS for job in SHOPS]


def made(name: str, job: str) -> list[Asked]:
    """Return the queries of a dashboard that is made for the names of a job."""
    _, naming, namespace, _ = SHOPS[job]
    return list(queries(build_dashboard(name, DashboardOptions(naming=naming, namespace=namespace))))


def is_expected_empty(title: str, job: str) -> bool:
    """Return whether a query has no data in the demo."""
    app, _, _, workers = SHOPS[job]
    return app in NOT_IN_DEMO.get(title, ((), ""))[0] or (title in ONLY_OF_MANY_WORKERS and workers == (1,))


@pytest.mark.parametrize(("name", "job"), DASHBOARDS_OF_JOBS)
def test_every_query_of_a_dashboard_returns_data(observed: Observed, name: str, job: str) -> None:
    """Those that are expected to be empty are, so that the list of them stays true."""
    asked = made(name, job)
    empty = {
        each.title
        for each in asked
        if not any(value not in ("NaN", "+Inf", "-Inf") for value in observed.values(each, job))
    }
    expected = {each.title for each in asked if is_expected_empty(each.title, job)}
    assert empty - SOMETIMES == expected - SOMETIMES


@pytest.mark.parametrize(("name", "job"), DASHBOARDS_OF_JOBS)
def test_queries_use_only_labels_of_real_series(observed: Observed, name: str, job: str) -> None:
    """The labels of series that are not in the demo are compared with the tables of names elsewhere."""
    times = {"start": str(observed.began), "end": str(observed.ended)}
    for each in made(name, job):
        expr = interpolate(each.expr, EXAMPLE)
        found = selected(expr)
        every = {"route"} if "label_replace(" in expr else set()
        for series, matched in found.series:
            match = f'{series}{{job="{job}"}}'
            real = observed.prometheus.ask("series", **{"match[]": match}, **times)
            labels = {label for labels in real for label in labels}
            if is_expected_empty(each.title, job):
                labels |= matched | found.groups  # Prometheus drops a label that is always empty
            assert matched <= labels, (each, series)
            every |= labels
        assert found.groups <= every, each


def test_reasons_name_queries_that_exist() -> None:
    """A panel that is renamed or removed does not stay in the list."""
    titles = {each.title for name, job in DASHBOARDS_OF_JOBS for each in made(name, job)}
    assert (NOT_IN_DEMO.keys() | ONLY_OF_MANY_WORKERS) <= titles
