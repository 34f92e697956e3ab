"""From Flask's routing to the route label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Request
from flask import request as proxy
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.metrics.routes import is_excluded

# Each attribute read through the proxy costs as much as this, which raises RuntimeError without a request.
_current: Callable[[], Request] = proxy._get_current_object  # type: ignore[attr-defined]


def current_request(recording: Recording) -> Request | None:
    """Return the request that Flask serves now, unless it is another one than that of a recording."""
    try:
        request = _current()
        return request if request.environ[RECORDING_KEY] is recording else None
    except (RuntimeError, KeyError):
        return None


class Routes:
    """Finds the route template of each request of one application. Safe to share between threads."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._excluded: dict[str, bool] = {}

    def resolve_route(self, recording: Recording) -> None:
        """Set the route of a recording and whether its view is measured, if Flask serves it just now."""
        try:  # as current_request(), without the call
            request = _current()
            if request.environ[RECORDING_KEY] is not recording:
                return
        except (RuntimeError, KeyError):
            environ = getattr(recording, "environ", None)
            if environ is None:
                return
            # A WebSocket is over, and Flask has left its context: its router is asked again.
            request = self._app.request_class(environ)
            rule = self._match(request, None, None)
        else:
            rule = request.url_rule or self._rule_of_refusal(request)
        if rule is None:
            return
        if recording.route is None:  # or the view has told another (web_prom.wsgi.set_route)
            recording.route = rule.rule
        try:
            if self._excluded[rule.endpoint]:
                recording.measured = False
        except KeyError:
            view = self._app.view_functions.get(rule.endpoint)
            self._excluded[rule.endpoint] = is_excluded(view)
            self.resolve_route(recording)

    def _rule_of_refusal(self, request: Request) -> Any:
        """Return the rule that a 405 or a redirect to the canonical URL belongs to, or None.

        The path did name a route there; only the method, or a slash, was wrong.
        """
        refusal = request.routing_exception
        if isinstance(refusal, MethodNotAllowed) and refusal.valid_methods:
            return self._match(request, None, next(iter(refusal.valid_methods)))
        if isinstance(refusal, RequestRedirect):
            path = urlsplit(refusal.new_url).path
            return self._match(request, path.removeprefix(request.root_path.rstrip("/")), request.method)
        return None

    def _match(self, request: Request, path: str | None, method: str | None) -> Any:
        adapter = self._app.create_url_adapter(request)
        try:
            return None if adapter is None else adapter.match(path, method, return_rule=True)[0]
        except HTTPException:
            return None
