"""Requests that the application makes to itself are not counted as requests of clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from prometheus_client import CollectorRegistry

from django_prom.middleware_install import MIDDLEWARE as OURS
from tests.web_prom.support import Server, errors, exceptions, in_progress, requests
from web_prom import asgi
from web_prom.middleware import set_route
from web_prom.wsgi import PrometheusMiddleware as WSGIMiddleware

from . import views
from .asgi_site import ASGISite
from .conftest import Site, configured, site_environ

HERE = "tests.django_prom.middleware"


class Preview(BaseHandler):  # type: ignore[misc]
    """A handler that the application creates, for example for the preview of a page."""

    def __init__(self, *, is_async: bool = False) -> None:
        super().__init__()
        self.load_middleware(is_async=is_async)


def _redirected(request: Any, path: str) -> Any:
    other: Any = object.__new__(type(request))
    vars(other).update(vars(request))  # copy.copy() omits some attributes in Django 4.2
    other.path_info = other.path = path
    return other


BUILT: dict[str, Callable[[Any, str], Any]] = {
    "new environ": lambda request, path: WSGIRequest(site_environ(path)),
    "copied environ": lambda request, path: WSGIRequest({**request.META, "PATH_INFO": path}),
    "copied request": _redirected,
    "request factory": lambda request, path: RequestFactory().get(path),
}


BUILT_ASYNC: dict[str, Callable[[Any, str], Any]] = {
    "new scope": lambda request, path: AsyncRequestFactory().get(path),
    "copied scope": lambda request, path: ASGIRequest({**request.scope, "path": path}, BytesIO()),
    "same scope": lambda request, path: ASGIRequest(request.scope, BytesIO()),
    "copied request": _redirected,
}


@pytest.fixture(params=list(BUILT.values()), ids=list(BUILT))
def built(request: pytest.FixtureRequest) -> Any:
    """Return a function that creates a request for another path, as a view does."""
    return request.param


def test_fault_80_request_by_a_handler_of_the_application_is_not_counted(
    built: Any, site: Site, registry: CollectorRegistry
) -> None:
    """Only the outer request is counted, timed and in progress, with its own route."""
    seen: list[Any] = []

    def preview(request: Any) -> None:
        views.hooks["view"] = lambda inner: seen.append(in_progress(registry))
        seen.append(Preview().get_response(built(request, "/users/1/")).content)

    views.hooks["view"] = preview
    assert site("/foo/") == "200"
    assert seen == [1, b"hello"]
    assert requests(registry) == {("GET", "/foo/", "200"): 1}
    assert in_progress(registry) == 0
    assert errors(registry) == {}


@pytest.mark.parametrize("outer_fails", [False, True])
def test_fault_80_exception_of_an_inner_request_is_not_counted(
    built: Any, outer_fails: bool, site: Site, registry: CollectorRegistry
) -> None:
    def preview(request: Any) -> None:
        del views.hooks["view"]
        assert Preview().get_response(built(request, "/fail/")).status_code == 500
        if outer_fails:
            raise LookupError

    views.hooks["view"] = preview
    assert site("/foo/") == ("500" if outer_fails else "200")
    assert sum(requests(registry).values()) == 1
    assert exceptions(registry) == ({("/foo/", "LookupError"): 1} if outer_fails else {})


@pytest.mark.parametrize("path", ["/health/", "/metrics", "/no/such/", "/api/internals/"])
def test_fault_80_path_of_an_inner_request_does_not_change_the_outer_one(
    built: Any, path: str, site: Site, registry: CollectorRegistry
) -> None:
    """The path of an excluded view, of a scrape, and an unknown path."""

    def preview(request: Any) -> None:
        del views.hooks["view"]
        Preview().get_response(built(request, path)).close()

    views.hooks["view"] = preview
    assert site("/foo/") == "200"
    assert requests(registry) == {("GET", "/foo/", "200"): 1}


def test_fault_80_set_route_of_an_inner_request_does_not_change_the_outer_one(
    built: Any, site: Site, registry: CollectorRegistry
) -> None:
    def preview(request: Any) -> None:
        views.hooks["view"] = lambda inner: set_route(inner.META, "/inner")
        Preview().get_response(built(request, "/users/1/"))

    views.hooks["view"] = preview
    assert site("/foo/") == "200"
    assert {route for _, route, _ in requests(registry)} == {"/foo/"}


def test_fault_80_response_of_an_inner_request_can_be_the_answer(
    built: Any, registry: CollectorRegistry
) -> None:
    """Wagtail answers with the response of the preview, which can be a stream."""

    def outer(request: Any) -> Any:
        return Preview().get_response(built(request, "/stream/"))

    class Handler(WSGIHandler):  # type: ignore[misc]
        def resolve_request(self, request: Any) -> Any:
            match = super().resolve_request(request)
            return (outer, *match[1:]) if request.path_info == "/foo/" else match

    seen: list[float | None] = []
    views.hooks["between"] = lambda: seen.append(in_progress(registry))
    server = Server()
    assert server.run(Handler(), site_environ("/foo/")).decode() == "one,zwölf"
    assert seen == [1]
    assert requests(registry) == {("GET", "/foo/", "200"): 1}


@pytest.mark.parametrize("around", [False, True])
def test_fault_80_wsgi_handler_in_a_view_is_not_counted(
    around: bool, site: Site, registry: CollectorRegistry
) -> None:
    """It sends request_started. The copied environ has the recording of the outer request."""

    def proxy(request: Any) -> None:
        del views.hooks["view"]
        server = Server()
        server.run(WSGIHandler(), {**request.META, "PATH_INFO": "/status/404/"})
        assert server.status == "404 Not Found"
        seen.append(in_progress(registry))

    seen: list[float | None] = []
    if around:
        site._handler = WSGIMiddleware(WSGIHandler(), registry=registry)
    views.hooks["view"] = proxy
    assert site("/foo/") == "200"
    assert seen == [1]
    assert requests(registry) == {("GET", "/foo/", "200"): 1}
    assert in_progress(registry) == 0


@configured(MIDDLEWARE=[f"{HERE}.either", OURS])
def test_fault_80_inner_request_in_a_lower_position_is_not_counted(
    built: Any, site: Site, registry: CollectorRegistry
) -> None:
    def preview(request: Any) -> None:
        del views.hooks["view"]
        Preview().get_response(built(request, "/users/1/")).close()

    views.hooks["view"] = preview
    assert site("/foo/") == "200"
    assert requests(registry) == {("GET", "/foo/", "200"): 1}


@pytest.mark.parametrize("above", [[], [f"{HERE}.replacing", OURS]])
def test_fault_80_test_client_in_a_view_is_counted(
    above: list[str], registry: CollectorRegistry, settings: Any
) -> None:
    """It sends request_started as a server does. Each request has its own end."""

    def ask(request: Any) -> None:
        del views.hooks["view"]
        assert Client().get("/users/1/").status_code == 200

    settings.MIDDLEWARE = above
    views.hooks["view"] = ask
    assert Site()("/foo/") == "200"
    assert requests(registry) == {("GET", "/foo/", "200"): 1, ("GET", "/users/<int:pk>/", "200"): 1}
    assert in_progress(registry) == 0


@pytest.mark.parametrize("build", BUILT_ASYNC.values(), ids=BUILT_ASYNC)
@pytest.mark.parametrize("path", ["/async/", "/async-fail/", "/health/", "/metrics", "/no/such/"])
@pytest.mark.parametrize("around", [False, True])
def test_fault_80_request_by_an_async_handler_is_not_counted(
    build: Any, path: str, around: bool, registry: CollectorRegistry
) -> None:
    async def preview(request: Any) -> None:
        del views.hooks["view"]
        response = await Preview(is_async=True).get_response_async(build(request, path))
        seen.append((response.status_code, in_progress(registry)))

    seen: list[Any] = []
    site = ASGISite()
    if around:
        site._app = asgi.PrometheusMiddleware(get_asgi_application(), registry=registry, path="/other")
    views.hooks["view"] = preview
    assert site("/async/") == "200"
    assert [gauge for _, gauge in seen] == [1]
    assert requests(registry) == {("GET", "/async/", "200"): 1}
    assert exceptions(registry) == {}
    assert in_progress(registry) == 0


def test_fault_80_async_test_client_in_a_view_is_counted(registry: CollectorRegistry) -> None:
    async def ask(request: Any) -> None:
        del views.hooks["view"]
        assert (await AsyncClient().get("/users/1/")).status_code == 200

    views.hooks["view"] = ask
    assert ASGISite()("/async/") == "200"
    assert requests(registry) == {("GET", "/async/", "200"): 1, ("GET", "/users/<int:pk>/", "200"): 1}


def test_fault_80_request_by_a_background_job_is_not_counted(registry: CollectorRegistry) -> None:
    """There is no outer request."""
    assert Preview().get_response(RequestFactory().get("/users/1/")).status_code == 200
    request = AsyncRequestFactory().get("/async/")
    assert asyncio.run(Preview(is_async=True).get_response_async(request)).status_code == 200
    assert requests(registry) == {}


def test_fault_80_scrape_below_an_asgi_middleware_is_not_counted(registry: CollectorRegistry) -> None:
    """The recording is in the scope."""
    site = ASGISite()
    site._app = asgi.PrometheusMiddleware(get_asgi_application(), registry=registry, path="/elsewhere")
    assert site("/metrics") == "200"
    assert "http_requests_in_progress 0.0" in site.text.splitlines()
    assert requests(registry) == {}
    assert in_progress(registry) == 0


def test_fault_80_retry_with_the_same_environ_counts_once(registry: CollectorRegistry) -> None:
    """A WSGI middleware around Django can call it again. The client gets the last answer."""
    handler = WSGIHandler()

    def fail_once(request: Any) -> None:
        del views.hooks["view"]
        raise LookupError

    def retrying(environ: Any, start_response: Any) -> Any:
        handler(environ, lambda *_: None)
        return handler(environ, start_response)

    views.hooks["view"] = fail_once
    assert Server().run(retrying, site_environ("/foo/")) == b"hello"
    assert requests(registry) == {("GET", "/foo/", "200"): 1}
