"""The lag of real loops: asyncio's, uvloop's and gevent's."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.web_prom.support import fresh_python, python
from web_prom.runtime.loop_lag import INTERVAL_SECONDS, AsyncioLag

pytestmark = pytest.mark.slow

LOOPS = ["asyncio", "uvloop"]


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "asyncio":
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


def run(name: str, main: Callable[[], Any]) -> Any:
    loop = new_loop(name)
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


@pytest.mark.parametrize("name", LOOPS)
def test_asyncio_lag_shows_a_loop_that_was_blocked(name: str) -> None:
    seen: list[float] = []
    lag = AsyncioLag(seen.append)

    async def main() -> None:
        lag.start()
        await asyncio.sleep(3 * INTERVAL_SECONDS)
        time.sleep(0.3)
        await asyncio.sleep(INTERVAL_SECONDS)

    run(name, main)
    assert max(seen) >= 0.3 - INTERVAL_SECONDS - 0.01


@pytest.mark.parametrize("name", LOOPS)
def test_asyncio_lag_sets_one_timer_for_each_loop(name: str) -> None:
    seen: list[float] = []
    lag = AsyncioLag(seen.append)

    async def main() -> None:
        for _ in range(1000):
            lag.start()
        await asyncio.sleep(3 * INTERVAL_SECONDS)

    run(name, main)
    run(name, main)
    # A thousand timers would tick a thousand times.
    assert 0 < len(seen) < 100


@pytest.mark.parametrize("name", LOOPS)
def test_asyncio_lag_keeps_no_loop_alive(name: str) -> None:
    lag = AsyncioLag(lambda seconds: None)

    async def main() -> None:
        lag.start()
        await asyncio.sleep(0)

    loop = new_loop(name)
    loop.run_until_complete(main())
    loop.close()
    left = weakref.ref(loop)
    del loop
    gc.collect()
    assert left() is None


def test_asyncio_lag_keeps_no_request_alive() -> None:
    """A timer keeps the context in which it was made."""
    variable: contextvars.ContextVar[object] = contextvars.ContextVar("variable")
    lag = AsyncioLag(lambda seconds: None)

    class Request:
        pass

    async def serve() -> weakref.ref[Request]:
        request = Request()
        variable.set(request)
        lag.start()
        return weakref.ref(request)

    async def main() -> None:
        left = await asyncio.ensure_future(serve())
        await asyncio.sleep(2 * INTERVAL_SECONDS)
        gc.collect()
        assert left() is None

    asyncio.run(main())


def test_asyncio_lag_calls_the_other_function_at_once_and_each_second() -> None:
    called: list[float] = []
    lag = AsyncioLag(lambda seconds: None, lambda: called.append(time.monotonic()))

    async def main() -> None:
        lag.start()
        assert len(called) == 1
        while len(called) < 2:
            await asyncio.sleep(INTERVAL_SECONDS)

    asyncio.run(asyncio.wait_for(main(), 60))
    assert called[1] - called[0] >= 0.9


def test_asyncio_lag_does_nothing_without_a_loop() -> None:
    seen: list[float] = []
    AsyncioLag(seen.append).start()
    assert seen == []


def test_asyncio_lag_measures_loops_in_several_threads() -> None:
    lags: dict[int, list[float]] = {}

    def observe(seconds: float) -> None:
        lags.setdefault(threading.get_ident(), []).append(seconds)

    lag = AsyncioLag(observe)

    async def main() -> None:
        lag.start()
        await asyncio.sleep(3 * INTERVAL_SECONDS)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lags) == 3


GEVENT = """
    import time, gevent
    from web_prom.runtime.loop_lag import GeventLag
    seen = []
    lag = GeventLag(seen.append)
    lag.start()  # nothing, outside of a greenlet
    for _ in range(10):
        gevent.spawn(lag.start).join()
    gevent.sleep(0.16)
    time.sleep(0.3)
    gevent.sleep(0.06)
    print(len(seen), max(seen))
    gevent.get_hub().join(5)  # the timer alone does not keep the hub running
"""


def test_gevent_lag_shows_a_hub_that_was_blocked() -> None:
    count, most = python(GEVENT).split()
    assert 2 <= int(count) <= 8
    assert float(most) >= 0.3 - INTERVAL_SECONDS - 0.01


def test_gevent_lag_does_nothing_without_gevent() -> None:
    code = (
        "import sys; from web_prom.runtime.loop_lag import GeventLag; GeventLag(print).start();"
        "print('gevent' in sys.modules)"
    )
    assert fresh_python(code) == "False\n"
