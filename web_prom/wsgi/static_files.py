"""Routes of WhiteNoise's static files: one for each top folder (``/static/*``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from web_prom.middleware import set_route
from web_prom.types import Environ, StartResponse, WSGIApp
from web_prom.wrapped_apps import iter_wrapped_apps


def with_static_routes(app: WSGIApp) -> WSGIApp:
    """Return an application that sets the route of static files, if it wraps or is a WhiteNoise application.

    Any other application is returned unchanged. The routes are computed from the files that WhiteNoise found
    when it started, never from a path that a client sends. If WhiteNoise looks for files at each request
    (``autorefresh``, for development), the route of the files stays ``_unmatched``.
    """
    whitenoise = _find_whitenoise(app)
    if whitenoise is None:
        return app

    def serve(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        # WhiteNoise decodes the path in the same way.
        path = environ.get("PATH_INFO", "").encode("latin-1", "replace").decode("utf-8", "replace")
        if path in whitenoise.files:
            set_route(environ, static_route(path))
        return app(environ, start_response)

    return serve


def static_route(path: str) -> str:
    """Return the route of a static file: its top folder, or ``/*`` for a file in no folder.

    Args:
        path: The path of a URL (``/static/css/shop.css``).
    """
    folder, slash, _ = path.removeprefix("/").partition("/")
    return f"/{folder}/*" if slash else "/*"


def _find_whitenoise(app: Any) -> Any:
    """Return the WhiteNoise application in an application, or None."""
    for wrapped in iter_wrapped_apps(app):
        classes = type(wrapped).__mro__
        if any((cls.__module__, cls.__name__) == ("whitenoise.base", "WhiteNoise") for cls in classes):
            return wrapped
    return None
