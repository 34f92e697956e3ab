"""What a decorator does not change: signature, kind, pickle, results, exceptions, tracebacks."""

from __future__ import annotations

import asyncio
import dis
import functools
import inspect
import pickle
import sys
import traceback
import types
import typing
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import web_prom as prom
from tests.web_prom.decorators import decorated as module
from tests.web_prom.support import samples
from web_prom.decorators.functions import Decorator

FUNCTIONS: dict[str, Any] = dict(module.FUNCTIONS)
DECORATED: dict[str, Any] = dict(module.DECORATED)


@pytest.fixture
def count(registry: CollectorRegistry) -> Callable[[Any], Any]:
    """Return a decorator."""
    return prom.count("calls_total", "Calls.", registry=registry)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_decorated_function_looks_as_before(name: str) -> None:
    plain, decorated = FUNCTIONS[name], DECORATED[name]
    assert decorated is not plain
    assert inspect.unwrap(decorated) is plain
    assert inspect.signature(decorated) == inspect.signature(plain)
    assert typing.get_type_hints(decorated) == typing.get_type_hints(plain)
    assert decorated.__globals__ is plain.__globals__
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(decorated, attribute) == getattr(plain, attribute)
    kinds: tuple[Any, ...] = (
        inspect.isfunction,
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    )
    assert [kind(decorated) for kind in kinds] == [kind(plain) for kind in kinds]
    assert pickle.loads(pickle.dumps(decorated)) is decorated


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrapper_uses_no_global_names(name: str) -> None:
    """Its globals are those of the function, which may have other objects under such names."""
    assert [each.argval for each in dis.get_instructions(DECORATED[name]) if "GLOBAL" in each.opname] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_decorated_function_gets_the_same_arguments(name: str) -> None:
    def run(function: Any) -> Any:
        found = function("a", 1, 2, size=5, more_rest=6)
        if inspect.iscoroutine(found):
            return asyncio.run(found)
        if inspect.isgenerator(found):
            return list(found)
        if inspect.isasyncgen(found):
            return asyncio.run(collect(found))
        return found

    async def collect(found: Any) -> list[Any]:
        return [item async for item in found]

    assert run(DECORATED[name]) == run(FUNCTIONS[name])
    with pytest.raises(TypeError, match=f"{name}.*'order'"):
        run(lambda *_, **__: DECORATED[name]())


def drive(generator: Generator[Any, Any, Any], steps: list[Any]) -> list[Any]:
    """Send, throw and close as the steps say, and return what happened."""
    seen: list[Any] = []
    for step in steps:
        try:
            if isinstance(step, BaseException):
                seen.append(generator.throw(step))
            elif step == "close":
                seen.append(generator.close())  # type: ignore[func-returns-value]
            else:
                seen.append(generator.send(step))
        except BaseException as error:
            seen.append((type(error), error.args, getattr(error, "value", None)))
    return seen


async def drive_async(generator: AsyncGenerator[Any, Any], steps: list[Any]) -> list[Any]:
    """Do the same for an asynchronous generator."""
    seen: list[Any] = []
    for step in steps:
        try:
            if isinstance(step, BaseException):
                seen.append(await generator.athrow(step))
            elif step == "close":
                seen.append(await generator.aclose())  # type: ignore[func-returns-value]
            else:
                seen.append(await generator.asend(step))
        except BaseException as error:
            seen.append((type(error), error.args))
    return seen


STEPS: list[list[Any]] = [
    [None] * 6,
    [None, "sent", None, None, None, None, None],
    [None, KeyError("thrown"), None, None, None, None, None],
    [None, ValueError("thrown"), None],
    [None, "close", None, "close"],
    ["close", None],
    [ValueError("before the start"), None],
    [None, StopIteration("thrown"), None],
    [None, StopAsyncIteration("thrown"), None],
    ["not None"],
]


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_generators_pass_on_what_is_sent_and_thrown(number: int) -> None:
    steps = STEPS[number]
    wrapped, plain = (functions["generator"]("a") for functions in (DECORATED, FUNCTIONS))
    assert str(drive(wrapped, steps)) == str(drive(plain, steps))

    async def run(generator: Any) -> list[Any]:
        return await drive_async(generator, steps)

    wrapped, plain = (functions["async_generator"]("a") for functions in (DECORATED, FUNCTIONS))
    assert str(asyncio.run(run(wrapped))) == str(asyncio.run(run(plain)))


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("is_generator", [False, True])
def test_traceback_has_one_frame_more(
    count: Callable[[Any], Any], is_async: bool, is_generator: bool
) -> None:
    def plain() -> Any:
        raise ValueError("mine") from KeyError("cause")

    async def coroutine() -> Any:
        plain()

    def generator() -> Any:
        yield plain()

    async def async_generator() -> Any:
        yield plain()

    function: Any = {
        (False, False): plain,
        (True, False): coroutine,
        (False, True): generator,
        (True, True): async_generator,
    }[is_async, is_generator]

    def call(function: Any) -> None:
        found = function()
        if is_generator and is_async:
            found = found.__anext__()
        if is_async:
            found.send(None)
        if is_generator:
            next(found)

    def frames(function: Any) -> list[str]:
        with pytest.raises(ValueError, match="mine") as raised:
            call(function)
        assert isinstance(raised.value.__cause__, KeyError)
        assert raised.value.__context__ is None
        return [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]

    expected = frames(function)
    expected.insert(2, "wrapper")
    assert frames(count(function)) == expected


def test_exceptions_get_no_other_context(count: Callable[[Any], Any]) -> None:
    @count
    def generator() -> Generator[int, None, None]:
        with suppress(KeyError):
            yield 1
        raise ValueError

    @count
    async def async_generator() -> AsyncGenerator[int, None]:
        with suppress(KeyError):
            yield 1
        raise ValueError

    found = [*drive(generator(), [None]), *asyncio.run(drive_async(async_generator(), [None]))]
    assert found == [1, 1]
    begun = generator()
    next(begun)
    with pytest.raises(ValueError, match=r"^$") as raised:
        begun.throw(KeyError())
    assert raised.value.__context__ is None

    async def throw() -> None:
        begun = async_generator()
        await begun.__anext__()
        with pytest.raises(ValueError, match=r"^$") as raised:
            await begun.athrow(KeyError())
        assert raised.value.__context__ is None

    asyncio.run(throw())


def test_exceptions_are_not_kept_alive(count: Callable[[Any], Any]) -> None:
    @count
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$") as raised:
        fail()
    assert sys.getrefcount(raised.value) <= sys.getrefcount(object()) + 4


def test_methods_are_measured_on_either_side_of_their_decorator(registry: CollectorRegistry) -> None:
    def count(label: str) -> Decorator:
        return prom.count("calls_total", "Calls.", labels={"of": label}, registry=registry)

    class Shop:
        @count("method")
        def method(self) -> Any:
            return self

        @count("class below")
        @classmethod
        def below(cls) -> Any:
            return cls

        @classmethod
        @count("class above")
        def above(cls) -> Any:
            return cls

        @count("static below")
        @staticmethod
        def static_below(value: int) -> int:
            return value

        @staticmethod
        @count("static above")
        def static_above(value: int) -> int:
            return value

        @property
        @count("property above")
        def name(self) -> str:
            return "a"

        @count("property below")  # type: ignore[prop-decorator]
        @property
        def title(self) -> str:
            """The title."""
            return "b"

        @title.setter
        def title(self, title: str) -> None:
            raise KeyError(title)

    shop = Shop()
    assert shop.method() is shop
    assert Shop.below() is shop.above() is Shop
    assert (shop.static_below(3), Shop.static_above(4)) == (3, 4)
    assert (shop.name, shop.title, Shop.title.__doc__) == ("a", "b", "The title.")
    with pytest.raises(KeyError):
        shop.title = "c"
    found = samples(registry, "calls_total", "of")
    assert set(found.values()) == {1}
    assert len(found) == 7


def twice(item: Any) -> Generator[Any, None, None]:
    """Yield an object twice."""
    yield item
    yield item


def test_functions_of_other_types_are_measured(count: Any, registry: CollectorRegistry) -> None:
    assert count(len)("abc") == 3
    assert count(functools.partial(len, "ab"))() == 2
    assert count(functools.lru_cache(lambda: 7))() == 7
    assert list(count(functools.partial(twice, "a"))()) == ["a", "a"]
    assert registry.get_sample_value("calls_total") == 4


def test_decorated_cache_of_functools_can_be_cleared(count: Any) -> None:
    cached = count(functools.lru_cache(lambda: 7))
    cached()
    assert cached.cache_info().currsize == 1
    cached.cache_clear()
    assert cached.cache_info().currsize == 0


def test_generator_that_is_a_coroutine_can_be_awaited(count: Any, registry: CollectorRegistry) -> None:
    @types.coroutine
    def pause() -> Generator[None, None, str]:
        yield
        return "a"

    decorated = count(pause)

    async def wait() -> Any:
        return await decorated()

    assert asyncio.run(wait()) == "a"
    assert registry.get_sample_value("calls_total") == 1


class Callables:
    def __call__(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    "thing",
    [
        Callables,
        Callables(),
        3,
        property(),
        functools.cached_property(len),
        functools.partialmethod(len),
        functools.singledispatchmethod(len),
    ],
)
def test_what_is_not_a_function_is_refused(count: Any, thing: object) -> None:
    with pytest.raises(TypeError, match="is not a function; put the decorator directly above the function"):
        count(thing)


def test_fault_35_function_marked_as_coroutine_function_is_awaited(registry: CollectorRegistry) -> None:
    """As the views of Django's asynchronous class-based views are."""
    from asgiref.sync import iscoroutinefunction, markcoroutinefunction

    async def view() -> str:
        await asyncio.sleep(0)
        return "b"

    labels = {"result": lambda result: result}
    marked: Any = markcoroutinefunction(lambda: view())  # noqa: PLW0108 - a function that returns a coroutine
    decorated = prom.count("calls_total", "Calls.", labels=labels, registry=registry)(marked)
    assert iscoroutinefunction(decorated)
    assert asyncio.run(decorated()) == "b"
    assert samples(registry, "calls_total", "result") == {("b",): 1}
