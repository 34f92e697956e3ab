"""Flask-SQLAlchemy: its engines are measured by one setting, with their bind keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from flask_prom import FlaskProm

Value = Callable[..., float]


class Shop:
    """A Flask application with two databases."""

    def __init__(self, folder: Path, *, prom_first: bool, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.app = Flask("shop", instance_path=str(folder))
        self.app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{folder / 'main.db'}"
        self.app.config["SQLALCHEMY_BINDS"] = {"archive": f"sqlite:///{folder / 'old.db'}"}
        self.db = SQLAlchemy()
        prom = FlaskProm(registry=self.registry, database=True, **options)
        for extension in (prom, self.db) if prom_first else (self.db, prom):
            extension.init_app(self.app)

        @self.app.get("/items/<int:item>")
        def item(item: int) -> str:
            for _ in range(4):
                self.db.session.execute(text("SELECT 1"))
            self.db.session.execute(text("SELECT 1"), bind_arguments={"bind": self.db.engines["archive"]})
            return "ok"

    def operations(self, namespace: str) -> float:
        labels = {
            "db_system_name": "sqlite",
            "db_namespace": namespace,
            "db_operation_name": "SELECT",
            "error_type": "",
        }
        return self.registry.get_sample_value("db_client_operation_duration_seconds_count", labels) or 0.0


@pytest.mark.parametrize("prom_first", [True, False])
def test_engines_have_their_bind_keys_and_queries_their_route(tmp_path: Path, prom_first: bool) -> None:
    shop = Shop(tmp_path, prom_first=prom_first)
    assert shop.app.test_client().get("/items/1").text == "ok"
    assert (shop.operations("default"), shop.operations("archive")) == (4, 1)
    labels = {"method": "GET", "route": "/items/<int:item>"}
    value = shop.registry.get_sample_value
    assert value("http_request_db_queries_total", labels) == 5
    assert value("http_request_db_repeated_queries_total", labels) == 3
    text = shop.app.test_client().get("/metrics").text
    assert 'db_client_connection_max{db_client_connection_pool_name="archive"}' in text


def test_engine_belongs_to_its_application(tmp_path: Path) -> None:
    """Another application that was set up later does not get what is outside of requests."""
    shop = Shop(tmp_path, prom_first=True)
    other = Shop(tmp_path, prom_first=True)
    with shop.app.app_context():
        shop.db.session.execute(text("SELECT 1"))
    assert (shop.operations("default"), other.operations("default")) == (1, 0)
    labels = {"method": "_none", "route": "_none"}
    assert shop.registry.get_sample_value("http_request_db_queries_total", labels) == 1


def test_extra_labels_are_not_labels_of_queries(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        prom_first=True,
        extra_labels={"tenant": lambda request, response: "acme"},
        constant_labels={"region": "north"},
        namespace="app",
    )
    shop.app.test_client().get("/items/1")
    labels = {"method": "GET", "route": "/items/<int:item>", "region": "north"}
    assert shop.registry.get_sample_value("app_http_request_db_queries_total", labels) == 5
