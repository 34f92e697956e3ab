"""Routes of Channels' URLRouter."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest
from django.urls import path, re_path
from prometheus_client import CollectorRegistry

from django_prom import channels_routes, exclude, set_route
from tests.web_prom.asgi.asgi_server import Server, scope_of, websocket_of
from tests.web_prom.support import errors, requests, samples
from web_prom.asgi import PrometheusMiddleware
from web_prom.metrics.recording import RECORDING_KEY

from .asgi_site import ASGISite

routing = pytest.importorskip("channels.routing")


def routes(registry: CollectorRegistry) -> set[str]:
    """Return the routes of the WebSockets that were counted."""
    return {key[0] for key in samples(registry, "websocket_connections_total", "route")}


async def accept(scope: Any, receive: Any, send: Any) -> None:
    seen.append(scope)
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close"})


seen: list[Any] = []


def run(app: Any, scope: Any) -> None:
    seen.clear()
    Server([{"type": "websocket.connect"}]).run(app, scope)


def test_fault_83_url_router_passes_the_same_scope_to_a_consumer(registry: CollectorRegistry) -> None:
    router = routing.URLRouter([path("ws/<int:room>/", accept, {"extra": 1})])
    before = list(router.routes), router.routes[0].callback
    run(PrometheusMiddleware(router, registry=registry), websocket_of("/ws/5/"))
    (measured,) = seen
    run(router, websocket_of("/ws/5/"))
    (plain,) = seen
    assert {key for key in measured if not key.startswith("web_prom.")} == plain.keys()
    assert measured["url_route"] == plain["url_route"] == {"args": (), "kwargs": {"room": 5, "extra": 1}}
    assert (router.routes, router.routes[0].callback) == before
    assert routes(registry) == {"/ws/<int:room>/"}


def test_fault_83_unknown_path_is_unmatched(registry: CollectorRegistry) -> None:
    """Also if an outer route matched its beginning. The router's own exception is raised."""
    inner = routing.URLRouter([path("a/", accept)])
    app = PrometheusMiddleware(routing.URLRouter([path("ws/", inner)]), registry=registry)
    for where in ("/ws/b/", "/nowhere/"):
        with pytest.raises(ValueError, match="No route found for path"):
            run(app, websocket_of(where))
    assert routes(registry) == {"_unmatched"}


def test_fault_83_route_does_not_contain_the_root_path(registry: CollectorRegistry) -> None:
    app = PrometheusMiddleware(routing.URLRouter([path("ws/", accept)]), registry=registry)
    run(app, websocket_of("/shop/ws/", root_path="/shop"))
    assert routes(registry) == {"/ws/"}


def test_fault_83_exclude_and_set_route_apply_to_consumers(registry: CollectorRegistry) -> None:
    @exclude
    async def hidden(scope: Any, receive: Any, send: Any) -> None:
        await accept(scope, receive, send)

    async def named(scope: Any, receive: Any, send: Any) -> None:
        set_route(scope, "/named")
        await accept(scope, receive, send)

    router = routing.URLRouter([path("hidden/", hidden), path("named/", named)])
    for where in ("/hidden/", "/named/"):
        run(PrometheusMiddleware(router, registry=registry), websocket_of(where))
    assert routes(registry) == {"/named"}


def test_fault_83_django_behind_a_router_sets_its_own_routes(registry: CollectorRegistry) -> None:
    from django.core.asgi import get_asgi_application

    site = ASGISite()
    router = routing.URLRouter([re_path(r"", get_asgi_application())])
    site._app = PrometheusMiddleware(router, registry=registry)
    assert [site(each) for each in ("/async/", "/users/1/", "/no/such/")] == ["200", "200", "404"]
    assert requests(registry) == {
        ("GET", "/async/", "200"): 1,
        ("GET", "/users/<int:pk>/", "200"): 1,
        ("GET", "_unmatched", "404"): 1,
    }
    assert errors(registry) == {}


def test_fault_83_unmeasured_connection_uses_the_original_router() -> None:
    channels_routes.patch_url_router()  # again
    assert not hasattr(routing.URLRouter.__call__.__wrapped__, "__wrapped__")
    scope = scope_of("/x/")
    run(routing.URLRouter([path("x/", accept)]), scope)
    assert RECORDING_KEY not in seen[0]
    assert channels_routes.PATTERNS_KEY not in seen[0]


def test_fault_83_other_package_named_channels_is_not_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Channels nothing is imported."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    def imported(name: str) -> Any:
        raise AssertionError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setattr(channels_routes, "import_module", imported)
    channels_routes.patch_url_router()
