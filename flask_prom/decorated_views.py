"""The request and the response of decorated Flask views, for the labels of decorators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flask import Request, Response, current_app, has_app_context, has_request_context
from flask import request as current
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

# Types that a view may return: https://flask.palletsprojects.com/quickstart/#about-responses
_TEXTS = (str, bytes, bytearray, Iterator)
_HEADERS = (Headers, Mapping, list, tuple, type(None))


class FlaskRequests:
    """What Flask knows about the request that a call of a decorated function serves."""

    def find_request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], /) -> Request | None:
        """Return the current request, or None."""
        return current._get_current_object() if has_request_context() else None  # type: ignore[attr-defined]

    def make_response(self, request: Any, result: Any, error: BaseException | None, /) -> Any:
        """Return a response with the status and the headers that Flask makes from the result of a view.

        It has no body. The response of an exception is that of Flask without error handlers. If an error
        handler takes an exception that has a status code, the exception itself is returned. There is no
        response of a WSGI application, which is not called, of headers that can be read only once, and of an
        object without a status from which Flask makes no response: an outer decorator may make one.
        """
        if not isinstance(request, Request) or not has_app_context():
            return None
        if error is not None:
            return self._of_error(request, error)
        return result.get_response() if isinstance(result, HTTPException) else self._of_result(result)

    def _of_result(self, result: Any) -> Any:
        body, status, headers = _parts(result)
        if not (isinstance(status, int | str | None) and isinstance(headers, _HEADERS)):
            return None
        if isinstance(body, BaseResponse):
            response = self._make(body.status_code if status is None else status)
            response.headers = Headers(body.headers)
        elif isinstance(body, dict | list):
            response = self._make(status, mimetype=getattr(current_app.json, "mimetype", "application/json"))
        elif isinstance(body, _TEXTS):
            return self._make(status, headers=Headers(headers))
        elif status is None or callable(body):
            return None
        else:
            response = self._make(status)
            del response.headers["Content-Type"]
        response.headers.update(headers or {})
        return response

    def _of_error(self, request: Request, error: BaseException) -> Any:
        if isinstance(error, HTTPException):
            return error.get_response()
        if not isinstance(error, Exception):
            return None
        return error if hasattr(error, "status_code") and _has_handler(request, error) else self._make(500)

    def _make(self, status: int | str | None, **options: Any) -> Response:
        return current_app.response_class(status=status, **options)


def _has_handler(request: Request, error: Exception) -> bool:
    """Return whether a handler is registered for an exception, other than one for all exceptions."""
    handlers = current_app.error_handler_spec
    kinds = {kind for kind in type(error).__mro__ if issubclass(kind, Exception)} - {Exception}
    return any(
        kinds & handlers[name][None].keys() for name in (*request.blueprints, None) if name in handlers
    )


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
