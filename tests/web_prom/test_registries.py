"""What is given in the place of a registry by mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import prometheus_client
import pytest
from flask import Flask
from prometheus_client import CollectorRegistry, Counter

import web_prom
import web_prom.asgi
from flask_prom import FlaskProm
from web_prom import jobs


async def asgi_app(*_: object) -> None:
    raise AssertionError


def wsgi_app(*_: object) -> list[bytes]:
    raise AssertionError


def instrument_engine(registry: Any) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from web_prom import database

    database.instrument(sqlalchemy.create_engine("sqlite://"), registry=registry)


def instrument_cache(registry: Any) -> None:
    flask_caching = pytest.importorskip("flask_caching")
    from web_prom import cache

    found = flask_caching.Cache(Flask("shop"), config={"CACHE_TYPE": "SimpleCache"})
    cache.instrument(found, registry=registry)


def instrument_session(registry: Any) -> None:
    requests = pytest.importorskip("requests")
    from web_prom import http_client

    http_client.instrument(requests.Session(), registry=registry)


OF_APPLICATIONS: dict[str, Callable[[Any], object]] = {
    "FlaskProm": lambda registry: FlaskProm(Flask("shop"), registry=registry),
    "middleware of WSGI": lambda registry: web_prom.PrometheusMiddleware(wsgi_app, registry=registry),
    "middleware of ASGI": lambda registry: web_prom.asgi.PrometheusMiddleware(asgi_app, registry=registry),
    "get_or_create": lambda registry: web_prom.get_or_create(Counter, "sold", "Help.", registry=registry),
    "decorator": lambda registry: web_prom.count("sold", "Help.", registry=registry)(wsgi_app),
    "engine": instrument_engine,
    "cache": instrument_cache,
    "session": instrument_session,
    "jobs": lambda registry: jobs.instrument_celery(registry=registry),
}
OF_SCRAPES: dict[str, Callable[[Any], object]] = {
    "make_wsgi_app": web_prom.make_wsgi_app,
    "make_asgi_app": web_prom.make_asgi_app,
    "start_http_server": lambda registry: web_prom.start_http_server(0, "127.0.0.1", registry),
}


@pytest.mark.parametrize(
    "mistake",
    ["shop", 0, prometheus_client, CollectorRegistry, {}],
    ids=["text", "number", "module", "class", "mapping"],
)
@pytest.mark.parametrize("name", [*OF_APPLICATIONS, *OF_SCRAPES])
def test_object_that_is_not_a_registry_is_refused_at_start(name: str, mistake: object) -> None:
    call = {**OF_APPLICATIONS, **OF_SCRAPES}[name]
    with pytest.raises(TypeError) as raised:
        call(mistake)
    assert str(raised.value) == (
        f"registry is {mistake!r}, which is not a CollectorRegistry of prometheus_client; "
        "give an instance of it, or omit the argument to use the default registry"
    )


def test_source_of_a_scrape_needs_only_collect() -> None:
    class Source:
        def collect(self) -> list[Any]:
            return []

    web_prom.make_wsgi_app(Source())
    with pytest.raises(TypeError, match="registry is <"):
        web_prom.PrometheusMiddleware(wsgi_app, registry=Source())  # type: ignore[arg-type]
