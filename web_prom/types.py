"""Types of WSGI and ASGI applications, for annotations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from types import TracebackType
from typing import Any, Protocol, TypeAlias

Environ: TypeAlias = dict[str, Any]
"""The environ of a WSGI request."""

Headers: TypeAlias = list[tuple[str, str]]
"""The headers of a WSGI response."""

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
"""What ``sys.exc_info()`` returns."""


class StartResponse(Protocol):
    """The ``start_response`` of WSGI."""

    def __call__(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = ..., /
    ) -> Callable[[bytes], object]:
        """Start the response, and return its ``write``."""


WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
"""A WSGI application."""

Scope: TypeAlias = MutableMapping[str, Any]
"""The scope of an ASGI connection."""

Message: TypeAlias = MutableMapping[str, Any]
"""An ASGI message."""

Receive: TypeAlias = Callable[[], Awaitable[Message]]
"""The ``receive`` of ASGI."""

Send: TypeAlias = Callable[[Message], Awaitable[None]]
"""The ``send`` of ASGI."""

ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[Any]]
"""An ASGI application, of version 3."""
