"""The request and the response of decorated Flask views, for the labels of decorators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flask import Request, Response, current_app, has_app_context, has_request_context
from flask import request as current
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

# What a view may return, or the first part of a tuple: https://flask.palletsprojects.com/quickstart/#about-responses
_BODIES = (str, bytes, bytearray, dict, list, Iterator, BaseResponse)


class FlaskRequests:
    """What Flask knows about the request that a call of a decorated function serves."""

    def find_request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], /) -> Request | None:
        """Return the current request, or None."""
        return current._get_current_object() if has_request_context() else None  # type: ignore[attr-defined]

    def make_response(self, request: Any, result: Any, error: BaseException | None, /) -> BaseResponse | None:
        """Return a response with the status and the headers that Flask makes from the result of a view.

        It has no body. The response of an exception is that of Flask without error handlers. There is none
        of a WSGI application, which is not called, and of an object from which Flask makes no response: an
        outer decorator may make one.
        """
        if not isinstance(request, Request) or not has_app_context():
            return None
        if error is not None:
            if isinstance(error, HTTPException):
                return error.get_response()
            return self._make(500) if isinstance(error, Exception) else None
        if isinstance(result, HTTPException):
            return result.get_response()
        body, status, headers = _parts(result)
        if not isinstance(body, _BODIES) or not isinstance(status, int | str | None):
            return None
        if status is None:
            status = getattr(body, "status_code", 200)
        response = self._make(status, getattr(body, "headers", None))
        if isinstance(body, dict | list):
            response.mimetype = "application/json"
        response.headers.update(headers or {})
        return response

    def _make(self, status: int | str, headers: Any = None) -> Response:
        return current_app.response_class(status=status, headers=headers)


def _parts(result: Any) -> tuple[Any, Any, Any]:
    """Return the body, the status and the headers in the result of a view. A missing part is None."""
    if not isinstance(result, tuple):
        return result, None, None
    if len(result) == 3:
        return result
    if len(result) != 2:
        return None, None, None
    body, other = result
    return (body, None, other) if isinstance(other, Headers | dict | tuple | list) else (body, other, None)
