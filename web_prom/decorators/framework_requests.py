"""The current request and the response of a view, as the adapter of a framework knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class FrameworkRequests(Protocol):
    """What an adapter knows about the requests of its framework. Safe to call from any thread."""

    def find_request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], /) -> Any:
        """Return the request that a call with these arguments serves, or None."""

    def make_response(self, request: Any, result: Any, error: BaseException | None, /) -> Any:
        """Return the response to a request, or None if it is not known. Changes nothing.

        Args:
            request: A request, perhaps of another framework.
            result: What the view returned, or None if it raised.
            error: What the view raised, or None.
        """


_frameworks: list[FrameworkRequests] = []


def register_framework(framework: FrameworkRequests) -> None:
    """Let decorators find the requests of a framework. A second call for the same class does nothing."""
    if all(type(known) is not type(framework) for known in _frameworks):
        _frameworks.append(framework)


def find_request(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the request that a call with these arguments serves, or None."""
    for framework in _frameworks:
        request = framework.find_request(args, kwargs)
        if request is not None:
            return request
    return None


def find_response(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, error: BaseException | None
) -> Any:
    """Return the response of a view, or None if it is not known.

    That is the result if it has a status code; what the adapter of the request's framework returns; or an
    exception that has a status code, as the exceptions of Starlette have. In a request of Flask or Django an
    exception of another library can have one too, and the client gets 500.
    """
    if error is None and hasattr(result, "status_code"):
        return result
    request = find_request(args, kwargs)
    if request is not None:
        for framework in _frameworks:
            response = framework.make_response(request, result, error)
            if response is not None:
                return response
    return error if hasattr(error, "status_code") else None
