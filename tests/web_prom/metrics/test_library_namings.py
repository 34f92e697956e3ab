"""The namings of other libraries: what no comparison with the library itself can show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.metrics.support import names_of_writes
from tests.web_prom.support import Environ, hello, samples, serve
from web_prom.cache.recorder import CacheRecorder
from web_prom.config import Config
from web_prom.database.recorder import DatabaseRecorder
from web_prom.errors import ConfigError
from web_prom.metrics.conventions import NAMINGS
from web_prom.metrics.labels import UNMATCHED
from web_prom.metrics.recorder import Recorder
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.wsgi import PrometheusMiddleware, set_route

LIBRARIES = sorted(NAMINGS.keys() - {"prometheus", "opentelemetry"})


def shop(environ: Environ, start_response: Any) -> Any:
    """Set the route, or raise."""
    if environ["PATH_INFO"] != "/nowhere":
        set_route(environ, "/shop")
    if environ["PATH_INFO"] == "/error":
        raise LookupError
    return hello(environ, start_response)


def values(family_samples: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return values by name and labels, without durations, gauges and times of creation."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for sample in family_samples
        if not sample.name.endswith(("_created", "_bucket", "progress"))
        and not ("seconds" in sample.name and sample.name.endswith("_sum"))
    }


def send(app: PrometheusMiddleware) -> None:
    for path in ("/", "/", "/nowhere"):
        serve(app, path)
    serve(app, "/", REQUEST_METHOD="PURGE")
    with pytest.raises(LookupError):
        serve(app, "/error")


@pytest.mark.parametrize("naming", LIBRARIES)
def test_naming_writes_the_same_to_files_as_to_memory(naming: str, tmp_path: Path, request: Any) -> None:
    in_memory = CollectorRegistry()
    send(PrometheusMiddleware(shop, registry=in_memory, naming=naming, response_size=True))
    expected = values(sample for family in in_memory.collect() for sample in family.samples)
    directory = request.getfixturevalue("shared")
    send(PrometheusMiddleware(shop, registry=CollectorRegistry(), naming=naming, response_size=True))
    shown = values(
        sample for family in WorkersCollector(directory, dict).collect() for sample in family.samples
    )
    requests = {key: value for key, value in expected.items() if not key[0].startswith("web_prom")}
    assert len(requests) > 5
    assert {key: shown.get(key) for key in requests} == requests


@pytest.mark.parametrize("naming", LIBRARIES)
def test_families_of_the_default_naming_keep_their_route(naming: str, registry: CollectorRegistry) -> None:
    send(PrometheusMiddleware(shop, registry=registry, naming=naming, first_byte=True))
    counts = samples(registry, "http_response_first_byte_seconds_count", "method", "route")
    assert counts["GET", UNMATCHED] == 1
    assert counts["GET", "/shop"] == 2


def test_default_naming_adds_nothing_to_a_request(registry: CollectorRegistry) -> None:
    """The function that writes a request is the same as without the families of other namings."""
    app = PrometheusMiddleware(shop, registry=registry)
    serve(app)
    assert app.recorder.extra_labels == ()
    assert names_of_writes(app.recorder) == ["in_memory_write.<locals>.count_and_write"]


def test_naming_changes_defaults_and_no_explicit_setting() -> None:
    config = Config.load({"naming": "fastapi-instrumentator", "request_size": False})
    assert (config.status_classes, config.request_size, config.response_size) == (True, False, True)
    assert config.duration_buckets == (0.1, 0.5, 1.0)


def test_naming_adds_its_constant_label_to_those_of_the_user() -> None:
    labels = {"zone": "a"}
    config = Config.load({"naming": "starlette-exporter", "constant_labels": labels})
    assert config.constant_labels == {"app_name": "starlette", "zone": "a"}
    config = Config.load({"naming": "starlette-exporter", "constant_labels": {"app_name": "shop"}})
    assert config.constant_labels == {"app_name": "shop"}


@pytest.mark.parametrize("label", ["endpoint", "templatename"])
def test_naming_refuses_an_extra_label_with_a_name_of_its_own(label: str) -> None:
    naming = {"endpoint": "prometheus-flask-exporter:endpoint", "templatename": "django-prometheus"}[label]
    with pytest.raises(ConfigError, match=f"label '{label}' is a label of web-prom's own metrics"):
        Config.load({"naming": naming, "extra_labels": {label: lambda request, response: ""}})


def test_namespace_replaces_the_prefix_of_the_library(registry: CollectorRegistry) -> None:
    serve(PrometheusMiddleware(shop, registry=registry, naming="starlette-exporter", namespace="shop"))
    names = {family.name for family in registry.collect()}
    assert {"shop_requests", "shop_request_duration_seconds", "shop_requests_in_progress"} <= names
    assert not [name for name in names if name.startswith("starlette")]


def test_translated_query_is_written_to_each_family(registry: CollectorRegistry) -> None:
    """A commit is no statement that was executed, and MariaDB has Django's name."""
    config = Config.load({"naming": "django-prometheus"})
    database = DatabaseRecorder(Recorder(config, registry)).database("mariadb", "default")
    for _ in range(2):
        database.observe("SELECT 1", 0.1)
    database.observe("SELECT 2", 0.1, LookupError())
    database.observe_transaction("commit", 0.1)
    of_query = ("default", "mysql")
    for name in ("django_db_execute_total", "django_db_query_duration_seconds_count"):
        assert samples(registry, name, "alias", "vendor") == {of_query: 3}
    errors = samples(registry, "django_db_errors_total", "alias", "vendor", "type")
    assert errors == {(*of_query, "LookupError"): 1}
    assert not [
        family for family in registry.collect() if family.name == "db_client_operation_duration_seconds"
    ]


def test_translated_connection_that_fails_is_a_new_connection_too(registry: CollectorRegistry) -> None:
    config = Config.load({"naming": "django-prometheus"})
    pool = DatabaseRecorder(Recorder(config, registry)).pool("default", "sqlite")
    pool.count_opened()
    pool.count_failure("OperationalError")
    of_connection = ("default", "sqlite")
    assert samples(registry, "django_db_new_connections_total", "alias", "vendor") == {of_connection: 2}
    assert samples(registry, "django_db_new_connection_errors_total", "alias", "vendor") == {of_connection: 1}


def test_translated_cache_operations_are_those_that_get(registry: CollectorRegistry) -> None:
    config = Config.load({"naming": "django-prometheus"})
    backend = "django.core.cache.backends.redis.RedisCache"
    cache = CacheRecorder(Recorder(config, registry), lambda _: backend)
    cache.observe("default", "get", "hit", 0.1)
    cache.observe("default", "get", "error", 0.1)
    cache.observe("default", "set", "ok", 0.1)
    cache.observe_keys("default", "get_many", 2, 1, 0.1)
    found = {
        name: samples(registry, f"django_cache_get_{name}", "backend")
        for name in ("total", "hits_total", "misses_total", "fail_total")
    }
    assert found == {
        "total": {("native_redis",): 5},
        "hits_total": {("native_redis",): 3},
        "misses_total": {("native_redis",): 1},
        "fail_total": {("native_redis",): 1},
    }
