"""How a Django request begins, as its server tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from web_prom.metrics import request_start


def start_key_getter(attributes: Sequence[str]) -> Callable[[Any], Any]:
    """Return what reads from a request how it begins, as a key of the recorder's openings.

    Args:
        attributes: Which, of a naming; the method comes first.
    """
    method, *others = attributes
    if not others:
        return attrgetter(method)
    # With one of them alone it would not give a tuple.
    wsgi, asgi = (
        request_start.start_key_getter(attributes, keys)
        for keys in (request_start.WSGI_KEYS, request_start.ASGI_KEYS)
    )

    def read(request: Any) -> tuple[Any, ...]:
        scope = getattr(request, "scope", None)
        told = wsgi(request.META) if scope is None else asgi(scope)
        return (request.method, *told[1:])  # in capitals, as the project's views see it

    return read
