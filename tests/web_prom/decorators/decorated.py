"""Functions of a module, with and without decorators, for tests of their pickles and annotations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

from prometheus_client import CollectorRegistry

import web_prom as prom

REGISTRY = CollectorRegistry()


class Order:
    """Is named in annotations, which are strings."""


def plain(order: Order, *more: int, size: int = 3, **rest: Any) -> tuple[Any, ...]:
    """Return the arguments."""
    return order, more, size, rest


async def coroutine(order: Order, *more: int, size: int = 3, **rest: Any) -> tuple[Any, ...]:
    """Return the arguments."""
    return order, more, size, rest


def generator(order: Order, *more: int, size: int = 3, **rest: Any) -> Generator[Any, Any, Any]:
    """Yield the arguments, and what is sent and thrown."""
    found: list[Any] = [order, more, size, rest]
    while found:
        try:
            found.append((yield found.pop(0)))
        except KeyError as error:
            found.append(error)
        found = [item for item in found if item is not None]
    return "end"


async def async_generator(order: Order, *more: int, size: int = 3, **rest: Any) -> AsyncGenerator[Any, Any]:
    """Yield the arguments, and what is sent and thrown."""
    found: list[Any] = [order, more, size, rest]
    while found:
        try:
            found.append((yield found.pop(0)))
        except KeyError as error:
            found.append(error)
        found = [item for item in found if item is not None]


count = prom.count("calls_total", "Calls.", registry=REGISTRY)

FUNCTIONS = {each.__name__: each for each in (plain, coroutine, generator, async_generator)}
plain = count(plain)
coroutine = count(coroutine)
generator = count(generator)
async_generator = count(async_generator)
DECORATED = {each.__name__: each for each in (plain, coroutine, generator, async_generator)}
