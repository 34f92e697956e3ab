"""The light load that the demo sends after its comparison, so that the live page has something to show."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from threading import BoundedSemaphore, Event, Thread
from types import TracebackType

from demo_load import LOAD, PRODUCT, Hit, send_hit

MEAN_RATE = 8.0
"""Requests in a second to each shop."""

MOST_AT_ONCE = 4

# The percentage of the requests that each route gets. Its hits have the same proportions as in the load.
PERCENTAGES = {
    "/": 32.5,
    PRODUCT: 35.0,
    "/orders": 12.0,
    "/reviews": 5.0,
    "/catalogue.csv": 5.0,
    "_unmatched": 4.0,
    "/search": 3.0,
    "/report": 1.5,
    "/broken": 2.0,
}


def rate_at(seconds: float) -> float:
    """Return the requests in a second to each shop, at a time that is relative to the start of the load.

    It has a wave of five minutes and one of three hours.
    """
    return MEAN_RATE * (
        1 + 0.3 * math.sin(math.tau * seconds / 300) + 0.4 * math.sin(math.tau * seconds / 10800)
    )


def times_in_load(route: str) -> int:
    """Return how often the load has a route."""
    return sum(hit.times for hit in LOAD if hit.route == route)


def choose_hit(choice: random.Random) -> Hit:
    """Return a random request, by the percentages of the routes."""
    weights = [PERCENTAGES[hit.route] * hit.times / times_in_load(hit.route) for hit in LOAD]
    return choice.choices(LOAD, weights)[0]


class Traffic:
    """Sends a light, varied load while its block runs. It counts nothing, and ignores requests that fail.

    Args:
        ports: The ports of the shops.
    """

    def __init__(self, ports: Iterable[int]) -> None:
        self._stop = Event()
        self._threads = [Thread(target=self._send_to, args=[port]) for port in ports]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send_to(self, port: int) -> None:
        choice = random.Random(port)
        places = BoundedSemaphore(MOST_AT_ONCE)
        seconds = 0.0

        def send(hit: Hit) -> None:
            try:
                send_hit(port, hit, timeout=5)
            except (OSError, HTTPException):
                pass  # the demo checks itself whether the server still runs
            finally:
                places.release()

        with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
            # The pauses of independent visitors are exponentially distributed.
            while not self._stop.wait(pause := choice.expovariate(rate_at(seconds))):
                seconds += pause
                if places.acquire(blocking=False):  # a slow shop gets less, and no queue grows here
                    pool.submit(send, choose_hit(choice))
