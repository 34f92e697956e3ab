"""Caches of the test project: backends of users, and what was measured of them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings
from prometheus_client import CollectorRegistry

from tests.web_prom.support import samples

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
DUMMY = "django.core.cache.backends.dummy.DummyCache"


def configured_caches(**backends: str) -> dict[str, dict[str, str]]:
    """Return CACHES with these backends by alias. There is always a default cache in memory."""
    entries = {"default": LOCMEM, **backends}
    return {alias: {"BACKEND": backend, "LOCATION": alias} for alias, backend in entries.items()}


class Measured:
    """What was measured of the caches of the project."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def operations(self, cache: str = "default") -> dict[str, float]:
        """Return how many operations of a cache were counted, by operation and result."""
        return self._read("cache_operations_total", cache)

    def durations(self, cache: str = "default") -> dict[str, float]:
        """Return how many durations of operations of a cache were observed, by operation and result."""
        return self._read("cache_operation_duration_seconds_count", cache)

    def _read(self, family: str, cache: str) -> dict[str, float]:
        found = samples(self.registry, family, "cache", "operation", "result")
        return {
            f"{operation} {result}": count
            for (name, operation, result), count in found.items()
            if name == cache
        }


def use_caches(**backends: str) -> Any:
    """Give the project caches with these backends: a context manager."""
    return override_settings(CACHES=configured_caches(**backends))


def path_of(backend: type) -> str:
    """Return the dotted path of a backend."""
    return f"{backend.__module__}.{backend.__qualname__}"


class Doubled(LocMemCache):  # type: ignore[misc]
    """A backend whose operations call those of its base class, and others."""

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """Return the value of the key, or of the key in lower case."""
        return super().get(key.lower(), super().get(key, default, version), version)

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Store the value under two keys."""
        super().set(key, value, *args, **kwargs)
        self.add(f"{key}-copy", value)

    async def aget(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """Return the value without a thread."""
        return self.get(key, default, version)


class Tiered(LocMemCache):  # type: ignore[misc]
    """A backend that asks another cache first."""

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """Return the value of the first tier, or else of this one."""
        return caches["default"].get(key) or super().get(key, default, version)


class ByMany(LocMemCache):  # type: ignore[misc]
    """A backend whose ``get`` is a ``get_many`` of one key."""

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """Return the value."""
        return self.get_many([key], version).get(key, default)

    def get_many(self, keys: Any, version: int | None = None) -> dict[str, Any]:
        """Return the values that are in the cache."""
        stored = {key: self._cache.get(self.make_key(key, version)) for key in keys}
        return {key: pickle.loads(value) for key, value in stored.items() if value is not None}


class ShowsKeys(LocMemCache):  # type: ignore[misc]
    """A backend that keeps the keys of the last ``get_many``."""

    taken: Any = None

    def get_many(self, keys: Any, version: int | None = None) -> Any:
        """Return the values."""
        self.taken = keys
        return super().get_many(keys, version) if len(keys) else {}


class CallsDefault(LocMemCache):  # type: ignore[misc]
    """A backend whose ``get`` calls a default that is callable."""

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """Return the value, or what the default returns."""
        value = super().get(key, default, version)
        return default() if value is default and callable(default) else value


class Down(LocMemCache):  # type: ignore[misc]
    """A backend whose server does not answer."""

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no server")

    get = add = incr = _fail

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Raise an exception."""
        raise ConnectionError("no server")

    def set_many(self, data: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """Store no key."""
        return list(data)


class OwnMethods(LocMemCache):  # type: ignore[misc]
    """A backend with methods that are no functions, and with methods of its own."""

    delete = staticmethod(lambda key, version=None: True)

    def keys(self) -> Iterator[str]:
        """Return the keys."""
        return iter(self._cache)
