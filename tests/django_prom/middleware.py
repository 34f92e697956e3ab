"""Middleware of the test project. Most of it changes what the client gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpResponse, HttpResponseRedirect
from django.utils.decorators import sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin

from .views import call

GetResponse = Callable[[Any], Any]


def login(get_response: GetResponse) -> GetResponse:
    """Redirect every request."""

    def middleware(request: Any) -> Any:
        return HttpResponseRedirect("/foo/")

    return middleware


def maintenance(get_response: GetResponse) -> GetResponse:
    """Answer every request with 503."""

    def middleware(request: Any) -> Any:
        call("middleware")
        return HttpResponse("come again", status=503)

    return middleware


class BadGateway(MiddlewareMixin):  # type: ignore[misc]
    """Answers exceptions of views with 502."""

    def process_exception(self, request: Any, exception: BaseException) -> Any:
        return HttpResponse("the other side", status=502)


class Apology(MiddlewareMixin):  # type: ignore[misc]
    """Answers exceptions of views with 200."""

    def process_exception(self, request: Any, exception: BaseException) -> Any:
        return HttpResponse("sorry")


class Teapot(MiddlewareMixin):  # type: ignore[misc]
    """Changes the status of the response."""

    def process_response(self, request: Any, response: Any) -> Any:
        response.status_code = 418
        return response


class Failing(MiddlewareMixin):  # type: ignore[misc]
    """Replaces every response with a 500, without an exception."""

    def process_response(self, request: Any, response: Any) -> Any:
        return HttpResponse(status=500)


def raising(get_response: GetResponse) -> GetResponse:
    """Raise an exception after the view."""

    def middleware(request: Any) -> Any:
        get_response(request)
        raise TypeError("the middleware failed")

    return middleware


def replacing(get_response: GetResponse) -> GetResponse:
    """Replace the response without closing it."""

    def middleware(request: Any) -> Any:
        get_response(request)
        return HttpResponse("another")

    return middleware


def reading(get_response: GetResponse) -> GetResponse:
    """Read the whole body before the view."""

    def middleware(request: Any) -> Any:
        assert request.body
        return get_response(request)

    return middleware


def plain(get_response: GetResponse) -> GetResponse:
    """Do nothing, and be synchronous only, like many third-party middlewares."""

    def middleware(request: Any) -> Any:
        return get_response(request)

    return middleware


@sync_and_async_middleware  # type: ignore[untyped-decorator]
def either(get_response: GetResponse) -> GetResponse:
    """Do nothing, synchronously and asynchronously."""
    if iscoroutinefunction(get_response):

        async def async_middleware(request: Any) -> Any:
            return await get_response(request)

        return async_middleware

    def middleware(request: Any) -> Any:
        return get_response(request)

    return middleware


def hosts(get_response: GetResponse) -> GetResponse:
    """Set another URLconf for one host, as django-hosts does."""

    def middleware(request: Any) -> Any:
        if request.get_host() == "example.org":
            request.urlconf = "tests.django_prom.urls_hosts"
        return get_response(request)

    return middleware
