"""The request and the response of decorated Django views, for the labels of decorators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.views import View

# As django.core.handlers.exception.response_for_exception, which also writes to the log and sends a signal.
_STATUSES: Mapping[type[Exception], int] = {
    Http404: 404,
    PermissionDenied: 403,
    MultiPartParserError: 400,
    BadRequest: 400,
    SuspiciousOperation: 400,
}


class DjangoRequests:
    """What Django's objects show about the request that a call of a decorated function serves."""

    def find_request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], /) -> Any:
        """Return the first argument that is a request, or the request of a class-based view, or None."""
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, HttpRequest) or _is_rest_request(argument):
                return argument
        if args and isinstance(args[0], View):
            return getattr(args[0], "request", None)
        return None

    def make_response(self, request: Any, result: Any, error: BaseException | None, /) -> Any:
        """Return an empty response with the status that Django answers an exception with.

        Django REST framework and Django Ninja answer their own exceptions with the status code that these
        have. Such an exception itself is returned.
        """
        if not (isinstance(request, HttpRequest) or _is_rest_request(request)):
            return None
        if not isinstance(error, Exception):
            return None
        if hasattr(error, "status_code") and _is_of_api_framework(error):
            return error
        statuses = (status for kind, status in _STATUSES.items() if isinstance(error, kind))
        return HttpResponse(status=next(statuses, 500))


def _is_of_api_framework(error: Exception) -> bool:
    """Return whether a class of an exception is one of Django REST framework or Django Ninja."""
    return any(kind.__module__.split(".")[0] in {"rest_framework", "ninja"} for kind in type(error).__mro__)


def _is_rest_request(argument: object) -> bool:
    """Return whether an object is a request of Django REST framework, which is not a Django request."""
    return any(
        kind.__module__ == "rest_framework.request" and kind.__name__ == "Request"
        for kind in type(argument).__mro__
    )
