"""The ASGI middleware: what is counted once, and settings."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.asgi_server import Receive, Scope, Send, Server, chunk, hello, scope_of, serve, start
from tests.web_prom.asgi.support import OK, OPTIONS, Measure, assert_idle
from tests.web_prom.support import in_progress, requests, samples
from web_prom.asgi import set_route
from web_prom.config import Config
from web_prom.errors import ConfigError
from web_prom.metrics.recording import RECORDING_KEY


@pytest.mark.parametrize("kind", ["http", "websocket", "lifespan", "disabled", "nested"])
def test_fault_95_middleware_returns_the_value_of_the_application(kind: str, measure: Measure) -> None:
    """Uvicorn logs an error for a value that is not None."""

    async def app(scope: Scope, receive: Receive, send: Send) -> Any:
        return scope["type"]

    wrapped = measure(measure(app) if kind == "nested" else app, enabled=kind != "disabled")
    scope = scope_of(type=kind if kind in ("websocket", "lifespan") else "http")
    server = Server()
    assert asyncio.run(wrapped(scope, server.receive, server.send)) == scope["type"]


def test_nested_middlewares_on_one_registry_count_a_request_once(
    measure: Measure, registry: CollectorRegistry
) -> None:
    assert serve(measure(measure(measure(hello)))) == b"hello"
    assert requests(registry) == {OK: 1}
    assert_idle(registry)


def test_inner_middleware_sets_the_route_from_a_copied_scope(
    measure: Measure, registry: CollectorRegistry
) -> None:
    class Route:
        path, endpoint = "/users/{id}", hello

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route
        await hello(scope, receive, send)

    inner = measure(app)

    async def copying(scope: Scope, receive: Receive, send: Send) -> None:
        await inner(dict(scope), receive, send)

    assert serve(measure(copying)) == b"hello"
    assert requests(registry) == {("GET", "/users/{id}", "200"): 1}
    assert_idle(registry)


def test_reused_scope_counts_each_request(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped, scope = measure(hello), scope_of()
    before = dict(scope)
    Server().run(wrapped, scope)
    assert scope == before, "the recording is removed from the scope"
    Server().run(wrapped, scope)
    assert requests(registry) == {OK: 2}
    assert_idle(registry)


def test_concurrent_requests_are_in_progress(measure: Measure, registry: CollectorRegistry) -> None:
    """All of them pass one middleware, which has no state of a request."""

    async def main() -> None:
        events = [asyncio.Event() for _ in range(3)]

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            set_route(scope, scope["path"])
            await send(start(200 + int(scope["path"][1:])))
            await events[int(scope["path"][1:])].wait()
            await send(chunk())

        wrapped = measure(app)
        tasks = [asyncio.ensure_future(Server().serve(wrapped, scope_of(f"/{n}"))) for n in range(3)]
        await asyncio.sleep(0.01)
        for left, number in zip((3, 2, 1), (1, 0, 2), strict=True):
            assert in_progress(registry) == left
            events[number].set()
            await tasks[number]

    asyncio.run(main())
    assert requests(registry) == {("GET", f"/{n}", f"20{n}"): 1 for n in range(3)}
    assert_idle(registry)


@pytest.mark.parametrize("options", OPTIONS)
def test_exchange_leaves_no_reference_cycle(options: dict[str, Any], measure: Measure) -> None:
    """Servers keep the scope in reference cycles, so the scope must not refer to the exchange."""

    class Cycle(Server):
        scope: Scope = None

    kept: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.append(weakref.ref(scope[RECORDING_KEY]))
        await hello(scope, receive, send)

    wrapped = measure(app, **options)

    async def one() -> None:
        server = Cycle()
        server.scope = scope_of()
        await server.serve(wrapped, server.scope)

    async def main() -> None:
        gc.collect()
        gc.disable()
        try:
            await one()
            assert kept[0]() is None
        finally:
            gc.enable()

    asyncio.run(main())


def test_disabled_middleware_registers_no_metrics(measure: Measure, registry: CollectorRegistry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert RECORDING_KEY not in scope
        await hello(scope, receive, send)

    wrapped = measure(app, enabled=False)
    assert serve(wrapped, "/metrics") == b"hello"
    assert serve(wrapped, type="websocket") == b"hello"
    assert list(registry.collect()) == []


def test_middleware_reads_settings_from_the_environment(
    measure: Measure, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROM_NAMESPACE", "shop")
    monkeypatch.setenv("PROM_PATH", "/m")
    wrapped = measure(hello, path="/option")
    serve(wrapped)
    assert samples(registry, "shop_http_requests_total", "status") == {("200",): 1}
    assert b"shop_http_requests_total" in serve(wrapped, "/option")


def test_middleware_rejects_invalid_settings(measure: Measure) -> None:
    with pytest.raises(TypeError, match="path"):
        measure(hello, config=Config(), path="/x")
    with pytest.raises(ValueError, match="max_label_sets"):
        measure(hello, max_label_sets=0)
    for name in ("code", "direction"):
        with pytest.raises(ConfigError, match=name):
            measure(hello, constant_labels={name: "x"})
        with pytest.raises(ConfigError, match=name):
            measure(hello, extra_labels={name: lambda *_: "x"})


def test_wsgi_and_asgi_middlewares_share_a_registry(measure: Measure, registry: CollectorRegistry) -> None:
    from tests.web_prom import support
    from web_prom import wsgi

    support.serve(wsgi.PrometheusMiddleware(support.hello, registry=registry))
    serve(measure(hello))
    assert requests(registry) == {OK: 2}


def test_optional_metrics_are_off_by_default(measure: Measure, registry: CollectorRegistry) -> None:
    serve(measure(hello))
    assert not [family.name for family in registry.collect() if "websocket" in family.name]
