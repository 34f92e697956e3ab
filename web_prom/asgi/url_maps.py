"""Route templates of Werkzeug's URL maps (Flask, Quart, Connexion), from an ASGI scope.

Nothing is imported: an application is known by what it has. Its map is asked once more with the path of the
request, which is what a Flask application inside an ASGI application needs, and costs as much as Flask's own
matching. Where an adapter or :func:`web_prom.asgi.set_route` tells the route, this is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from web_prom.metrics.exclusion import is_excluded

# Where adapters and middlewares keep the application that they wrap.
_WRAPPED = (
    "app",
    "_app",
    "wsgi_application",
    "wsgi_app",
    "application",
    "asgi_app",
    "__self__",
    "__wrapped__",
)

# How many layers are looked through.
_DEPTH = 20


class UrlMap:
    """The URL map of one application. Safe to share between threads.

    Args:
        app: The application: it has ``url_map`` and ``view_functions``.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    def find(self, scope: Mapping[str, Any]) -> tuple[str, bool] | None:
        """Return a scope's route template, and whether its view is excluded; None where nothing matches."""
        environ = _environ_of(scope)
        rule = self._match(environ, environ["PATH_INFO"], environ["REQUEST_METHOD"])
        if rule is None or not isinstance(rule.rule, str):
            return None
        return rule.rule, is_excluded(self.app.view_functions.get(rule.endpoint))

    def _match(self, environ: dict[str, Any], path: str, method: str, *, again: bool = True) -> Any:
        app = self.app
        domains = {}
        if app.url_map.host_matching:
            name = None
        else:
            name = app.config.get("SERVER_NAME")
            if not getattr(app, "subdomain_matching", False):
                domains = {"subdomain": app.url_map.default_subdomain or ""}
        adapter = app.url_map.bind_to_environ(environ, server_name=name, **domains)
        try:
            return adapter.match(path.encode("latin-1").decode("utf-8", "replace"), method, return_rule=True)[
                0
            ]
        except Exception as refusal:  # Werkzeug's: 404, 405, or a redirect to the canonical path
            if not again:
                return None
            methods = getattr(refusal, "valid_methods", None)
            if methods:
                return self._match(environ, path, next(iter(methods)), again=False)
            url = getattr(refusal, "new_url", None)
            if url is None:
                return None
            canonical = urlsplit(url).path.removeprefix(environ["SCRIPT_NAME"])
            return self._match(environ, canonical, method, again=False)


def url_map_of(app: Any) -> UrlMap | None:
    """Return the URL map of an application, or of the one that adapters and middlewares wrap; or None.

    Never raises: an attribute may be a proxy that has no object now.
    """
    try:
        return _find(app)
    except Exception:
        return None


def _find(app: Any) -> UrlMap | None:
    seen: set[int] = set()
    for _ in range(_DEPTH):
        if hasattr(getattr(app, "url_map", None), "bind_to_environ") and hasattr(app, "view_functions"):
            return UrlMap(app)
        seen.add(id(app))
        found = (getattr(app, name, None) for name in _WRAPPED)
        app = next((each for each in found if each is not None and id(each) not in seen), None)
        if app is None:
            return None
    return None


def _environ_of(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return as much of a WSGI environ as a URL map reads."""
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
