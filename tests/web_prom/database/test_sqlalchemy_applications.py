"""SQLAlchemy: which application and registry records an engine, and what is off."""

from __future__ import annotations

import contextvars
import gc
import threading
import weakref
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from tests.web_prom.database.conftest import MakeEngine
from tests.web_prom.database.support import Shop
from tests.web_prom.support import errors, python
from web_prom.database import instrument, task, uninstrument
from web_prom.database.activation import default_recorder, find_recorder
from web_prom.database.sqlalchemy_names import namespace_of, system_name


def select(engine: Any) -> None:
    """Execute one query."""
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))


@pytest.fixture
def other(shop: Shop) -> Shop:
    """Return another application with a registry of its own, which was set up after `shop`."""
    return Shop(CollectorRegistry())


def test_application_of_the_request_records_the_query(shop: Shop, other: Shop, engine: Any) -> None:
    shop.serve(lambda: select(engine))
    other.serve(lambda: select(engine))
    other.serve(lambda: select(engine))
    assert shop.operations("SELECT") == shop.by_route("queries", "/items") == 1
    assert other.operations("SELECT") == other.by_route("queries", "/items") == 2


def test_last_application_records_what_is_outside_of_requests(shop: Shop, other: Shop, engine: Any) -> None:
    select(engine)
    assert shop.operations("SELECT") == 0
    assert other.operations("SELECT") == other.by_route("queries", "_none", "_none") == 1
    assert other.pool("wait_time_seconds_count") == 1


def test_engine_with_a_registry_is_recorded_there(shop: Shop, other: Shop, engine: Any) -> None:
    instrument(engine, registry=shop.registry)
    other.serve(lambda: select(engine))
    select(engine)
    assert shop.operations("SELECT") == 2
    assert other.operations("SELECT") == 0
    assert other.by_route("queries", "/items") == 1, "the request had it"
    assert shop.by_route("queries", "_none", "_none") == 1


def test_two_layers_of_one_request_count_its_queries_each(registry: CollectorRegistry, engine: Any) -> None:
    """Each registry counts the request once, by its outermost layer."""
    from web_prom import PrometheusMiddleware

    inner = Shop(registry)
    outer_registry = CollectorRegistry()
    inner._work.append(("/inner", lambda: select(engine)))
    outer = PrometheusMiddleware(inner.middleware, registry=outer_registry, database=True)
    body: Any = outer({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: lambda _: None)
    list(body)
    body.close()
    labels = {"method": "GET", "route": "/inner"}
    for each in (registry, outer_registry):
        assert each.get_sample_value("http_request_db_queries_total", labels) == 1


def test_request_inside_of_a_request_has_its_own_queries(shop: Shop, engine: Any) -> None:
    def work() -> None:
        select(engine)
        shop.serve(lambda: select(engine), route="/inner")
        select(engine)

    shop.serve(work)
    assert shop.by_route("queries", "/items") == 2
    assert shop.by_route("queries", "/inner") == 1


def test_queries_of_an_excluded_route_have_route_none(registry: CollectorRegistry, engine: Any) -> None:
    shop = Shop(registry, exclude=["/health"])
    shop.serve(lambda: select(engine), route="/health")
    assert shop.by_route("queries", "/health") is None
    assert shop.by_route("queries", "_none", "_none") == 1


def test_request_that_nobody_finishes_writes_its_queries(shop: Shop, engine: Any) -> None:
    shop._work.append(("/items", lambda: select(engine)))
    body: Any = shop.middleware({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: lambda _: None)
    del body
    gc.collect()
    shop.scrape()
    assert shop.by_route("queries", "/items") == 1


def test_thread_with_the_context_of_the_request_is_part_of_it(shop: Shop, engine: Any) -> None:
    def work() -> None:
        for target in (contextvars.copy_context().run, contextvars.Context().run):
            thread = threading.Thread(target=target, args=(select, engine))
            thread.start()
            thread.join()

    shop.serve(work)
    assert shop.by_route("queries", "/items") == 1
    assert shop.by_route("queries", "_none", "_none") == 1


def test_task_has_its_own_queries(shop: Shop, engine: Any) -> None:
    def run() -> None:
        with task("nightly\x00report"):
            for _ in range(4):
                select(engine)
            raise LookupError

    with pytest.raises(LookupError):
        run()
    select(engine)
    assert shop.by_route("queries", "nightly?report", "_task") == 4
    assert shop.by_route("repeated_queries", "nightly?report", "_task") == 2
    assert shop.by_route("queries", "_none", "_none") == 1


@pytest.mark.parametrize(("name", "label"), [("x" * 1000, "x" * 128), (None, "None"), ("a\nb\x1b", "a?b?")])
def test_task_with_an_unusual_name_is_counted(shop: Shop, engine: Any, name: Any, label: str) -> None:
    with task(name):
        select(engine)
    assert shop.by_route("queries", label, "_task") == 1
    assert errors(shop.registry) == {}


def test_task_names_are_limited(registry: CollectorRegistry, engine: Any) -> None:
    shop = Shop(registry, max_label_sets=2)
    for name in ("a", "b", "c"):
        with task(name):
            select(engine)
    assert shop.by_route("queries", "a", "_task") == 1
    assert shop.by_route("queries", "_overflow", "_overflow") is None
    assert shop.by_route("queries", "_overflow", "_task") == 1


def test_uninstrument_stops_the_measurement_and_instrument_starts_it_again(shop: Shop, engine: Any) -> None:
    select(engine)
    uninstrument(engine)
    select(engine)
    assert shop.operations("SELECT") == 1
    instrument(engine)
    instrument(engine)
    select(engine)
    assert shop.operations("SELECT") == 2


def test_engine_is_measured_for_an_application_that_measures_no_databases(engine: Any) -> None:
    """Its settings apply. Its requests have no queries, because ``PROM_DATABASE`` is off."""
    from web_prom import PrometheusMiddleware

    registry = CollectorRegistry()
    options = {"constant_labels": {"site": "north"}, "namespace": "app"}
    PrometheusMiddleware(lambda *_: [], registry=registry, **options)  # type: ignore[arg-type]
    instrument(engine, registry=registry)
    select(engine)
    labels = {"method": "_none", "route": "_none", "site": "north"}
    assert registry.get_sample_value("app_http_request_db_queries_total", labels) == 1


def test_instrument_refuses_what_is_no_engine(shop: Shop) -> None:
    with pytest.raises(TypeError, match="is not an Engine"):
        instrument("postgresql://")


def test_application_that_is_gone_is_replaced_by_the_one_before(shop: Shop, engine: Any) -> None:
    temporary = Shop(CollectorRegistry())
    gone = weakref.ref(temporary.recorder)
    assert default_recorder() is temporary.recorder
    del temporary
    gc.collect()
    assert gone() is None
    assert default_recorder() is shop.recorder
    assert find_recorder(shop.registry) is shop.recorder
    assert find_recorder(CollectorRegistry()) is None


@pytest.mark.slow
def test_program_without_an_application_instruments_an_engine() -> None:
    code = """
        import sys
        from web_prom.database import instrument, task
        assert "sqlalchemy" not in sys.modules
        with task("nothing"):
            pass
        import sqlalchemy
        from prometheus_client import REGISTRY
        measured, unmeasured = (sqlalchemy.create_engine("sqlite://") for _ in range(2))
        instrument(measured)
        for engine in (measured, unmeasured):
            with task("report"), engine.connect() as connection:
                connection.execute(sqlalchemy.text("SELECT 1"))
        labels = {"method": "_task", "route": "report"}
        print(REGISTRY.get_sample_value("http_request_db_queries_total", labels))
    """
    assert python(code).strip() == "1.0"


OFF = """
    import sys
    from prometheus_client import CollectorRegistry
    from web_prom import PrometheusMiddleware
    from web_prom.asgi import PrometheusMiddleware as ASGIMiddleware
    from web_prom.asgi.exchange import ASGIExchange
    from web_prom.wsgi.exchange import WSGIExchange

    wsgi = PrometheusMiddleware(lambda *_: [b""], registry=CollectorRegistry())
    asgi = ASGIMiddleware(lambda *_: None, registry=CollectorRegistry())
    body = wsgi({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)
    list(body)
    body.close()
    assert wsgi._exchange_class is WSGIExchange and asgi._exchange_class is ASGIExchange
    print([name for name in sys.modules if name.startswith(("sqlalchemy", "web_prom.database",
          "web_prom.metrics.query_recording"))])
"""


@pytest.mark.slow
def test_off_imports_nothing_and_adds_nothing_to_a_request() -> None:
    """The classes of the exchanges are those without a tally."""
    assert python(OFF).strip() == "[]"


def test_missing_sqlalchemy_is_logged(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("web_prom.database.sqlalchemy_hooks.find_spec", lambda _: None)
    Shop(registry)
    assert "SQLAlchemy is not installed" in caplog.text


@pytest.mark.parametrize(
    ("url", "system", "namespace"),
    [
        ("sqlite://", "sqlite", ":memory:"),
        ("sqlite:///:memory:", "sqlite", ":memory:"),
        ("sqlite:////var/lib/shop/shop.db", "sqlite", "shop.db"),
        ("sqlite:///file:/var/lib/shop.db?mode=ro&uri=true", "sqlite", "shop.db"),
        ("sqlite:////var/lib/", "sqlite", "lib"),
    ],
)
def test_names_contain_no_path(make_engine: MakeEngine, url: str, system: str, namespace: str) -> None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)
    assert (system_name(engine.dialect), namespace_of(engine)) == (system, namespace)


@pytest.mark.parametrize(
    ("name", "is_mariadb", "system"),
    [
        ("postgresql", False, "postgresql"),
        ("mysql", False, "mysql"),
        ("mysql", True, "mariadb"),
        ("mariadb", True, "mariadb"),
        ("mssql", False, "microsoft.sql_server"),
        ("oracle", False, "oracle.db"),
        ("somethingelse", False, "somethingelse"),
    ],
)
def test_systems_have_the_names_of_opentelemetry(name: str, is_mariadb: bool, system: str) -> None:
    class Dialect:
        pass

    dialect: Any = Dialect()
    dialect.name, dialect.is_mariadb = name, is_mariadb
    assert system_name(dialect) == system


def test_names_contain_no_password(make_engine: MakeEngine) -> None:
    class Engine:
        pass

    from sqlalchemy.engine import make_url

    engine: Any = Engine()
    engine.url = make_url("postgresql://user:secret@host:5432/shop?password=other")
    engine.dialect = Engine()
    engine.dialect.name = "postgresql"
    assert namespace_of(engine) == "shop"
    engine.url = make_url("postgresql://user:secret@host")
    assert namespace_of(engine) == "default"
