"""The route templates of Flask requests."""

from __future__ import annotations

from collections.abc import Callable
from traceback import walk_tb
from urllib.parse import urlsplit

from flask import Flask, Request
from flask import request as proxy
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.routing import RequestRedirect, Rule

from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.metrics.routes import is_excluded

# One call of this takes as long as reading one attribute of the proxy. Without a request it raises
# RuntimeError.
_current: Callable[[], Request] = proxy._get_current_object  # type: ignore[attr-defined]


def current_request(recording: Recording) -> Request | None:
    """Return Flask's current request if it is the request of a recording, else None."""
    try:
        request = _current()
        return request if request.environ[RECORDING_KEY] is recording else None
    except (RuntimeError, KeyError):
        return None


def failed_request(recording: Recording) -> Request | None:
    """Return the request of a recording if its last exception has left Flask, else None.

    The request context has ended, and Flask removes the request from the environ. An exception keeps the
    local variables of the functions that it has left.
    """
    error = recording.last_error
    for frame, _ in walk_tb(None if error is None else error.__traceback__):
        if frame.f_globals.get("__name__") == Flask.__module__:
            request = getattr(frame.f_locals.get("ctx"), "request", None)
            if request is not None and request.environ.get(RECORDING_KEY) is recording:
                return request  # type: ignore[no-any-return]  # Flask 3.2 has another class of contexts
    return None


def endpoint_of(request: Request, _response: object) -> str:
    """Return the endpoint of a request, or an empty string if no route matched."""
    return request.endpoint or ""


class FlaskRouteResolver:
    """Finds the route templates of the requests of one application. Safe to share between threads."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._excluded: dict[str, bool] = {}

    def resolve_route(self, recording: Recording) -> None:
        """Set the route of a recording and whether its view is measured, if Flask serves or served it."""
        try:  # the same as current_request(), without the call
            request = _current()
            if request.environ[RECORDING_KEY] is not recording:
                raise KeyError
        except (RuntimeError, KeyError):
            rule = self._rule_after_end(recording)
        else:
            rule = request.url_rule or self._rule_of_routing_exception(request)
        if rule is None:
            return
        if recording.route is None:  # else the view has set it (web_prom.wsgi.set_route)
            recording.route = rule.rule
        try:
            if self._excluded[rule.endpoint]:
                recording.measured = False
        except KeyError:
            view = self._app.view_functions.get(rule.endpoint)
            self._excluded[rule.endpoint] = is_excluded(view)
            self.resolve_route(recording)

    def _rule_after_end(self, recording: Recording) -> Rule | None:
        """Return the rule of a request whose context has ended, or None."""
        request = failed_request(recording)
        if request is not None:
            return request.url_rule or self._rule_of_routing_exception(request)
        environ = getattr(recording, "environ", None)
        # The URL map matches the path of a WebSocket that has ended again.
        return None if environ is None else self._match(self._app.request_class(environ), None, None)

    def _rule_of_routing_exception(self, request: Request) -> Rule | None:
        """Return the rule of a request that got a 405 or a redirect to the canonical URL, or None.

        Such a request differs from the rule only in the method or in a slash.
        """
        error = request.routing_exception
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            return self._match(request, None, next(iter(error.valid_methods)))
        if isinstance(error, RequestRedirect):
            return self._match_target(request, error, request.method)
        return None

    def _match_target(self, request: Request, redirect: RequestRedirect, method: str) -> Rule | None:
        path = urlsplit(redirect.new_url).path.removeprefix(request.root_path.rstrip("/"))
        return self._match(request, path, method)

    def _match(self, request: Request, path: str | None, method: str | None) -> Rule | None:
        """Return the rule that matches a path and a method, by default those of the request; or None."""
        try:
            adapter = self._app.create_url_adapter(request)
            return None if adapter is None else adapter.match(path, method, return_rule=True)[0]
        except RequestRedirect as redirect:
            # With another method than that of the request, the path of the request can be a redirect.
            return self._match_target(request, redirect, method) if path is None and method else None
        except Exception:  # Werkzeug's NotFound, or an error in a converter of the application
            return None
