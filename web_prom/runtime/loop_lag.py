"""The lag of event loops: how late their timers run. A call that blocks a loop delays all its requests.

A timer is set every 50 ms. The lag is the delay after the planned time. A block of 300 ms is seen as
250 to 300 ms.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

if TYPE_CHECKING:  # importing it takes 20 ms, and WSGI applications do not need it
    import asyncio

INTERVAL_SECONDS = 0.05

Observe = Callable[[float], None]
"""Takes a lag in seconds. Called in the loop's thread; must not raise, block or wait."""


class AsyncioLag:
    """Measures the lag of asyncio loops, uvloop's included, each from the first call of :meth:`start` in it.

    A loop that is closed can be freed, and its timer ends. Each loop has one timer. Safe in several
    threads, each with a loop of its own. A fork has no running loop, and therefore no timer.

    Args:
        observe: Takes each lag.
        each_second: Called once a second or so in each loop; must not raise, block or wait.
    """

    def __init__(self, observe: Observe, each_second: Callable[[], None] = lambda: None) -> None:
        self._observe = observe
        self._each_second = each_second
        self._measured: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        # Each request calls start(). Most servers have one loop.
        self._latest: Callable[[], asyncio.AbstractEventLoop | None] = lambda: None

    def start(self) -> None:
        """Start to measure the loop that runs in this thread, if there is one."""
        try:
            loop = _get_running_loop()
        except RuntimeError:  # trio has no loop
            return
        if loop is self._latest():
            return
        self._latest = ref(loop)
        if loop not in self._measured:
            self._measured.add(loop)
            self._each_second()
            self._arm(loop, 0)

    def _arm(self, loop: asyncio.AbstractEventLoop, ticks: int) -> None:
        due = loop.time() + INTERVAL_SECONDS
        # Without a new context, the timer would keep the context of the first request for ever.
        loop.call_at(due, self._tick, loop, due, ticks + 1, context=contextvars.Context())

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float, ticks: int) -> None:
        self._observe(max(0.0, loop.time() - due))
        if ticks % _TICKS_PER_SECOND == 0:
            self._each_second()
        self._arm(loop, ticks)


_TICKS_PER_SECOND = round(1 / INTERVAL_SECONDS)


def _import_and_get_running_loop() -> asyncio.AbstractEventLoop:
    global _get_running_loop  # noqa: PLW0603 - each request of an ASGI application calls it
    from asyncio import get_running_loop

    _get_running_loop = get_running_loop
    return get_running_loop()


_get_running_loop = _import_and_get_running_loop


class GeventLag:
    """Measures the lag of gevent's hubs, each from the first call of :meth:`start` in its thread.

    Where gevent is not loaded nothing happens. The timer does not keep a hub alive.

    Args:
        observe: Takes each lag; called in the hub, where nothing may wait.
    """

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._timers: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def start(self) -> None:
        """Start to measure the hub of this thread, if the caller is a greenlet of gevent."""
        gevent: Any = sys.modules.get("gevent")
        # In another thread, gevent would create a hub that never runs.
        if gevent is None or not isinstance(gevent.getcurrent(), gevent.Greenlet):
            return
        hub = gevent.get_hub()
        if hub not in self._timers:
            timer = hub.loop.timer(INTERVAL_SECONDS, INTERVAL_SECONDS, ref=False)
            timer.start(_Ticks(self._observe).tick)
            self._timers[hub] = timer


class _Ticks:
    """Observes the time between two ticks, minus the interval."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._due = perf_counter() + INTERVAL_SECONDS

    def tick(self) -> None:
        now = perf_counter()
        self._observe(max(0.0, now - self._due))
        self._due = now + INTERVAL_SECONDS
