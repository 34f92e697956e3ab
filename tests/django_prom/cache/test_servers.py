"""Caches on real servers: Redis and memcached, also while they are down, and what uses a cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from tests.servers.caches import CacheServer, Redis

from .project import Measured

REDIS = "django.core.cache.backends.redis.RedisCache"
PYMEMCACHE = "django.core.cache.backends.memcached.PyMemcacheCache"
DJANGO_REDIS = "django_redis.cache.RedisCache"


def configured(backend: str, server: CacheServer, **more: Any) -> Any:
    """Return a context manager that makes the backend the default cache."""
    return override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": server.location, **more}})


@pytest.fixture(params=[REDIS, PYMEMCACHE, DJANGO_REDIS], ids=["redis", "pymemcache", "django-redis"])
def cache(
    request: pytest.FixtureRequest,
    measured: Measured,
    redis_server: CacheServer,
    memcached_server: CacheServer,
) -> Iterator[Any]:
    """Return an empty cache on a server."""
    server = memcached_server if request.param == PYMEMCACHE else redis_server
    with configured(request.param, server):
        type(caches["default"]).clear.__wrapped__(caches["default"])
        yield caches["default"]
        caches["default"].close()


def test_operations_on_servers_are_counted(cache: Any, measured: Measured) -> None:
    cache.set("a", "1")
    assert cache.get("a", "2") == "1"
    assert cache.get("b", "2") == "2"
    assert cache.get_many(["a", "b"]) == {"a": "1"}
    assert cache.get_many(key for key in ("a", "b")) == {"a": "1"}
    assert cache.get_or_set("c", lambda: 3) == 3
    assert cache.incr("c") == 4
    with pytest.raises(ValueError, match="not found"):
        cache.incr("none")
    assert cache.add("a", "5") is False
    assert cache.touch("a") is True
    assert cache.has_key("a")
    assert cache.delete("a") is True
    asyncio.run(cache.aset("d", 0))
    assert asyncio.run(cache.aget("d")) == 0
    assert measured.operations() == {
        "set ok": 2,
        "get hit": 2,
        "get miss": 1,
        "get_many hit": 2,
        "get_many miss": 2,
        "get_or_set miss": 1,
        "incr ok": 1,
        "incr miss": 1,
        "add ok": 1,
        "touch ok": 1,
        "has_key hit": 1,
        "delete ok": 1,
    }


def test_server_that_is_down_raises_its_errors_and_counts_them(measured: Measured) -> None:
    with Redis() as server, configured(REDIS, server):
        cache = caches["default"]
        cache.set("a", 1)
        server.kill()
        plain = type(cache)(server.location, {})
        for use in ("get", "get_many", "get_or_set", "incr", "has_key"):
            arguments = [["a"]] if use == "get_many" else ["a", 1]
            with pytest.raises(Exception, match=r".") as expected:
                getattr(plain, use)(*arguments[: 1 if use == "has_key" else 2])
            with pytest.raises(type(expected.value)) as raised:
                getattr(cache, use)(*arguments[: 1 if use == "has_key" else 2])
            assert type(raised.value) is type(expected.value)
            assert measured.operations()[f"{use} error"] == 1
        server.start()
        assert cache.get("a") is None
    assert measured.operations()["get miss"] == 1


def test_errors_that_a_backend_hides_are_misses(measured: Measured) -> None:
    with Redis() as server, configured(DJANGO_REDIS, server, OPTIONS={"IGNORE_EXCEPTIONS": True}):
        server.kill()
        assert caches["default"].get("a", 7) == 7
    assert measured.operations() == {"get miss": 1}
