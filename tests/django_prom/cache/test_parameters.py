"""The arguments that a method of a backend gets, whatever its parameters are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from django.core.cache import cache, caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.locmem import LocMemCache

from .project import Measured, path_of, use_caches


def keeps_arguments(name: str) -> Callable[..., Any]:
    """Return a method with the names of Django's that keeps its arguments: it takes any."""

    @wraps(getattr(LocMemCache, name))
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        value = getattr(super(Decorated, self), name)(*args, **kwargs)
        self.given = args, kwargs
        return value

    return method


class Decorated(LocMemCache):  # type: ignore[misc]
    """A backend with decorated methods."""

    given: Any = None
    get, set, add = map(keeps_arguments, ("get", "set", "add"))
    get_many, get_or_set = map(keeps_arguments, ("get_many", "get_or_set"))


class OtherParameters(LocMemCache):  # type: ignore[misc]
    """A backend whose parameters have another order and other kinds."""

    def set(self, key: str, value: Any, version: int | None = None, timeout: Any = DEFAULT_TIMEOUT) -> None:
        """Store a value."""
        super().set(key, value, timeout, version)

    def get_or_set(
        self, key: str, default: Any, version: int | None = None, timeout: Any = DEFAULT_TIMEOUT
    ) -> Any:
        """Return a value."""
        return super().get_or_set(key, default, timeout, version)

    def get_many(self, keys: Any, *, version: int | None = None) -> Any:
        """Return values."""
        return super().get_many(keys, version)


class OtherDefaults(LocMemCache):  # type: ignore[misc]
    """A backend with the parameters of Django's, and with defaults of its own. It keeps the last ones."""

    given: Any = None

    def set(self, key: str, value: Any, timeout: Any = 7, version: int | None = 2) -> None:
        """Store a value."""
        self.given = timeout, version

    def get_or_set(self, key: str, default: Any, timeout: Any = 8, version: int | None = 3) -> Any:
        """Return the default."""
        self.given = timeout, version
        return default

    def get_many(self, keys: Any, version: int | None = 4) -> Any:
        """Return nothing."""
        self.given = version
        return {}


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("get", ("a",), {}),
        ("get", ("a", 1), {"version": 2}),
        ("set", ("a", 1), {}),
        ("set", ("a",), {"value": 1, "timeout": 60}),
        ("add", ("a", 1, 60), {}),
        ("get_many", (["a", "b"],), {}),
        ("get_many", (), {"keys": ["a", "b"]}),
        ("get_or_set", ("a", 1), {}),
        ("get_or_set", ("a",), {"default": 1, "version": 2}),
    ],
)
def test_decorated_method_gets_the_arguments_as_they_are(
    measured: Measured, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with use_caches(default=path_of(Decorated)):
        getattr(cache, name)(*args, **kwargs)
        assert caches["default"].given == (args, kwargs)
    assert len(measured.durations()) == 1


def test_parameters_in_another_order_keep_their_meaning(measured: Measured) -> None:
    with use_caches(default=path_of(OtherParameters)):
        cache.set("a", 1, 2)
        assert cache.get("a") is None
        assert cache.get("a", version=2) == 1
        assert cache.get_or_set("a", 5, 2) == 1
        assert cache.get_or_set("a", 5, timeout=60, version=3) == 5
        assert cache.get_many(["a"], version=2) == {"a": 1}
        with pytest.raises(TypeError, match="takes 2 positional arguments"):
            cache.get_many(["a"], 2)
    assert measured.operations() == {
        "set ok": 1,
        "get miss": 1,
        "get hit": 1,
        "get_or_set hit": 1,
        "get_or_set miss": 1,
        "get_many hit": 1,
        "get_many error": 1,
    }


def test_defaults_of_a_backend_are_used(measured: Measured) -> None:
    with use_caches(default=path_of(OtherDefaults)):
        backend = caches["default"]
        cache.set("a", 1)
        assert backend.given == (7, 2)
        cache.set("a", 1, version=1)
        assert backend.given == (7, 1)
        assert cache.get_or_set("a", 1) == 1
        assert backend.given == (8, 3)
        cache.get_or_set(key="a", default=1, timeout=None)
        assert backend.given == (None, 3)
        assert cache.get_many("ab") == {}
        assert backend.given == 4
    assert measured.operations() == {"set ok": 2, "get_or_set ok": 2, "get_many miss": 2}


def test_operation_of_another_thread_is_not_inside_an_operation(measured: Measured) -> None:
    shared = caches["default"]

    def use_in_another_thread() -> int:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        return 1

    def use() -> None:
        shared.set("b", 2)
        shared.get("b")
        shared.get_many(["b"])
        shared.get_or_set("b", 3)

    class Key(str):
        """A key that other threads use the cache for, while an operation runs."""

        __slots__ = ()

        def __str__(self) -> str:
            use_in_another_thread()
            return "key"

    key = Key("key")
    shared.get_many([key])
    assert measured.operations() == {
        "set ok": 1,
        "get hit": 1,
        "get_many hit": 1,
        "get_or_set hit": 1,
        "get_many miss": 1,
    }
    shared.get_or_set(key, use_in_another_thread)
    assert measured.operations()["get_or_set miss"] == 1
    assert measured.operations()["set ok"] == 5


def test_get_or_set_in_the_function_of_get_or_set_is_counted(measured: Measured) -> None:
    assert cache.get_or_set("a", lambda: cache.get_or_set("b", lambda: cache.get("c", 1))) == 1
    assert cache.get_or_set("a", 2) == cache.get_or_set("b", 2) == 1
    assert measured.operations() == {"get_or_set miss": 2, "get miss": 1, "get_or_set hit": 2}
