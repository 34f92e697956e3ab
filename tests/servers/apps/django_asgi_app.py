"""The Django project of the ASGI servers; for a client it includes asgi_app.py."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.urls import include, path
from django.views.decorators.http import require_GET, require_safe

from django_prom import conf
from tests.servers.apps.gate import wait_for_file
from web_prom.asgi import PrometheusMiddleware

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponse]]

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=["django_prom"],
    MIDDLEWARE=[f"{__name__}.Login"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests",
    USE_TZ=True,
    PROM_REQUEST_SIZE=True,
    PROM_RESPONSE_SIZE=True,
    PROM_ALLOW_SCRAPE=wait_for_file,
)


class Login:
    """Sends everybody to the login who says that he is nobody."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        assert iscoroutinefunction(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.headers.get("X-User") == "nobody":
            return HttpResponseRedirect("/login")
        request.get_host()
        return await self._get_response(request)


def allow(*methods: str) -> Callable[[GetResponse], GetResponse]:
    """Do what require_http_methods does, which cannot wrap async views before Django 5."""

    def decorate(view: GetResponse) -> GetResponse:
        @functools.wraps(view)
        async def allowing(request: HttpRequest) -> HttpResponse:
            return await view(request) if request.method in methods else HttpResponseNotAllowed(methods)

        return allowing

    return decorate


@allow("GET", "HEAD")
async def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(os.getpid()))


def item(request: HttpRequest, number: int) -> HttpResponse:
    if number == 0:
        raise Http404
    return HttpResponse(f"item {number}")


@allow("POST")
async def order(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)), status=201)


def error(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("as it should")


async def async_error(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("as it should")


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            await asyncio.sleep(0)
            yield b"x" * 1000

    return StreamingHttpResponse(body())


async def endless(request: HttpRequest) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    return StreamingHttpResponse(body())


async def breaks_half_way(request: HttpRequest) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise RuntimeError("as it should")

    return StreamingHttpResponse(body())


async def patient(request: HttpRequest) -> HttpResponse:
    """Wait until Django gives up on a client that has gone."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


urlpatterns = [
    path("", index),
    path("items/<int:number>", require_safe(item)),
    path("orders", order),
    path("error", require_GET(error)),
    path("async-error", async_error),
    path("stream", stream),
    path("endless", endless),
    path("breaks-half-way", breaks_half_way),
    path("patient", patient),
    path("", include("django_prom.urls")),
]

application = get_asgi_application()
# What a project needs no more that has django_prom, and may have.
wrapped = PrometheusMiddleware(get_asgi_application(), config=conf.config(), owner=conf.owner())
