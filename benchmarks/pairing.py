"""Paired measurement: variants of an application run in turn in one process, so that noise cancels out."""

from __future__ import annotations

import asyncio
import atexit
import functools
import gc
import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import thread_time
from typing import Any, NamedTuple

BARE, FLOOR, OURS = "bare", "floor", "web-prom"
"""The names of the reference variants. All variants are compared with the bare one."""

Environ = dict[str, Any]
WSGIApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
ASGIApp = Callable[[Any, Any, Any], Any]


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Variant:
    """One variant of the application.

    Attributes:
        name: The name in the table.
        app: The WSGI or ASGI application.
        activate: Sets the state that all variants of a process share (settings, signals). Not timed.
    """

    name: str
    app: Any
    activate: Callable[[], None] = _nothing


class Cost(NamedTuple):
    """The additional time of a variant compared with the bare one, in seconds per request.

    Attributes:
        median: The median of the differences of all rounds.
        low, high: Their quartiles.
    """

    median: float
    low: float
    high: float


def compare(
    variants: Sequence[Variant],
    environs: Sequence[Environ],
    *,
    rounds: int,
    requests: int,
    progress: Callable[[int], None] = lambda done: None,
    serve: Callable[[Any, Sequence[Environ]], float] | None = None,
) -> dict[str, Cost]:
    """Send the same requests to each variant in each round, and compare within the rounds.

    Args:
        variants: The variants, including the bare one.
        environs: The requests. Each turn starts after the last request of the previous turn.
        rounds: The number of turns of each variant. The order differs in each round.
        requests: The number of requests in one turn.
        progress: Called with the number of finished rounds.
        serve: Serves requests, and returns the mean seconds of one request. WSGI by default.

    Returns:
        The cost of each variant. For the bare one it is the time of the request itself.
    """
    serve = serve or serve_wsgi
    seconds: dict[str, list[float]] = {variant.name: [] for variant in variants}
    order = list(variants)
    shuffle = random.Random(0).shuffle
    _warm_up(variants, environs, requests, serve)
    gc.collect()
    gc.freeze()  # from now on, the garbage collector does not traverse the objects that exist
    for done in range(rounds):
        shuffle(order)
        first = done * requests % len(environs)
        turn = [environs[(first + number) % len(environs)] for number in range(requests)]
        for variant in order:
            variant.activate()
            gc.collect()
            seconds[variant.name].append(serve(variant.app, turn))
        progress(done + 1)
    return _costs(seconds)


def _warm_up(
    variants: Sequence[Variant],
    environs: Sequence[Environ],
    requests: int,
    serve: Callable[[Any, Sequence[Environ]], float],
) -> None:
    """Send every request once, and enough requests for the interpreter to specialise its code."""
    for variant in variants:
        variant.activate()
        serve(variant.app, environs)
        serve(variant.app, [environs[0]] * requests)


def serve_wsgi(app: WSGIApp, environs: Sequence[Environ]) -> float:
    """Serve requests as a server does, and return the mean seconds of CPU time of one request."""
    started = thread_time()
    for template in environs:
        # The variable keeps the body until the next request, as in a server's loop.
        body = app(template.copy(), _start_response)
        for _chunk in body:
            pass
        if hasattr(body, "close"):
            body.close()
    return (thread_time() - started) / len(environs)


def serve_asgi(app: ASGIApp, scopes: Sequence[Environ]) -> float:
    """Serve ASGI requests in one task of an event loop, the same in all turns, as in a server's process."""
    return _event_loop().run_until_complete(_serve_in_loop(app, scopes))


@functools.cache
def _event_loop() -> asyncio.AbstractEventLoop:
    # The first request of a loop starts the measurement of that loop, and prepares asyncio and anyio.
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


async def _serve_in_loop(app: ASGIApp, scopes: Sequence[Environ]) -> float:
    started = thread_time()
    for template in scopes:
        await app(template.copy(), Client(), _send)
    return (thread_time() - started) / len(scopes)


class Client:
    """The ``receive`` of one request: an empty body, and then a client that waits for the answer."""

    def __init__(self) -> None:
        self._sent = False

    async def __call__(self) -> Any:
        if self._sent:
            await asyncio.get_running_loop().create_future()
        self._sent = True
        return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    """Accept a message."""


def _start_response(
    status: str, headers: list[tuple[str, str]], exc_info: Any = None
) -> Callable[[bytes], None]:
    return _write


def _write(data: bytes) -> None:
    """Accept a chunk that is sent with ``write``."""


def _costs(seconds: Mapping[str, Sequence[float]]) -> dict[str, Cost]:
    costs = {BARE: _summary(seconds[BARE])}
    for name, times in seconds.items():
        if name != BARE:
            costs[name] = _summary([mine - bare for mine, bare in zip(times, seconds[BARE], strict=True)])
    return costs


def _summary(values: Sequence[float]) -> Cost:
    if len(values) < 2:
        return Cost(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Cost(median, low, high)
