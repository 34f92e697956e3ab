"""WhiteNoise's static files: one route for each of their folders, such as ``/static/*``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from web_prom.middleware import set_route
from web_prom.wsgi.exchange import Environ

WSGIApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_WHITENOISE = "whitenoise.base.WhiteNoise"

# Where middlewares keep the application that they wrap.
_INNER = ("application", "app", "wsgi_app")


def with_static_routes(app: WSGIApp) -> WSGIApp:
    """Return an application that tells the route of static files, if WhiteNoise serves some inside of it.

    Other applications are returned as they are. The routes are made of the files that WhiteNoise found when
    it started, never of a path that a client sends. Where it looks for files at each request
    (``autorefresh``, for development), their route stays ``_unmatched``.
    """
    whitenoise = _find(app)
    if whitenoise is None:
        return app

    def serve(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        # As WhiteNoise decodes it.
        path = environ.get("PATH_INFO", "").encode("latin-1", "replace").decode("utf-8", "replace")
        if path in whitenoise.files:
            set_route(environ, route_of(path))
        return app(environ, start_response)

    return serve


def route_of(path: str) -> str:
    """Return the route of a static file: its first folder, and ``/*`` for a file that is in none.

    Args:
        path: The path of an URL, such as ``/static/css/shop.css``.
    """
    folder, slash, _ = path.removeprefix("/").partition("/")
    return f"/{folder}/*" if slash else "/*"


def _find(app: Any) -> Any:
    seen: list[Any] = []
    while app is not None and len(seen) < 20:
        seen.append(app)
        if any(
            (kind.__module__, kind.__name__) == ("whitenoise.base", "WhiteNoise")
            for kind in type(app).__mro__
        ):
            return app
        app = next((vars(app)[name] for name in _INNER if name in getattr(app, "__dict__", ())), None)
    return None
