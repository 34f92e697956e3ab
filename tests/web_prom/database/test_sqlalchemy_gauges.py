"""SQLAlchemy: which registry has the gauges of a pool, and when that changes."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from tests.web_prom.database.conftest import MakeEngine
from tests.web_prom.database.support import Shop
from web_prom.database import instrument, task, uninstrument
from web_prom.database.activation import activate, deactivate, default_recorder
from web_prom.database.pools import write_pools


def select(engine: Any) -> None:
    """Execute one query."""
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))


def gauges(registry: CollectorRegistry) -> dict[str, float]:
    """Return the gauges of the pool as a scrape shows them, without those that are 0."""
    write_pools()
    count = "db_client_connection_count"
    labels = {"db_client_connection_pool_name": "shop.db"}
    found = {
        "max": registry.get_sample_value("db_client_connection_max", labels),
        "used": registry.get_sample_value(count, {**labels, "db_client_connection_state": "used"}),
        "idle": registry.get_sample_value(count, {**labels, "db_client_connection_state": "idle"}),
    }
    return {name: value for name, value in found.items() if value}


@pytest.fixture
def engine(make_engine: MakeEngine) -> Any:
    """Return an engine that was not used, with a pool of at most 15 connections."""
    return make_engine()


IDLE = {"idle": 1.0, "max": 15.0}


def test_gauges_of_an_engine_used_in_a_request_belong_to_the_last_application(
    shop: Shop, engine: Any
) -> None:
    other = Shop(CollectorRegistry())
    shop.serve(lambda: select(engine))
    assert gauges(shop.registry) == {}
    assert gauges(other.registry) == IDLE


def test_gauges_move_to_an_application_that_is_set_up_later(shop: Shop, engine: Any) -> None:
    select(engine)
    assert gauges(shop.registry) == IDLE
    other = Shop(CollectorRegistry())
    assert gauges(shop.registry) == IDLE
    select(engine)
    assert gauges(other.registry) == IDLE
    assert gauges(shop.registry) == {}
    deactivate(other.recorder)
    select(engine)
    assert gauges(other.registry) == {}
    assert gauges(shop.registry) == IDLE


def test_gauges_return_when_the_last_application_is_gone(shop: Shop, engine: Any) -> None:
    temporary = Shop(CollectorRegistry())
    select(engine)
    del temporary
    gc.collect()
    select(engine)
    assert gauges(shop.registry) == IDLE


def test_instrument_moves_the_gauges_to_its_registry_and_back(shop: Shop, engine: Any) -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    select(engine)
    for registry in (first, second, first, first):
        instrument(engine, registry=registry)
        assert gauges(registry) == IDLE
        select(engine)
        assert gauges(registry) == IDLE
        assert [gauges(each) for each in (shop.registry, first, second)].count(IDLE) == 1
    instrument(engine)
    assert gauges(first) == {}
    assert gauges(shop.registry) == IDLE


def test_uninstrument_sets_the_gauges_to_zero(engine: Any) -> None:
    registry = CollectorRegistry()
    instrument(engine, registry=registry)
    select(engine)
    uninstrument(engine)
    assert gauges(registry) == {}
    with engine.connect(), engine.connect():
        assert gauges(registry) == {}


def test_instrument_again_shows_each_connection_once(engine: Any) -> None:
    registry = CollectorRegistry()
    for _ in range(3):
        instrument(engine, registry=registry)
        with engine.connect():
            assert gauges(registry) == {"used": 1.0, "max": 15.0}
        uninstrument(engine)


def test_connections_opened_before_uninstrument_are_counted_when_they_close(engine: Any) -> None:
    registry = CollectorRegistry()
    instrument(engine, registry=registry)
    select(engine)
    uninstrument(engine)
    engine.dispose()
    select(engine)
    engine.dispose()
    labels = {"db_client_connection_pool_name": "shop.db"}
    for name in ("opened", "closed"):
        assert registry.get_sample_value(f"db_client_connection_{name}_total", labels) == 1


def test_registry_of_one_engine_does_not_get_what_belongs_to_no_application(
    shop: Shop, engine: Any, make_engine: MakeEngine
) -> None:
    other, registry = make_engine("other.db"), CollectorRegistry()
    select(engine)
    instrument(other, registry=registry)
    select(engine)
    assert default_recorder() is shop.recorder
    assert gauges(shop.registry) == IDLE
    assert shop.operations("SELECT") == 2
    with task("job"):
        select(other)
    assert shop.by_route("queries", "job", "_task") == 1


def test_task_inside_of_a_request_belongs_to_the_application_of_the_request(shop: Shop, engine: Any) -> None:
    other = Shop(CollectorRegistry())

    def work() -> None:
        with task("job"):
            select(engine)
            with task("part"):
                select(engine)

    shop.serve(work)
    for name in ("job", "part"):
        assert shop.by_route("queries", name, "_task") == 1
        assert other.by_route("queries", name, "_task") is None
    with task("later"):
        select(engine)
    assert other.by_route("queries", "later", "_task") == 1


def test_activate_twice_returns_the_same_recorder(shop: Shop) -> None:
    assert activate(shop.middleware.recorder, is_application=False) is shop.recorder
