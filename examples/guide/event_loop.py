"""Effects of measurements and scrapes on an event loop.

::

    python -m guide.event_loop
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Summary
from prometheus_client.core import GaugeMetricFamily

import web_prom

WAIT_SECONDS = 0.2
SERIES = 20_000
SCRAPERS = 20

MOUNTS: dict[str, Any] = {
    "prometheus_client.make_asgi_app": prometheus_client.make_asgi_app,
    "web_prom.make_asgi_app": web_prom.make_asgi_app,
}


# Timing an async function ------------------------------------------------------------------------------

DECORATED = Summary("shop_decorated_seconds", "Timed by a decorator.", registry=None)
WRAPPED = Summary("shop_wrapped_seconds", "Timed by a with block.", registry=None)


@DECORATED.time()  # the call of an async function only creates a coroutine, and only this is timed
async def wait_decorated() -> None:
    await asyncio.sleep(WAIT_SECONDS)


async def wait_wrapped() -> None:
    with WRAPPED.time():
        await asyncio.sleep(WAIT_SECONDS)


async def time_both() -> None:
    await asyncio.gather(wait_decorated(), wait_wrapped())
    for name, summary in (("decorator", DECORATED), ("with block", WRAPPED)):
        print(f"  {name:<34}{summary._sum.get():.6f}")


# A scrape ----------------------------------------------------------------------------------------------


async def scrape(app: Any) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(_message: dict[str, Any]) -> None:
        pass

    await app({"type": "http", "method": "GET", "path": "/metrics", "headers": []}, receive, send)


async def turns_during_a_scrape(app: Any) -> int:
    """Return how often another task ran during a scrape."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    other = asyncio.create_task(take_turns())
    await asyncio.sleep(0.01)
    turns = 0
    await scrape(app)
    other.cancel()
    with suppress(asyncio.CancelledError):
        await other
    return turns


class Stock:
    """A slow collector that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("shop_stock", "Teapots in stock.")

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.calls += 1
        time.sleep(0.02)
        yield GaugeMetricFamily("shop_stock", "Teapots in stock.", value=7)


async def main() -> None:
    print(f"Seconds of an async function that waits for {WAIT_SECONDS}, as measured by")
    await time_both()

    registry = CollectorRegistry()
    products = Counter("shop_views", "Views of a product.", ["product"], registry=registry)
    for number in range(SERIES):
        products.labels(str(number))
    print("Turns of another task while a large scrape is answered by")
    for name, make in MOUNTS.items():
        print(f"  {name:<34}{await turns_during_a_scrape(make(registry))}")

    print(f"Questions to a slow database, for {SCRAPERS} scrapes at once, by")
    for name, make in MOUNTS.items():
        registry, stock = CollectorRegistry(), Stock()
        registry.register(stock)
        app = make(registry)
        await asyncio.gather(*(scrape(app) for _ in range(SCRAPERS)))
        print(f"  {name:<34}{stock.calls}")


if __name__ == "__main__":
    asyncio.run(main())
