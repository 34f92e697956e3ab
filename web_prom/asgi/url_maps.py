"""Route templates from Werkzeug's URL maps (Flask, Quart, Connexion), for an ASGI scope.

No framework is imported. An application is recognised by its attributes. Its URL map matches the path of
the request a second time, which takes as long as Flask's own matching. This is needed for a Flask application
inside an ASGI application. It is not done if an adapter has set the route.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from web_prom.metrics.routes import excluded_methods
from web_prom.metrics.url_rules import find_rule
from web_prom.wrapped_apps import iter_wrapped_apps


class UrlMap:
    """The URL map of one application. Safe to share between threads.

    Args:
        app: The application, with the attributes ``url_map`` and ``view_functions``.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    def find(self, scope: Mapping[str, Any]) -> tuple[str, Container[str]] | None:
        """Return the route template of a scope and the HTTP methods that its view excludes, or None."""
        rule = find_rule(self._bind(_to_environ(scope)))
        if rule is None or not isinstance(rule.rule, str):
            return None
        return rule.rule, excluded_methods(self.app.view_functions.get(rule.endpoint))

    def _bind(self, environ: dict[str, Any]) -> Any:
        """Return the URL map, bound to a request."""
        app = self.app
        domains = {}
        if app.url_map.host_matching:
            server_name = None
        else:
            server_name = app.config.get("SERVER_NAME")
            if not getattr(app, "subdomain_matching", False):
                domains = {"subdomain": app.url_map.default_subdomain or ""}
        return app.url_map.bind_to_environ(environ, server_name=server_name, **domains)


def find_url_map(app: Any) -> UrlMap | None:
    """Return the URL map of an application, or of an application that it wraps, or None. Never raises."""
    try:
        for wrapped in iter_wrapped_apps(app, read=_read):
            has_map = hasattr(getattr(wrapped, "url_map", None), "bind_to_environ")
            if has_map and hasattr(wrapped, "view_functions"):
                return UrlMap(wrapped)
    except Exception:  # an attribute is a proxy that has no object now
        return None
    return None


def _read(app: Any, name: str) -> Any:
    """Return an attribute, also one that a property computes, as Connexion's ``app``."""
    return getattr(app, name, None)


def _to_environ(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a WSGI environ that a URL map reads, from an ASGI scope."""
    path, root = scope.get("path", ""), scope.get("root_path", "")
    server = scope.get("server") or ("localhost", None)
    environ = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "SCRIPT_NAME": root.encode().decode("latin-1"),
        "PATH_INFO": (path.removeprefix(root) or "/").encode().decode("latin-1"),
        "QUERY_STRING": "",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or 80),
        "wsgi.url_scheme": scope.get("scheme", "http"),
    }
    if scope.get("type") == "websocket":
        environ["HTTP_CONNECTION"], environ["HTTP_UPGRADE"] = "upgrade", "websocket"
    for name, value in scope.get("headers") or ():
        if name.lower() == b"host":
            environ["HTTP_HOST"] = str(value, "latin-1")
    return environ
