"""Types of the functions that users and framework adapters pass to web-prom, and a check of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol


class ExtraLabel(Protocol):
    """Computes the value of an extra label (``PROM_EXTRA_LABELS``)."""

    def __call__(self, request: Any, response: Any, /) -> object:
        """Return the label value of a request. It is converted to text.

        Args:
            request: The request of the framework. Without an adapter it is the WSGI environ or the ASGI
                scope.
            response: The response of the framework, or None if there is none. Without an adapter it is the
                pair of status line and headers (WSGI), or the message that starts the response (ASGI).
        """


class ScrapeCheck(Protocol):
    """Decides whether a scrape is allowed (``PROM_ALLOW_SCRAPE``)."""

    def __call__(self, environ: Mapping[str, Any], /) -> object:
        """Return a true value if the scrape with this WSGI environ is allowed.

        An awaitable or an iterator is true whatever its result will be. It refuses the scrape.
        """


def is_sync_callable(function: Any, arguments: int) -> bool:
    """Return whether an object can be called with this number of arguments and returns its result at once.

    An async callable and a generator do not. A function can return a coroutine without being async, and the
    signature of some functions is not known: these are accepted.
    """
    return callable(function) and not _is_async_or_generator(function) and _takes(function, arguments)


def _is_async_or_generator(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    return any(
        inspect.iscoroutinefunction(code)
        or inspect.isasyncgenfunction(code)
        or inspect.isgeneratorfunction(code)
        for code in (function, type(function).__call__)
    )


def _takes(function: Callable[..., Any], arguments: int) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


class RecordedRequest(Protocol):
    """The recording of a request or a WebSocket, as a route resolver uses it.

    Attributes:
        route: The route template. None if no route matched, or if it is not known yet.
        measured: Whether the request is counted. An adapter sets it to False for an excluded view.
    """

    route: str | None
    measured: bool

    @property
    def status(self) -> str | None:
        """The status code as text, or None if no response has started."""

    @property
    def explicit_route(self) -> str | None:
        """The route that the application set itself, or None."""

    @property
    def finished(self) -> bool:
        """Whether the request was observed. Changes have no effect then."""


class RouteResolver(Protocol):
    """Finds the route of a request with the help of the framework."""

    def __call__(self, recording: Any, /) -> None:
        """Set ``route`` of a recording, and ``measured`` if the view is excluded.

        Args:
            recording: A :class:`RecordedRequest`. Under ASGI it has the ``scope``. The recording of a WSGI
                request that became a WebSocket has the ``environ``.
        """
