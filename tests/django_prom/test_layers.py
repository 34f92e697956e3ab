"""Django inside a measured ASGI application: a request is counted once, with Django's route."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import a2wsgi
import httpx
import pytest
from asgiref.wsgi import WsgiToAsgi
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.web_prom.support import errors, exceptions, in_progress, requests, samples
from web_prom.asgi import PrometheusMiddleware

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette's adapter is deprecated, but still in use
    from starlette.middleware.wsgi import WSGIMiddleware


def django(kind: str) -> Any:
    """Return Django as an ASGI application."""
    if kind == "asgi":
        return get_asgi_application()
    adapters = {"starlette": WSGIMiddleware, "a2wsgi": a2wsgi.WSGIMiddleware, "asgiref": WsgiToAsgi}
    return adapters[kind](get_wsgi_application())


def send(app: Any, path: str) -> int:
    """Send a request, and return the status."""

    async def client() -> int:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as opened:
            return int((await opened.get(path)).status_code)

    return asyncio.run(client())


# The adapters of Starlette and asgiref do not close a response, so Django's recording does not end.
CASES = [
    ("asgi", True),
    ("asgi", False),
    ("starlette", True),
    ("a2wsgi", True),
    ("a2wsgi", False),
    ("asgiref", True),
]


@pytest.mark.parametrize(("kind", "same"), CASES)
def test_fault_87_django_inside_asgi_counts_once_with_its_route(
    kind: str, same: bool, registry: CollectorRegistry
) -> None:
    outer = registry if same else CollectorRegistry()
    inner = django(kind)
    app = Starlette(routes=[Mount("/shop", app=inner)])
    PrometheusMiddleware.install(app, registry=outer)
    sent = [("/users/1/", 200), ("/fail/", 500), ("/missing/", 404)]
    for path, status in sent:
        assert send(app, f"/shop{path}") == status
    if hasattr(inner, "executor"):
        inner.executor.shutdown()
    templates = {"/users/1/": "/users/<int:pk>/"}
    for each, prefix in {outer: "/shop", registry: "/shop" if same else ""}.items():
        assert requests(each) == {
            ("GET", prefix + templates.get(path, path), str(status)): 1 for path, status in sent
        }
        assert list(exceptions(each)) == [(f"{prefix}/fail/", next(iter(exceptions(each)))[1])]
        assert in_progress(each) == 0
        assert errors(each) == {}


def kind(request: Any, response: Any) -> str:
    """Return the label of a Django request."""
    return f"{type(request).__name__} {response.status_code}"


@pytest.mark.parametrize("adapter", ["asgi", "a2wsgi"])
@pytest.mark.parametrize("path", ["/users/1/", "/async/"])
def test_extra_labels_inside_an_outer_layer_are_those_of_django(
    adapter: str, path: str, registry: CollectorRegistry
) -> None:
    """The functions of the outer layer get its own requests only."""
    with override_settings(PROM_EXTRA_LABELS={"a": kind, "b": lambda *_: "django"}):
        inner = django(adapter)
        labels = {"a": lambda scope, start: scope["scheme"], "b": lambda *_: "asgi"}
        own = Route("/own", lambda request: PlainTextResponse("own"))
        app = Starlette(routes=[own, Mount("/shop", app=inner)])
        PrometheusMiddleware.install(app, registry=registry, extra_labels=labels)
        assert send(app, f"/shop{path}") == send(app, "/own") == 200
    if hasattr(inner, "executor"):
        inner.executor.shutdown()
    request = "ASGIRequest" if adapter == "asgi" else "WSGIRequest"
    expected = {(f"{request} 200", "django"): 1, ("http", "asgi"): 1}
    assert samples(registry, "http_requests_total", "a", "b") == expected
    assert errors(registry) == {}
