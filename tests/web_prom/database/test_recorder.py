"""The database recorder: queries by operation, by route and outside of requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.database.support import Shop
from tests.web_prom.support import python
from web_prom import ConfigError, PrometheusMiddleware
from web_prom.database import recorder as recorder_module
from web_prom.database.activation import activate
from web_prom.database.pools import PoolState


def observe(shop: Shop, sql: Any, seconds: float = 0.0, error: BaseException | None = None) -> None:
    """Record a query of one database."""
    shop.recorder.observe("sqlite", "shop.db", sql, seconds, error)


def test_query_is_counted_by_operation_and_by_route(shop: Shop) -> None:
    shop.serve(lambda: observe(shop, "SELECT 1", 0.25))
    assert shop.operations("SELECT") == 1
    for name, value in (("queries", 1), ("seconds", 0.25), ("repeated_queries", 0)):
        assert shop.by_route(name, "/items") == value


def test_repeated_queries_are_executions_beyond_the_second(shop: Shop) -> None:
    def work() -> None:
        for sql in ("SELECT 1", "SELECT 1", "SELECT 2", "SELECT 1", "SELECT 1"):
            observe(shop, sql)

    shop.serve(work)
    shop.serve(work)
    assert shop.by_route("repeated_queries", "/items") == 4


@pytest.mark.parametrize(
    ("sql", "repeated"),
    [
        ("BEGIN", 0),
        ("begin immediate;", 0),
        ("START TRANSACTION READ ONLY", 0),
        ("SAVEPOINT sa_savepoint_1", 0),
        ('RELEASE SAVEPOINT "s1_x1"', 0),
        ("ROLLBACK TO SAVEPOINT sa_savepoint_1", 0),
        (" COMMIT", 0),
        ("END TRANSACTION", 0),
        ("BEGIN; UPDATE cart SET total = total + 1; COMMIT", 3),
        ("SELECT 'BEGIN'", 3),
        ("SELECT begin FROM times", 3),
        ("RELEASED", 3),
    ],
)
def test_statements_of_transactions_are_no_repeated_queries(shop: Shop, sql: str, repeated: int) -> None:
    """They are one query each. A view with several transactions is no N+1 fault."""

    def work() -> None:
        for _ in range(5):
            observe(shop, sql)

    shop.serve(work)
    assert shop.by_route("queries", "/items") == 5
    assert shop.by_route("repeated_queries", "/items") == repeated


def test_route_without_queries_has_its_counters_at_zero(shop: Shop) -> None:
    """So a ratio to the requests is 0, and not missing."""
    shop.serve(lambda: None)
    for name in ("queries", "seconds", "repeated_queries"):
        assert shop.by_route(name, "/items") == 0


def test_query_outside_of_requests_has_route_none(shop: Shop) -> None:
    shop.serve(lambda: None)
    observe(shop, "DELETE FROM cart", 0.5)
    assert shop.by_route("queries", "_none", "_none") == 1
    assert shop.by_route("seconds", "_none", "_none") == 0.5


class UniqueViolation(type("IntegrityError", (Exception,), {})):  # type: ignore[misc]
    """An exception of psycopg, whose base has a name of PEP 249."""


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (UniqueViolation(), "IntegrityError"),
        (type("Error", (Exception,), {"__qualname__": "AsyncAdapt_asyncpg_dbapi.Error"})(), "Error"),
        (OSError(), "OSError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_error_has_the_name_of_pep_249_or_of_its_class(shop: Shop, error: BaseException, name: str) -> None:
    observe(shop, "INSERT INTO cart VALUES (1)", error=error)
    assert shop.operations("INSERT", name) == 1
    assert shop.operations("INSERT") == 0


@pytest.mark.parametrize(
    ("cause", "name"), [(UniqueViolation(), "UniqueViolation"), (None, "IntegrityError")]
)
def test_naming_of_django_prometheus_has_the_exception_of_the_driver(
    registry: CollectorRegistry, cause: BaseException | None, name: str
) -> None:
    shop = Shop(registry, naming="django-prometheus")
    error = type("IntegrityError", (Exception,), {})()  # as Django raises it
    error.__cause__ = cause
    for _ in range(2):
        observe(shop, "INSERT INTO cart VALUES (1)", error=error)
    assert shop.value("django_db_errors_total", alias="shop.db", vendor="sqlite", type=name) == 2


class Composed:
    """A query as an object of psycopg."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    __hash__ = None  # type: ignore[assignment]

    def as_string(self, _context: Any) -> str:
        if self._text is None:
            raise TypeError("no connection")
        return self._text


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        (b"SELECT 1", "SELECT"),
        (b"\xff SELECT", "_OTHER"),
        (Composed("UPDATE cart"), "UPDATE"),
        (Composed(None), "_OTHER"),
        (None, "_OTHER"),
    ],
)
def test_query_that_is_no_string_is_counted(shop: Shop, sql: Any, name: str) -> None:
    for error in (None, ValueError()):
        observe(shop, sql, error=error)
    assert shop.operations(name) == 1
    assert shop.operations(name, "ValueError") == 1
    assert shop.internal_errors("database") == 0


def test_cache_of_texts_is_bounded(shop: Shop) -> None:
    for number in range(recorder_module.MAX_CACHED_TEXTS + 10):
        observe(shop, f"SELECT {number}")
    long = "SELECT " + "a, " * recorder_module.MAX_CACHED_LENGTH
    observe(shop, long)
    writes = shop.recorder.database("sqlite", "shop.db").writes
    assert 0 < len(writes) <= recorder_module.MAX_CACHED_TEXTS
    assert long not in writes
    assert shop.operations("SELECT") == recorder_module.MAX_CACHED_TEXTS + 11


def test_error_types_are_limited(registry: CollectorRegistry) -> None:
    shop = Shop(registry, max_label_sets=2)
    for number in range(4):
        error = type(f"Error{number}", (Exception,), {})()
        for _ in range(2):
            observe(shop, "SELECT 1", error=error)
    assert shop.operations("SELECT", "Error0") == 2
    assert shop.operations("SELECT", "_overflow", "_overflow", "_overflow") == 4
    labels = {"family": "db_client_operation_duration_seconds"}
    assert shop.value("web_prom_label_overflow_total", **labels) == 4


def test_labels_contain_no_control_characters(shop: Shop) -> None:
    shop.recorder.observe("sqlite", "a\x1bb", "SELECT 1", 0.0)
    assert shop.operations("SELECT", namespace="a?b") == 1


def test_pools_are_limited(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_POOLS", 2)
    for name in ("a", "b", "c", "d", "a"):
        shop.recorder.pool(name).count_opened()
    assert shop.pool("opened_total", "a") == 2
    assert shop.pool("opened_total", "_overflow") == 2


def test_pool_name_contains_no_control_characters(shop: Shop) -> None:
    pool = shop.recorder.pool("a\x1bb\ud800")
    pool.add_reader(lambda: PoolState(used=1))
    pool.count_opened()
    assert 'db_client_connection_pool_name="a?b?",db_client_connection_state="used"} 1.0' in shop.scrape()
    assert shop.pool("opened_total", "a?b?") == 1


def test_request_that_asks_for_a_websocket_has_its_queries(shop: Shop) -> None:
    """It is an ordinary request, because it starts a response."""
    shop._work.append(("/items", lambda: observe(shop, "SELECT 1")))
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_UPGRADE": "websocket"}
    body: Any = shop.middleware(environ, lambda *_: lambda _: None)
    list(body)
    body.close()
    assert shop.by_route("queries", "/items") == 1
    assert shop.internal_errors("start") == shop.internal_errors("finish") == 0


def test_request_that_becomes_a_websocket_has_queries_without_a_route(registry: CollectorRegistry) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        activate(middleware.recorder).observe("sqlite", "shop.db", "SELECT 1", 0.0)
        raise StopIteration

    middleware = PrometheusMiddleware(application, registry=registry, database=True)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_UPGRADE": "websocket"}
    with pytest.raises(StopIteration):
        middleware(environ, lambda *_: lambda _: None)
    labels = {"method": "_none", "route": "_none"}
    assert registry.get_sample_value("http_request_db_queries_total", labels) == 1


@pytest.mark.parametrize("sizes", [False, True])
def test_exception_and_body_sizes_are_measured_with_queries(registry: CollectorRegistry, sizes: bool) -> None:
    shop = Shop(registry, request_size=sizes, response_size=sizes)

    def work() -> None:
        observe(shop, "SELECT 1")
        raise LookupError

    with pytest.raises(LookupError):
        shop.serve(work)
    shop.serve(lambda: observe(shop, "SELECT 1"))
    assert shop.by_route("queries", "/items") == 2
    labels = {"method": "GET", "route": "/items", "status": "500"}
    assert shop.value("http_requests_total", **labels) == 1
    size = shop.value("http_response_size_bytes_sum", method="GET", route="/items")
    assert size == (1.0 if sizes else None)


def test_failing_instrumentation_is_counted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(*_: Any, **__: Any) -> None:
        raise RuntimeError("hook")

    monkeypatch.setattr(type(shop.recorder.families), "limited_family", boom)
    database = shop.recorder.database("sqlite", "shop.db")
    observe(shop, "SELECT 1")
    database.observe_transaction("commit", 0.0)
    database.count_savepoint("create")
    assert shop.internal_errors("database") == 4, "the commit is an operation and a transaction"
    pool = shop.recorder.pool("shop.db")
    pool.observe_wait(1.0)
    pool.count_timeout()
    pool.add_reader(boom)
    shop.scrape()
    assert shop.internal_errors("database pool") == 3


def test_activate_returns_the_same_recorder(shop: Shop) -> None:
    assert activate(shop.middleware.recorder) is shop.recorder


def test_registry_that_was_emptied_gets_its_families_again(shop: Shop, registry: CollectorRegistry) -> None:
    """A test suite empties the registry between tests."""
    observe(shop, "SELECT 1")
    for collector in set(registry._names_to_collectors.values()):
        registry.unregister(collector)
    other = Shop(registry)
    observe(other, "SELECT 1")
    assert other.operations("SELECT") == 1


@pytest.mark.parametrize("label", ["db_namespace", "outcome", "db_client_connection_pool_name"])
def test_constant_label_of_a_database_family_is_refused(registry: CollectorRegistry, label: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{label}'.*PROM_DATABASE"):
        Shop(registry, constant_labels={label: "x"})


PROGRAM = """
    import os, sys
    from prometheus_client import CollectorRegistry
    from web_prom import PrometheusMiddleware
    from web_prom.database.activation import activate
    from web_prom.database.pools import PoolState

    registry = CollectorRegistry()

    def application(environ, start_response):
        for _ in range(3):
            database.observe("SELECT 1", 0.001)
        start_response("200 OK", [])
        return [b"x"]

    def serve(path="/"):
        body = middleware({"REQUEST_METHOD": "GET", "PATH_INFO": path}, lambda *_: None)
        text = b"".join(body).decode()
        return text

    if "early" in sys.argv:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
    middleware = PrometheusMiddleware(application, registry=registry, database=True)
    recorder = activate(middleware.recorder)
    database = recorder.database("sqlite", "shop")
    recorder.pool("shop").add_reader(lambda: PoolState(used=2, idle=1))
    recorder.pool("shop").observe_use(0.001)
    serve()
    database.observe("SELECT 2", 0.001)
    if "late" in sys.argv:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
        PrometheusMiddleware(application, registry=CollectorRegistry(), database=False)
    serve()
    database.observe("SELECT 2", 0.001, ValueError())
    reading, writing = os.pipe()
    closing, closed = os.pipe()
    if not (pid := os.fork()):
        serve()
        database.observe("SELECT 2", 0.001)
        recorder.pool("shop").observe_use(0.001)
        serve("/metrics")
        os.write(writing, b"x")
        os.close(closed)
        os.read(closing, 1)
        os._exit(0)
    os.close(closing)
    os.read(reading, 1)
    serve()
    database.observe("SELECT 2", 0.001)
    recorder.pool("shop").observe_use(0.001)
    for line in serve("/metrics").splitlines():
        if line.startswith(("http_request_db_q", "http_request_db_r", "db_client")) and "_bucket" not in line:
            if "_sum" not in line and "_created" not in line:
                print(line)
    os.close(closed)
    os.waitpid(pid, 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["early", "late"])
def test_values_of_all_workers_are_added_up(open_path: Path, when: str) -> None:
    """Values that become shared late, and a worker that is forked after that, lose nothing."""
    printed = python(PROGRAM, str(open_path / "shared"), when).splitlines()
    found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in printed}
    operation = 'db_namespace="shop",db_operation_name="SELECT",db_system_name="sqlite",error_type='
    pool = 'db_client_connection_pool_name="shop"'
    assert found == {
        f'db_client_operation_duration_seconds_count{{{operation}""}}': 15,
        f'db_client_operation_duration_seconds_count{{{operation}"ValueError"}}': 1,
        'http_request_db_queries_total{method="GET",route="_unmatched"}': 12,
        'http_request_db_queries_total{method="_none",route="_none"}': 4,
        'http_request_db_repeated_queries_total{method="GET",route="_unmatched"}': 4,
        'http_request_db_repeated_queries_total{method="_none",route="_none"}': 0,
        f"db_client_connection_use_time_seconds_count{{{pool}}}": 3,
        f'db_client_connection_count{{{pool},db_client_connection_state="used"}}': 4,
        f'db_client_connection_count{{{pool},db_client_connection_state="idle"}}': 2,
    }
