"""The request and the response of decorated Flask views, for the labels of decorators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Request, Response, current_app, has_app_context, has_request_context
from flask import request as current
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse


class FlaskRequests:
    """What Flask knows about the request that a call of a decorated function serves."""

    def find_request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], /) -> Request | None:
        """Return the current request, or None."""
        return current._get_current_object() if has_request_context() else None  # type: ignore[attr-defined]

    def make_response(self, request: Any, result: Any, error: BaseException | None, /) -> BaseResponse | None:
        """Return a response with the status and the headers that Flask makes from the result of a view.

        It has no body. The response of an exception is that of Flask without error handlers. That of a WSGI
        application is not known.
        """
        if not isinstance(request, Request) or not has_app_context():
            return None
        if error is not None:
            if isinstance(error, HTTPException):
                return error.get_response()
            return self._make(500) if isinstance(error, Exception) else None
        status, headers, body = 200, None, result
        if isinstance(result, tuple):
            body, *rest = result
            status = getattr(body, "status_code", 200)
            for part in rest:
                if isinstance(part, int | str):
                    status = part  # type: ignore[assignment]
                else:
                    headers = part
        if isinstance(body, HTTPException) and body is result:
            return body.get_response()
        if callable(body) and not isinstance(body, BaseResponse):  # a WSGI application, which is not called
            return None
        response = self._make(status, headers)
        if isinstance(body, dict | list):
            response.mimetype = "application/json"
        return response

    def _make(self, status: int, headers: Any = None) -> Response:
        return current_app.response_class(status=status, headers=headers)
