"""Flask-Caching: the caches of an application, with PROM_CACHE, and single caches."""

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cachelib.simple import SimpleCache as CachelibCache
from flask import Flask
from flask_caching import Cache
from flask_caching.backends import SimpleCache
from prometheus_client import CollectorRegistry

from flask_prom import FlaskProm
from tests.web_prom.support import python, samples
from web_prom.cache import flask_caching, instrument, uninstrument
from web_prom.cache.methods import is_measured, restore

SIMPLE = {"CACHE_TYPE": "SimpleCache"}


@pytest.fixture(autouse=True)
def _restored_classes() -> Iterator[None]:
    yield
    flask_caching._own_recorders.clear()
    restore(flask_caching.LIBRARY)


@pytest.fixture
def app(registry: CollectorRegistry) -> Flask:
    """Return an application with PROM_CACHE."""
    app = Flask("shop")
    FlaskProm(app, registry=registry, cache=True)
    return app


def counted(registry: CollectorRegistry, cache: str = "SimpleCache") -> dict[str, float]:
    """Return how many operations of a cache were counted, by operation and result."""
    found = samples(registry, "cache_operations_total", "cache", "operation", "result")
    return {
        f"{operation} {result}": count for (name, operation, result), count in found.items() if name == cache
    }


def test_cache_that_is_initialised_after_the_extension_is_measured(
    app: Flask, registry: CollectorRegistry
) -> None:
    cache = Cache(app, config=SIMPLE)

    @app.get("/")
    def view() -> str:
        cache.set("a", 0)
        assert cache.get("a") == 0
        assert cache.get("b") is None
        return "ok"

    assert app.test_client().get("/").text == "ok"
    assert counted(registry) == {"set ok": 1, "get hit": 1, "get miss": 1}


def test_key_that_is_given_twice_counts_once(app: Flask, registry: CollectorRegistry) -> None:
    cache = Cache(app, config=SIMPLE)

    @app.get("/")
    def view() -> str:
        cache.set("a", 1)
        assert cache.get_many("a", "a", "b", "b", "a") == [1, 1, None, None, 1]
        assert cache.get_dict("a", "a", "b") == {"a": 1, "b": None}
        assert cache.get_many() == []
        return "ok"

    assert app.test_client().get("/").text == "ok"
    assert counted(registry) == {"set ok": 1, "get_many hit": 2, "get_many miss": 2}


def test_cached_views_and_memoized_functions_are_measured(registry: CollectorRegistry) -> None:
    app = Flask("shop")
    cache = Cache(app, config=SIMPLE)
    FlaskProm(app, registry=registry, cache=True)

    @app.get("/")
    @cache.cached()  # type: ignore[untyped-decorator]
    def view() -> str:
        return str(double(2))

    @cache.memoize()  # type: ignore[untyped-decorator]
    def double(number: int) -> int:
        return 2 * number

    for _ in range(3):
        assert app.test_client().get("/").text == "4"
    found = counted(registry)
    assert found["get hit"] >= 2
    assert found["get miss"] >= 2
    assert found["set ok"] >= 2


def test_operations_have_the_names_of_django(app: Flask, registry: CollectorRegistry) -> None:
    cache = Cache(app, config=SIMPLE)
    instrument(cache, name="shop")
    with app.app_context():
        backend = cache.cache
        assert cache.set_many({"a": 1, "b": None}) is not None
        assert cache.get_many("a", "b", "c") == [1, None, None]
        assert cache.get_dict("a", "c") == {"a": 1, "c": None}
        assert cache.has("a")
        assert not cache.has("c")
        assert cache.add("c", 3)
        assert not cache.add("c", 3)
        assert backend.inc("c") == 4
        assert backend.dec("c") == 3
        assert cache.delete("c")
        assert cache.delete_many("a", "b") == ["a", "b"]
        assert cache.clear()
    assert counted(registry, "shop") == {
        "set_many ok": 1,
        "get_many hit": 2,
        "get_many miss": 3,
        "has_key hit": 1,
        "has_key miss": 1,
        "add ok": 2,
        "incr ok": 1,
        "decr ok": 1,
        "delete ok": 1,
        "delete_many ok": 1,
        "clear ok": 1,
    }


def test_several_caches_of_an_application_are_measured(
    app: Flask, registry: CollectorRegistry, tmp_path: Path
) -> None:
    first, second = Cache(app, config=SIMPLE), Cache()
    second.init_app(app, config={"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(tmp_path)})

    @app.get("/")
    def view() -> str:
        first.get("a")
        second.set("a", 1)
        return str(second.get("a"))

    assert app.test_client().get("/").text == "1"
    assert counted(registry) == {"get miss": 1}
    assert counted(registry, "FileSystemCache") == {"set ok": 1, "get hit": 1}


def test_one_cache_of_two_applications_counts_for_each(registry: CollectorRegistry) -> None:
    cache, registries = Cache(config=SIMPLE), (registry, CollectorRegistry())
    for number, each in enumerate(registries):
        app = Flask(f"app{number}")
        cache.init_app(app)
        FlaskProm(app, registry=each, cache=True)
        with app.app_context():
            for _ in range(number + 1):
                cache.get("a")
    assert [counted(each) for each in registries] == [{"get miss": 1}, {"get miss": 2}]


def test_errors_that_a_backend_reports_are_counted(
    app: Flask, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = Cache(app, config={"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(tmp_path)})
    instrument(cache)

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("disk full")

    monkeypatch.setattr("tempfile.mkstemp", fail)
    with app.app_context():
        assert cache.set("a", 1) is False
    assert counted(registry, "FileSystemCache") == {"set error": 1}


def test_instrument_without_an_application_uses_the_registry(registry: CollectorRegistry) -> None:
    backend = CachelibCache()
    instrument(backend, name="first", registry=registry)
    backend.set("a", 1)
    instrument(backend, name="second")
    backend.get("a")
    assert counted(registry, "first") == {"set ok": 1}
    assert counted(registry, "second") == {"get hit": 1}
    uninstrument(backend)
    backend.get("a")
    assert counted(registry, "second") == {"get hit": 1}


def test_uninstrumented_cache_stays_unmeasured(app: Flask, registry: CollectorRegistry) -> None:
    cache = Cache(app, config=SIMPLE)
    instrument(cache)
    uninstrument(cache)

    @app.get("/")
    def view() -> str:
        return str(cache.get("a"))

    assert app.test_client().get("/").text == "None"
    assert counted(registry) == {}


def test_instrument_refuses_other_objects() -> None:
    for function in (instrument, uninstrument):
        with pytest.raises(TypeError, match=r"\{\} is not a Cache or a backend of Flask-Caching"):
            function({})


def test_backend_keeps_its_class_its_attributes_and_its_signatures(app: Flask) -> None:
    cache = Cache(app, config=SIMPLE)
    with app.app_context():
        before = vars(cache.cache).copy(), inspect.signature(cache.cache.set)
        instrument(cache)
        assert type(cache.cache) is SimpleCache
        assert (vars(cache.cache), inspect.signature(cache.cache.set)) == before


def test_measured_backends_do_not_keep_their_application_alive(registry: CollectorRegistry) -> None:
    def use() -> weakref.ref[Flask]:
        app = Flask("shop")
        cache = Cache(app, config=SIMPLE)
        FlaskProm(app, registry=registry, cache=True)
        with app.app_context():
            cache.get("a")
            assert is_measured(cache.cache)
        return weakref.ref(app)

    freed = use()
    gc.collect()
    assert freed() is None
    assert counted(registry) == {"get miss": 1}


OFF = """
    import sys
    from flask import Flask
    from flask_prom import FlaskProm
    FlaskProm(Flask("shop"))
    print([name for name in sys.modules if "prom.cache" in name or "flask_caching" in name])
"""


@pytest.mark.slow
@pytest.mark.unmeasured
def test_setting_that_is_off_imports_nothing() -> None:
    assert python(OFF).strip() == "[]"
