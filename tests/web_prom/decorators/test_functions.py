"""The decorators on functions of each kind: what they record."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import web_prom as prom
from tests.web_prom.support import Clock, errors, samples
from web_prom.decorators.functions import Decorator

KINDS = ("function", "coroutine function", "generator function", "async generator function")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that calls are timed by."""
    clock = Clock()
    monkeypatch.setattr("web_prom.decorators.observers.perf_counter", clock)
    monkeypatch.setattr("web_prom.decorators.wrapping.perf_counter", clock)
    return clock


def make(kind: str, body: Callable[..., Any], decorate: Decorator) -> Callable[..., Any]:
    """Return a decorated function of a kind, with ``order`` as its parameter."""
    if kind == "function":

        def function(order: Any = "a") -> Any:
            return body(order)

    elif kind == "coroutine function":

        async def function(order: Any = "a") -> Any:  # type: ignore[misc]
            await asyncio.sleep(0)
            return body(order)

    elif kind == "generator function":

        def function(order: Any = "a") -> Any:
            yield 1
            return body(order)

    else:

        async def function(order: Any = "a") -> Any:
            yield 1
            body(order)

    return decorate(function)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of any kind, run it to its end, and return its result."""
    found = function(*args, **kwargs)
    if inspect.isasyncgen(found):

        async def run_all() -> None:
            async for _ in found:
                pass

        return asyncio.run(run_all())
    if inspect.iscoroutine(found):
        return asyncio.run(found)
    if inspect.isgenerator(found):
        try:
            while True:
                next(found)
        except StopIteration as end:
            return end.value
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_count_counts_calls_by_argument_and_exception(kind: str, registry: CollectorRegistry) -> None:
    def body(order: str) -> str:
        if order == "bad":
            raise KeyError(order)
        return order.upper()

    labels = {"kind": lambda order: order, "exception": prom.exception_type, "shop": "north"}
    function = make(kind, body, prom.count("orders_total", "Orders.", labels=labels, registry=registry))
    results = [call(function), call(function, order="b"), call(function, "b")]
    with pytest.raises(KeyError):
        call(function, "bad")
    assert results == ([None] * 3 if kind.startswith("async gen") else ["A", "B", "B"])
    found = samples(registry, "orders_total", "kind", "exception", "shop")
    assert found == {
        ("a", "", "north"): 1,
        ("b", "", "north"): 2,
        ("bad", "KeyError", "north"): 1,
    }
    assert errors(registry) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_time_measures_seconds_also_of_calls_that_raise(
    kind: str, registry: CollectorRegistry, clock: Clock
) -> None:
    def body(order: int) -> None:
        clock.go(order)
        if order == 7:
            raise ValueError

    function = make(kind, body, prom.time("work_seconds", "Work.", buckets=(1, 5), registry=registry))
    call(function, 3)
    with pytest.raises(ValueError, match=r"^$"):
        call(function, 7)
    assert registry.get_sample_value("work_seconds_sum") == 10
    buckets = samples(registry, "work_seconds_bucket", "le")
    assert buckets == {("1.0",): 0, ("5.0",): 1, ("+Inf",): 2}


@pytest.mark.parametrize("kind", KINDS)
def test_track_in_progress_counts_up_and_down(kind: str, registry: CollectorRegistry) -> None:
    seen = []

    def body(order: str) -> None:
        seen.append(samples(registry, "busy", "order"))
        if order == "bad":
            raise ValueError

    labels = {"order": lambda order: order}
    function = make(kind, body, prom.track_in_progress("busy", "Busy.", labels=labels, registry=registry))
    call(function)
    with pytest.raises(ValueError, match=r"^$"):
        call(function, "bad")
    assert seen == [{("a",): 1}, {("a",): 0, ("bad",): 1}]
    assert samples(registry, "busy", "order") == {("a",): 0, ("bad",): 0}


@pytest.mark.parametrize("kind", KINDS[:3])
def test_observe_observes_a_number_of_the_result(kind: str, registry: CollectorRegistry) -> None:
    def body(order: Any) -> Any:
        if order is ValueError:
            raise ValueError
        return order

    value = prom.observe("sizes", "Sizes.", lambda result: result and len(result), registry=registry)
    function = make(kind, body, value)
    for order in ("abc", "", None, 5, Unmeasurable()):
        call(function, order)
    with pytest.raises(ValueError, match=r"^$"):
        call(function, ValueError)
    assert registry.get_sample_value("sizes_sum") == 3
    assert registry.get_sample_value("sizes_count") == 1  # "" and None give no number
    assert errors(registry) == {("value",): 3}  # float(""), len(5) and NaN


class Unmeasurable:
    """An object whose length is no number."""

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        raise ValueError


def test_summaries_have_no_buckets(registry: CollectorRegistry) -> None:
    timed = prom.time("a_seconds", "A.", summary=True, registry=registry)(abs)
    observed = prom.observe("b", "B.", lambda result: result, summary=True, registry=registry)(timed)
    assert observed(-2) == 2
    assert registry.get_sample_value("a_seconds_count") == registry.get_sample_value("b_count") == 1
    assert registry.get_sample_value("b_sum") == 2
    assert samples(registry, "b_bucket", "le") == {}


def test_count_of_some_exceptions_ignores_other_calls(registry: CollectorRegistry) -> None:
    @prom.count("lost_total", "Lost.", exceptions=(KeyError, OSError), registry=registry)
    def look(error: type[Exception] | None) -> None:
        if error:
            raise error

    look(None)
    for error in (KeyError, FileNotFoundError, ValueError):
        with pytest.raises(error):
            look(error)
    assert registry.get_sample_value("lost_total") == 2


def test_constant_labels_show_0_before_the_first_call(registry: CollectorRegistry) -> None:
    prom.count("a_total", "A.", labels={"shop": "north"}, registry=registry)(abs)
    prom.time("a_seconds", "A.", registry=registry)(abs)
    assert samples(registry, "a_total", "shop") == {("north",): 0}
    assert registry.get_sample_value("a_seconds_count") == 0


def test_coroutine_that_is_cancelled_is_an_exception(registry: CollectorRegistry) -> None:
    labels = {"exception": prom.exception_type}

    @prom.track_in_progress("waiting", "Waits.", registry=registry)
    @prom.count("waits_total", "Waits.", labels=labels, registry=registry)
    async def wait() -> None:
        await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert registry.get_sample_value("waiting") == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert samples(registry, "waits_total", "exception") == {("CancelledError",): 1}
    assert registry.get_sample_value("waiting") == 0


def flush() -> None:
    """Do what each scrape does before it reads the values."""
    from web_prom.runtime import this_process

    this_process.publish()


def test_closed_generator_is_measured_to_its_close(registry: CollectorRegistry, clock: Clock) -> None:
    labels = {"exception": prom.exception_type}

    @prom.track_in_progress("rows_open", "Rows.", registry=registry)
    @prom.time("rows_seconds", "Rows.", labels=labels, registry=registry)
    def rows() -> Generator[int, None, None]:
        clock.go(1)
        yield 1
        yield 2

    rows()  # never started, so it is not counted
    begun = rows()
    clock.go(50)
    assert next(begun) == 1
    clock.go(2)
    assert registry.get_sample_value("rows_open") == 1
    begun.close()  # perhaps by the garbage collector, in a thread that holds the lock of a value
    assert registry.get_sample_value("rows_open") == 1
    flush()
    assert samples(registry, "rows_seconds_sum", "exception") == {("",): 3}
    assert registry.get_sample_value("rows_open") == 0
    left = rows()
    next(left)
    del left  # as the garbage collector does
    assert list(rows()) == [1, 2]  # the next call of a decorated function writes closed calls, too
    assert samples(registry, "rows_seconds_count", "exception") == {("",): 3}


def test_closed_coroutine_and_async_generator_are_measured(registry: CollectorRegistry) -> None:
    labels = {"exception": prom.exception_type}

    @prom.count("waits_total", "Waits.", labels=labels, registry=registry)
    async def wait() -> None:
        await asyncio.sleep(60)

    @prom.count("rows_total", "Rows.", labels=labels, registry=registry)
    async def rows() -> AsyncGenerator[int, None]:
        yield 1

    async def close_early() -> None:
        generator = rows()
        assert await generator.__anext__() == 1
        await generator.aclose()

    coroutine = wait()
    with pytest.raises(RuntimeError):
        coroutine.send(None)  # no event loop runs
    asyncio.run(close_early())

    @prom.count("closed_total", "Closed.", labels=labels, registry=registry)
    async def pause() -> None:
        await suspended()

    waiting = pause()
    waiting.send(None)
    waiting.close()
    flush()
    assert samples(registry, "rows_total", "exception") == {("",): 1}
    assert samples(registry, "waits_total", "exception") == {("RuntimeError",): 1}
    assert samples(registry, "closed_total", "exception") == {("GeneratorExit",): 1}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_event_loop_closes_decorated_async_generators(
    number: int, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """It closes all open ones at the same time: only the outermost one of a call may be among them."""
    closed = []

    async def rows() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    decorated = rows
    for index in range(number):
        decorated = prom.track_in_progress(f"rows_{index}", "Rows.", registry=registry)(decorated)
    left = []

    async def leave_open() -> None:
        left.append(decorated())
        await left[0].__anext__()

    asyncio.run(leave_open())
    flush()
    assert closed == [True]
    assert [registry.get_sample_value(f"rows_{index}") for index in range(number)] == [0] * number
    assert caplog.records == []


def suspended() -> Awaitable[None]:
    """Return an awaitable that suspends its coroutine once."""

    class Once:
        def __await__(self) -> Generator[None, None, None]:
            yield

    return Once()


def test_decorators_of_equal_definition_share_a_family(registry: CollectorRegistry) -> None:
    def decorate(**options: Any) -> Any:
        labels = {"kind": lambda result: result}
        return prom.count("a_total", "A.", registry=registry, **{"labels": labels, **options})

    functions = [decorate()(abs), decorate()(len)]
    assert [functions[0](-1), functions[1]("a")] == [1, 1]
    assert samples(registry, "a_total", "kind") == {("1",): 2}
    with pytest.raises(prom.ConflictError, match=r"(?s)labels=.*test_functions.py"):
        decorate(labels={"other": "x"})
    with pytest.raises(prom.ConflictError, match=r"max_label_sets=1000 .*max_label_sets=5"):
        decorate(max_label_sets=5)
    with pytest.raises(prom.ConflictError, match="'kind' is a constant in one"):
        decorate(labels={"kind": "x"})
    with pytest.raises(prom.ConflictError, match="histogram"):
        prom.time("a", "A.", registry=registry)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_label_sets": 0}, "max_label_sets is 0; allowed: a whole number"),
        ({"max_label_sets": "5"}, "max_label_sets is '5'; allowed: a whole number"),
        ({"labels": ["kind"]}, "labels is .*; allowed: a mapping"),
        ({"exceptions": "ValueError"}, "exceptions is 'ValueError'; allowed: a class of exceptions"),
        ({"exceptions": ValueError("a")}, "allowed: a class of exceptions"),
        ({"labels": {"": "x"}}, "labels has the name ''; allowed: a text that is not empty"),
        ({"labels": {1: "x"}}, "labels has the name 1; allowed: a text"),
    ],
)
def test_wrong_option_is_an_error(options: Any, message: str, registry: CollectorRegistry) -> None:
    with pytest.raises(prom.ConfigError, match=message):
        prom.count("a_total", "A.", registry=registry, **options)


@pytest.mark.parametrize(
    "buckets", ["a", "", (), (1, 1), (2, 1), ("a",), (float("nan"),), (float("inf"),), 5, None, (1, None)]
)
def test_wrong_buckets_are_an_error(buckets: Any, registry: CollectorRegistry) -> None:
    """Those that prometheus_client accepts would lose each observation, or make a series twice."""
    with pytest.raises(
        prom.ConfigError, match=r"buckets is .*; allowed: upper bounds as numbers in ascending"
    ):
        prom.time("a_seconds", "A.", buckets=buckets, registry=registry)
    with pytest.raises(prom.ConfigError, match="buckets is "):
        prom.observe("a", "A.", lambda: 1, buckets=buckets, registry=registry)


def test_buckets_may_be_negative_and_end_with_infinity(registry: CollectorRegistry) -> None:
    bounds = (value for value in (-1, 0, 1, float("inf")))
    prom.observe("drift", "Drift.", lambda result: result, buckets=bounds, registry=registry)(lambda: -0.5)()
    found = samples(registry, "drift_bucket", "le")
    assert found == {("-1.0",): 0, ("0.0",): 1, ("1.0",): 1, ("+Inf",): 1}


def test_fault_34_label_function_that_raises_leaves_the_call_alone(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """The value is empty; the error is counted and logged once."""
    labels = {"bad": lambda order: order.kind, "good": lambda result: result}
    decorate = partial(prom.count, "a_total", "A.", labels=labels, registry=registry)

    @decorate()
    def place(order: int) -> int:
        if order == 3:
            raise OSError("as ever")
        return order

    assert [place(1), place(2)] == [1, 2]
    with pytest.raises(OSError, match="as ever"):
        place(3)
    assert samples(registry, "a_total", "bad", "good") == {("", "1"): 1, ("", "2"): 1, ("", ""): 1}
    assert errors(registry) == {("label bad",): 3}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "AttributeError" in caplog.text


def test_limit_folds_further_label_sets_and_cleans_values(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    @prom.count(
        "a_total",
        "A.",
        labels={"who": lambda who: who, "shop": "north"},
        registry=registry,
        max_label_sets=3,
    )
    def greet(who: str) -> str:
        return who

    for who in ("a\x00\n\u2028b", "a\x01\n\u2028b", "x" * 1000, "c", "d", "c", "e", "d", "\ud800"):
        assert greet(who) == who
    assert samples(registry, "a_total", "who", "shop") == {
        ("a???b", "north"): 2,
        ("x" * 128, "north"): 1,
        ("c", "north"): 2,
        ("_overflow", "north"): 4,
    }
    assert samples(registry, "web_prom_label_overflow_total", "family") == {("a",): 4}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert errors(registry) == {}
