"""The operations of caches: what is counted, and what a call inside another one is."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from typing import Any

import pytest
from django.core.cache import cache, caches

from .project import ByMany, CallsDefault, Doubled, Down, Measured, ShowsKeys, Tiered, path_of, use_caches

ABSENT = object()


def test_get_counts_hits_and_misses(measured: Measured) -> None:
    cache.set("a", 1)
    assert cache.get("a") == 1
    assert cache.get("b") is None
    assert cache.get("b", ABSENT) is ABSENT
    assert cache.get("a", version=2, default=3) == 3
    expected = {"set ok": 1, "get hit": 1, "get miss": 3}
    assert measured.operations() == measured.durations() == expected
    assert measured.operations("other") == {}


@pytest.mark.parametrize("value", [0, False, "", None, [], 0.0])
def test_fault_36_false_values_are_returned_and_are_hits(measured: Measured, value: Any) -> None:
    cache.set("a", value)
    for default in (None, value, ABSENT):
        found = cache.get("a", default)
        assert found == value
        assert type(found) is type(value)
    assert cache.get_or_set("a", 7) == value
    assert cache.get_many(["a", "b"]) == {"a": value}
    assert measured.operations() == {
        "set ok": 1,
        "get hit": 3,
        "get_or_set hit": 1,
        "get_many hit": 1,
        "get_many miss": 1,
    }


def test_get_many_counts_each_key_and_one_duration(measured: Measured) -> None:
    cache.set_many({"a": 1, "b": 2})
    assert cache.get_many(["a", "b", "c", "c"]) == {"a": 1, "b": 2}
    assert cache.get_many(keys=("c",)) == {}
    assert measured.operations() == {"set_many ok": 1, "get_many hit": 2, "get_many miss": 2}
    for _ in range(3):
        assert cache.get_many(("a", "b")) == {"a": 1, "b": 2}
    assert cache.get_many([]) == {}
    assert cache.get_many(["a", "c"]) == {"a": 1}
    assert measured.operations() == {"set_many ok": 1, "get_many hit": 9, "get_many miss": 3}
    assert measured.durations() == {"set_many ok": 1, "get_many ok": 7}


def test_fault_36_get_many_takes_the_keys_of_an_iterator_once(measured: Measured) -> None:
    cache.set("a", 1)
    taken: list[str] = []
    assert cache.get_many(taken.append(key) or key for key in "abc") == {"a": 1}  # type: ignore[func-returns-value]
    assert taken == ["a", "b", "c"]
    assert cache.get_many(keys=iter("ab")) == {"a": 1}
    assert measured.operations() == {"set ok": 1, "get_many hit": 2, "get_many miss": 3}


@pytest.mark.parametrize(
    "keys", [["a", "b"], deque(["a", "b"]), {1: "a", 2: "b"}.values(), "ab", deque()], ids=repr
)
def test_keys_with_a_length_reach_the_backend_unchanged(measured: Measured, keys: Any) -> None:
    """A backend may ask for the length: django-redis sends no command if there are no keys."""
    with use_caches(default=path_of(ShowsKeys)):
        cache.set("a", 1)
        assert cache.get_many(keys) == ({"a": 1} if keys else {})
        assert caches["default"].taken is keys
    expected = {"set ok": 1, "get_many hit": 1, "get_many miss": 1} if keys else {"set ok": 1}
    assert measured.operations() == expected


def test_get_that_is_a_get_many_tells_a_stored_value_from_the_default(measured: Measured) -> None:
    """The ``get`` of Django's cache in a database is one."""
    with use_caches(default=path_of(ByMany)):
        cache.set("a", None)
        assert cache.get("a") is None
        assert cache.get("b") is None
        assert cache.get_or_set("a", 1) is None
        assert asyncio.run(cache.aget("a")) is None
    assert measured.operations() == {"set ok": 1, "get hit": 2, "get miss": 1, "get_or_set hit": 1}


def test_get_or_set_is_one_operation(measured: Measured) -> None:
    assert cache.get_or_set("a", 1) == 1
    assert cache.get_or_set("a", lambda: 2) == 1
    assert cache.get_or_set("b", lambda: 2) == 2
    assert cache.get_or_set(key="c", default=lambda: 3, timeout=9) == 3
    assert measured.operations() == measured.durations() == {"get_or_set miss": 3, "get_or_set hit": 1}


def test_operations_of_the_function_of_get_or_set_are_counted(measured: Measured) -> None:
    assert cache.get_or_set("a", lambda: cache.get("b", 1)) == 1
    assert measured.operations() == {"get_or_set miss": 1, "get miss": 1}


def test_exception_of_the_function_of_get_or_set_is_no_error_of_the_cache(measured: Measured) -> None:
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("a", lambda: 1 // 0)
    cache.get("a")
    assert measured.operations() == {"get_or_set miss": 1, "get miss": 1}


def test_changes_count_keys_that_do_not_exist_as_misses(measured: Measured) -> None:
    cache.set("a", 1)
    for operation in (cache.incr, cache.decr, cache.incr_version, cache.decr_version):
        operation("a", version=2 if operation == cache.decr_version else None)
        with pytest.raises(ValueError, match="none' not found"):
            operation("none")
    assert cache.touch("none") is False
    assert cache.touch("a") is True
    expected = {f"{name} {result}" for name in ("incr", "decr", "incr_version", "decr_version", "touch")
                for result in ("ok", "miss")}  # fmt: skip
    assert measured.operations() == measured.durations() == {"set ok": 1, **dict.fromkeys(expected, 1)}


def test_other_operations_are_ok(measured: Measured) -> None:
    assert cache.add("a", 1) is True
    assert cache.add("a", 1) is False
    assert "a" in cache
    assert not cache.has_key("b")
    assert cache.delete("a") is True
    assert cache.delete("a") is False
    cache.delete_many(["a", "b"])
    cache.clear()
    assert measured.operations() == {
        "add ok": 2,
        "has_key hit": 1,
        "has_key miss": 1,
        "delete ok": 2,
        "delete_many ok": 1,
        "clear ok": 1,
    }


def test_asynchronous_operations_count_as_their_twins(measured: Measured) -> None:
    async def use() -> None:
        await cache.aset("a", 1)
        assert await cache.aget("a") == 1
        assert await cache.aget("b", 2) == 2
        assert await cache.aget_many(["a", "b"]) == {"a": 1}
        assert await cache.aget_or_set("c", lambda: 3) == 3
        assert await cache.ahas_key("a")
        assert await cache.aincr("a") == 2
        with pytest.raises(ValueError, match="none' not found"):
            await cache.adecr("none")
        await cache.atouch("a")
        await cache.aset_many({"d": 4})
        await cache.adelete("a")
        await cache.aclear()

    asyncio.run(use())
    assert measured.operations() == {
        "set ok": 1,
        "get hit": 1,
        "get miss": 1,
        "get_many hit": 1,
        "get_many miss": 1,
        "get_or_set miss": 1,
        "has_key hit": 1,
        "incr ok": 1,
        "decr miss": 1,
        "touch ok": 1,
        "set_many ok": 1,
        "delete ok": 1,
        "clear ok": 1,
    }
    assert sum(measured.durations().values()) == 12


def test_concurrent_asynchronous_operations_are_all_counted(measured: Measured) -> None:
    async def use() -> None:
        await asyncio.gather(*(cache.aget(str(number)) for number in range(20)))
        await asyncio.gather(*(cache.aget_or_set(str(number), 1) for number in range(20)))

    asyncio.run(use())
    assert measured.operations() == {"get miss": 20, "get_or_set miss": 20}


def test_task_that_outlives_its_operation_is_counted(measured: Measured) -> None:
    async def later() -> None:
        await cache.aget("b")

    async def use() -> None:
        tasks: list[asyncio.Task[None]] = []
        await cache.aget_or_set("a", lambda: tasks.append(asyncio.get_running_loop().create_task(later())))
        await tasks[0]

    asyncio.run(use())
    assert measured.operations() == {"get_or_set miss": 1, "get miss": 1}


def test_operations_of_all_threads_are_counted(measured: Measured) -> None:
    found: list[int] = []

    def use() -> None:
        cache.get("a")
        found.append(id(caches["default"]))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert measured.operations() == {"get miss": 4}


def test_operations_of_a_backend_inside_an_operation_are_not_counted(measured: Measured) -> None:
    with use_caches(default=path_of(Doubled)):
        cache.set("a", 1)
        assert cache.get("A") == 1
        assert cache.get("b", 2) == 2
        assert cache.get_many(["a", "A", "b"]) == {"a": 1, "A": 1}
        assert cache.get_or_set("a", 5) == 1
        assert asyncio.run(cache.aget("a")) == 1
    assert measured.operations() == {
        "set ok": 1,
        "get hit": 2,
        "get miss": 1,
        "get_many hit": 2,
        "get_many miss": 1,
        "get_or_set hit": 1,
    }


def test_operations_of_another_cache_inside_an_operation_are_counted(measured: Measured) -> None:
    with use_caches(tiered=path_of(Tiered)):
        caches["tiered"].set("a", 1)
        assert caches["tiered"].get("a") == 1
        assert caches["tiered"].get_many(["a", "b"]) == {"a": 1}
    assert measured.operations() == {"get miss": 3}
    assert measured.operations("tiered") == {"set ok": 1, "get hit": 1, "get_many hit": 1, "get_many miss": 1}


def test_default_reaches_the_get_of_a_backend_unchanged(measured: Measured) -> None:
    with use_caches(default=path_of(CallsDefault)):
        assert cache.get("a", lambda: 5) == 5
        cache.set("a", None)
        assert cache.get("a") is None
    assert measured.operations() == {"set ok": 1, "get hit": 1, "get miss": 1}


def test_errors_are_counted_and_raised(measured: Measured) -> None:
    with use_caches(default=path_of(Down)):
        for use in (lambda: cache.get("a"), lambda: cache.set("a", 1), lambda: cache.incr("a"),
                    lambda: cache.get_or_set("a", 1), lambda: cache.get_many(["a"])):  # fmt: skip
            with pytest.raises(ConnectionError, match="no server") as raised:
                use()  # type: ignore[no-untyped-call]
            assert raised.value.__context__ is None
            if sys.version_info >= (3, 11):
                assert not [frame for frame in raised.traceback if frame.path.parent.name == "cache"
                            and frame.path.parent.parent.name == "web_prom"]  # fmt: skip
        with pytest.raises(ConnectionError):
            asyncio.run(cache.aget("a"))
        assert cache.set_many({"a": 1}) == ["a"]
    operations = ("get", "set", "incr", "get_or_set", "get_many", "set_many")
    assert measured.operations() == {**{f"{name} error": 1 for name in operations}, "get error": 2}
    assert measured.durations() == measured.operations()


def test_wrong_arguments_raise_the_errors_of_the_backend(measured: Measured) -> None:
    with pytest.raises(
        TypeError, match=r"LocMemCache\.get\(\) missing 1 required positional argument: 'key'"
    ):
        cache.get()
    with pytest.raises(
        TypeError, match=r"LocMemCache\.set\(\) missing 1 required positional argument: 'value'"
    ):
        cache.set("a")
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'versions'"):
        cache.get_or_set("a", 1, versions=2)
    with pytest.raises(TypeError, match=r"get_many\(\) missing 1 required positional argument: 'keys'"):
        cache.get_many()
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        cache.get_many(5)
