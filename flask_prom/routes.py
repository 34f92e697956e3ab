"""The route templates of Flask requests."""

from __future__ import annotations

from collections.abc import Callable, Container
from traceback import walk_tb
from typing import Any

from flask import Flask, Request, current_app
from flask import request as proxy
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.routing import RequestRedirect, Rule

from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.metrics.routes import excluded_methods
from web_prom.metrics.url_rules import find_rule

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


def failed_context(recording: Recording) -> Any:
    """Return the request context of a recording if its last exception has left Flask, else None.

    The request context has ended, and Flask removes the request from the environ. An exception keeps the
    local variables of the functions that it has left.
    """
    error = recording.last_error
    for frame, _ in walk_tb(None if error is None else error.__traceback__):
        if frame.f_globals.get("__name__") == Flask.__module__:
            context = frame.f_locals.get("ctx")  # its class is another one from Flask 3.2 on
            request = getattr(context, "request", None)
            if request is not None and request.environ.get(RECORDING_KEY) is recording:
                return context
    return None


def failed_request(recording: Recording) -> Request | None:
    """Return the request of a recording if its last exception has left Flask, else None."""
    return getattr(failed_context(recording), "request", None)


def endpoint_of(request: Request, _response: object) -> str:
    """Return the endpoint of a request, or an empty string if no route matched."""
    return request.endpoint or ""


class FlaskRouteResolver:
    """Finds the route templates of the requests of one application. Safe to share between threads.

    A dispatcher can call another application of Flask inside the application. Then the rule is one of that
    application.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app

    def resolve_route(self, recording: Recording) -> None:
        """Set the route of a recording and whether its view is measured, if Flask serves or served it."""
        app = current_app
        try:  # the same as current_request(), without the call
            request = _current()
            if request.environ[RECORDING_KEY] is not recording:
                raise KeyError
        except (RuntimeError, KeyError):
            context = failed_context(recording)
            if context is None:
                environ = getattr(recording, "environ", None)
                if environ is None:
                    return
                # A WebSocket has ended, and so has its request context.
                app, request = self._app, self._app.request_class(environ)
                rule = _match(request, app, None)
            else:
                app, request = context.app, context.request
                rule = _rule_of(request, app)
        else:
            rule = request.url_rule or _rule_of(request, app)
        if rule is None:
            return
        if recording.route is None:  # else the view has set it (web_prom.wsgi.set_route)
            recording.route = rule.rule
        try:
            excluded = rule._web_prom_excluded  # type: ignore[attr-defined]
        except AttributeError:
            excluded = _mark(rule, app)
        if excluded and request.method in excluded:
            recording.measured = False


def _rule_of(request: Request, app: Flask) -> Rule | None:
    """Return the rule of a request, or None.

    A request that got a 405 or a redirect to the canonical URL differs from its rule only in the method or in
    a slash.
    """
    error = request.routing_exception
    if isinstance(error, MethodNotAllowed | RequestRedirect):
        return _match(request, app, error)
    return request.url_rule


def _match(request: Request, app: Flask, error: Exception | None) -> Rule | None:
    adapter = app.create_url_adapter(request)
    return None if adapter is None else find_rule(adapter, error)


def _mark(rule: Rule, app: Flask) -> Container[str]:
    """Store on a rule of an application the HTTP methods that its view excludes, and return them."""
    if app.url_map is not rule.map:
        return ()
    excluded = excluded_methods(app.view_functions.get(rule.endpoint))
    rule._web_prom_excluded = excluded  # type: ignore[attr-defined]
    return excluded
