"""Quart: routes, exceptions and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.asgi_server import DISCONNECT, Server, scope_of
from tests.web_prom.asgi.framework_support import Case, request, route_of
from tests.web_prom.asgi.support import Measure
from tests.web_prom.support import errors, exceptions, requests, samples
from web_prom.asgi import PrometheusMiddleware


def quart(**config: Any) -> Any:
    """Return an application with routes of all kinds."""
    pytest.importorskip("quart", reason="Quart does not go with Flask 2")
    from quart import Quart, abort, websocket

    app = Quart("shop")
    app.config.update(config)

    async def user(user_id: int) -> str:
        return "ok"

    async def missing() -> None:
        abort(404)

    async def failing() -> None:
        raise ZeroDivisionError

    async def talk(room: str) -> None:
        await websocket.accept()
        await websocket.send(await websocket.receive())
        await websocket.close(1000)

    app.add_url_rule("/users/<int:user_id>", view_func=user)
    app.add_url_rule("/missing", view_func=missing)
    app.add_url_rule("/über/<name>/", "umlaut", missing)
    app.add_url_rule("/error", view_func=failing)
    app.add_websocket("/talk/<room>", view_func=talk)
    return app


QUART: list[Case] = [
    ("/users/1", "GET", 200, "/users/<int:user_id>"),
    ("/missing", "GET", 404, "/missing"),
    ("/error", "GET", 500, "/error"),
    ("/nothing", "GET", 404, "_unmatched"),
    ("/users/1", "POST", 405, "/users/<int:user_id>"),
    ("/über/1", "GET", 308, "/über/<name>/"),
]


@pytest.mark.parametrize("case", QUART, ids=str)
@pytest.mark.parametrize("whole", [False, True])
def test_quart_routes_have_their_templates(
    case: Case,
    whole: bool,
    measure: Measure,
    registry: CollectorRegistry,
) -> None:
    path, method, status, route = case
    app = quart()
    if whole:
        app = measure(app)
    else:
        app.asgi_app = measure(app.asgi_app)
    assert route_of(app, registry, path, method) == (status, route)


@pytest.mark.parametrize("how", ["around", "inside", "install"])
def test_fault_92_quart_exceptions_are_counted_with_any_error_handler(
    how: str, measure: Measure, registry: CollectorRegistry
) -> None:
    app = quart()
    app.add_url_rule("/shown", view_func=quart_shown)
    app.register_error_handler(KeyError, lambda error: ("sorry", 503))
    app.register_error_handler(IndexError, lambda error: ("no", 404))
    app.add_url_rule("/busy", "busy", raises(KeyError))
    app.add_url_rule("/none", "none", raises(IndexError))
    wrapped = app
    if how == "around":
        wrapped = measure(app)
    elif how == "inside":
        app.asgi_app = measure(measure(app.asgi_app))
    else:
        PrometheusMiddleware.install(app, registry=registry)
        PrometheusMiddleware.install(app, registry=registry)
    sent = {"/error": 500, "/busy": 503, "/none": 404, "/missing": 404, "/shown": 200}
    for path, status in sent.items():
        assert request(wrapped, path) == status
    assert requests(registry) == {("GET", path, str(status)): 1 for path, status in sent.items()}
    assert exceptions(registry) == {("/error", "ZeroDivisionError"): 1, ("/busy", "KeyError"): 1}
    assert errors(registry) == {}


async def quart_shown() -> str:
    """Answer after the view has handled an exception."""
    with contextlib.suppress(KeyError):
        raise KeyError
    return "ok"


def raises(error: type[Exception]) -> Callable[[], Any]:
    """Return a view that raises."""

    async def view() -> None:
        raise error

    return view


def test_quart_request_that_is_cancelled_at_a_disconnect_is_a_499(
    measure: Measure, registry: CollectorRegistry
) -> None:
    app = quart()

    async def wait() -> None:
        await asyncio.Event().wait()

    app.add_url_rule("/wait", view_func=wait)
    Server([{"type": "http.request"}, DISCONNECT]).run(measure(app), scope_of("/wait"))
    assert requests(registry) == {("GET", "/wait", "499"): 1}
    assert exceptions(registry) == {}


def test_quart_websockets_have_their_routes(measure: Measure, registry: CollectorRegistry) -> None:
    app = quart()
    app.asgi_app = measure(app.asgi_app)

    async def main() -> None:
        async with app.test_client().websocket("/talk/1") as websocket:
            await websocket.send("x")
            assert await websocket.receive() == "x"

    asyncio.run(main())
    assert samples(registry, "websocket_connections_total", "route", "code") == {("/talk/<room>", "1000"): 1}
