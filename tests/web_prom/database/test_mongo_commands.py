"""The commands of PyMongo's clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import AutoReconnect, OperationFailure

from tests.web_prom.support import errors, samples
from web_prom.config import Config
from web_prom.database import mongo_commands, mongo_listener
from web_prom.database.activation import activate
from web_prom.metrics.query_tally import open_tally
from web_prom.metrics.recorder import Recorder

from .mongo_server import MongoServer

LABELS = ("db_system_name", "db_namespace", "db_operation_name", "error_type")


@pytest.fixture
def recorder(registry: CollectorRegistry) -> Recorder:
    """Return the recorder of an application with PROM_DATABASE."""
    recorder = Recorder(Config.load({"database": True}), registry)
    activate(recorder)
    return recorder


@pytest.fixture
def url() -> Iterator[str]:
    """Start a server, and return its URL."""
    with MongoServer() as server:
        yield server.url


def counts(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return the number of commands."""
    return samples(registry, "db_client_operation_duration_seconds_count", *LABELS)


def test_commands_are_observed_by_database_and_name(
    url: str, recorder: Recorder, registry: CollectorRegistry
) -> None:
    with MongoClient(url, event_listeners=[mongo_listener()]) as client:
        assert [found["number"] for found in client.shop.orders.find()] == [7]
        client.shop.orders.insert_one({"number": 8})
        with pytest.raises(OperationFailure, match="no such command"):
            client.shop.command("unheardOf")
        with pytest.raises(AutoReconnect):
            client.shop.command("crash")
    assert counts(registry) == {
        ("mongodb", "shop", "find", ""): 1,
        ("mongodb", "shop", "insert", ""): 1,
        ("mongodb", "shop", "_OTHER", "OperationFailure"): 1,
        ("mongodb", "shop", "_OTHER", "AutoReconnect"): 1,
    }
    assert samples(registry, "http_request_db_queries_total", "method", "route") == {("_none", "_none"): 4}


def test_asynchronous_commands_are_observed(
    url: str, recorder: Recorder, registry: CollectorRegistry
) -> None:
    async def use() -> None:
        async with AsyncMongoClient(url, event_listeners=[mongo_listener()]) as client:
            assert [found["number"] async for found in client.shop.orders.find()] == [7]

    asyncio.run(use())
    assert counts(registry)["mongodb", "shop", "find", ""] == 1


def test_commands_of_a_request_count_for_its_tally(url: str, recorder: Recorder) -> None:
    tally = open_tally(recorder.database)
    with MongoClient(url, event_listeners=[mongo_listener()]) as client:
        client.shop.orders.insert_one({"number": 8})
        totals = tally.totals()
    assert (totals.queries, totals.repeated) == (1, 0)
    tally.close()


def test_further_databases_are_added_up(
    url: str, recorder: Recorder, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_commands, "MAX_DATABASES", 2)
    with MongoClient(url, event_listeners=[mongo_listener()]) as client:
        for number in range(4):
            client[f"tenant{number}"].command("ping")
    found = samples(
        registry, "db_client_operation_duration_seconds_count", "db_namespace", "db_operation_name"
    )
    assert {key[0]: value for key, value in found.items() if key[1] == "ping"} == {
        "tenant0": 1,
        "tenant1": 1,
        "_overflow": 2,
    }


def test_error_of_the_listener_is_counted(
    url: str, recorder: Recorder, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    database: Any = recorder.database
    monkeypatch.setattr(type(database), "database", fail)
    with MongoClient(url, event_listeners=[mongo_listener()]) as client:
        assert client.shop.command("ping") == {"ok": 1}
    assert errors(registry) == {("database",): 1}
