"""The Starlette application of the request benchmark: bare, by hand, with web-prom, and with each peer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks.floor import Children, bound_children
from benchmarks.pairing import BARE, FLOOR, OURS, ASGIApp, Variant
from web_prom.asgi import PrometheusMiddleware

Make = Callable[[int], Variant]


def path_of(number: int) -> str:
    """Return the path of a route."""
    return f"/route{number}/"


def _application(paths: int) -> Any:
    """Return an application that finds its routes in a dictionary.

    Starlette tries one after the other: with a thousand, that takes a hundred times what is measured here,
    and its noise would hide it. What the peers do with the routes stays theirs.
    """
    routes = {path_of(number): Route(path_of(number), _view) for number in range(paths)}
    app = Starlette(routes=list(routes.values()))

    async def dispatch(scope: Any, receive: Any, send: Any) -> None:
        scope["router"] = app.router
        route = scope["route"] = routes[scope["path"]]
        scope.update(route.matches(scope)[1])
        await route.handle(scope, receive, send)

    app.router.middleware_stack = dispatch
    return app


async def _view(request: Any) -> Any:
    return PlainTextResponse("ok")


def _bare(paths: int) -> Variant:
    return Variant(BARE, _application(paths))


def _floor(paths: int) -> Variant:
    app = _application(paths)
    by_hand = [_by_hand(app, children) for children in bound_children(paths)]
    return Variant(FLOOR, by_hand[0] if paths == 1 else _in_turn(by_hand))


def _by_hand(app: ASGIApp, children: Children) -> ASGIApp:
    in_progress, requests, duration = children

    async def measured(scope: Any, receive: Any, send: Any) -> None:
        started = perf_counter()
        in_progress.inc()
        try:
            await app(scope, receive, send)
        finally:
            in_progress.dec()
            requests.inc()
            duration.observe(perf_counter() - started)

    return measured


def _in_turn(apps: list[ASGIApp]) -> ASGIApp:
    """Measure each route with its own children, so the floor looks up none."""
    turn = cycle(apps).__next__

    def next_app(scope: Any, receive: Any, send: Any) -> Any:
        return turn()(scope, receive, send)

    return next_app


def _web_prom(paths: int) -> Variant:
    return Variant(OURS, PrometheusMiddleware(_application(paths), registry=CollectorRegistry()))


def _starlette_exporter(paths: int) -> Variant:
    import starlette_exporter

    app = _application(paths)
    app.add_middleware(starlette_exporter.PrometheusMiddleware)
    return Variant("starlette_exporter", app)


def _instrumentator(paths: int) -> Variant:
    from prometheus_fastapi_instrumentator import Instrumentator

    app = _application(paths)
    Instrumentator(registry=CollectorRegistry()).instrument(app)
    return Variant("prometheus-fastapi-instrumentator", app)


VARIANTS: dict[str, Make] = {BARE: _bare, FLOOR: _floor, OURS: _web_prom}
PEERS: dict[str, Make] = {
    "starlette_exporter": _starlette_exporter,
    "prometheus-fastapi-instrumentator": _instrumentator,
}
