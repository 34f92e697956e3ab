"""Attributes that are known when a Django request starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from web_prom.metrics import request_start


def start_key_getter(attributes: Sequence[str]) -> Callable[[Any], Any]:
    """Return a function that reads the key of a request in the recorder's ``request_starts``.

    Args:
        attributes: The attributes of the key, in the order of the naming. The method is the first one.
    """
    method, *others = attributes
    if not others:
        return attrgetter(method)
    # All attributes: with a single one, the function would not return a tuple.
    wsgi, asgi = (
        request_start.start_key_getter(attributes, keys)
        for keys in (request_start.WSGI_KEYS, request_start.ASGI_KEYS)
    )

    def read(request: Any) -> tuple[Any, ...]:
        scope = getattr(request, "scope", None)
        values = wsgi(request.META) if scope is None else asgi(scope)
        return (request.method, *values[1:])  # Django's method is in capitals

    return read
