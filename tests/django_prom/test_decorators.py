"""Decorated Django views: labels by request and response, and no effect on the view."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.test import RequestFactory, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from prometheus_client import CollectorRegistry
from rest_framework.decorators import api_view
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

import web_prom as prom
from tests.web_prom.support import errors, samples

from .asgi_site import ASGISite
from .conftest import Site

OWN = CollectorRegistry()

count = prom.count(
    "views_total",
    "Views.",
    labels={
        "method": lambda request: request.method,
        "status": lambda response: response.status_code,
        "exception": prom.exception_type,
        "user": lambda request: request.META.get("HTTP_X_USER"),
    },
    registry=OWN,
)


class RateLimited(Exception):
    """An exception of another library with a status code, which Django does not use."""

    status_code = 429


RAISED = {
    "404": Http404(),
    "403": PermissionDenied(),
    "400": BadRequest(),
    "500": ValueError(),
}


@count
@csrf_exempt  # type: ignore[untyped-decorator]
def function_view(http: Any, code: int = 200) -> Any:
    """Answer. The request has another name."""
    return HttpResponse(status=code)


@count
async def async_view(request: Any) -> Any:
    await asyncio.sleep(0)
    return HttpResponse("async")


@count
def raising(request: Any, status: str) -> Any:
    raise RAISED[status]


@count
def limited(request: Any) -> Any:
    raise RateLimited


class Class(View):  # type: ignore[misc]
    @count
    def get(self, request: Any) -> Any:
        return self.answer()

    @count
    def answer(self) -> Any:
        return HttpResponse("class", status=203)


@method_decorator(count, name="dispatch")
class Decorated(View):  # type: ignore[misc]
    def get(self, request: Any) -> Any:
        return HttpResponse("decorated")

    def post(self, request: Any) -> Any:
        return HttpResponse("decorated", status=201)


class AsyncClass(View):  # type: ignore[misc]
    async def get(self, request: Any) -> Any:
        return HttpResponse("async class")


@count
def streaming(request: Any) -> Any:
    return StreamingHttpResponse(iter([b"a", b"b"]))


@api_view(["GET"])  # type: ignore[untyped-decorator]
@count
def rest_function(request: Any) -> Any:
    return Response({"a": 1}, status=202)


class RestClass(APIView):  # type: ignore[misc]
    authentication_classes = ()
    permission_classes = ()

    @count
    def get(self, request: Any) -> Any:
        raise NotFound


urlpatterns = [
    path("function/", function_view),
    path("function/<int:code>/", function_view),
    path("async/", async_view),
    path("raising/<status>/", raising),
    path("limited/", limited),
    path("class/", Class.as_view()),
    path("decorated/", csrf_exempt(Decorated.as_view())),
    path("async-class/", count(AsyncClass.as_view())),
    path("streaming/", streaming),
    path("rest/", rest_function),
    path("rest-class/", RestClass.as_view()),
]

CASES = [
    ("GET", "/function/", "200", "", 1),
    ("POST", "/function/204/", "204", "", 1),
    ("GET", "/async/", "200", "", 1),
    *(("GET", f"/raising/{status}/", status, type(error).__name__, 1) for status, error in RAISED.items()),
    ("GET", "/limited/", "500", "RateLimited", 1),
    ("GET", "/class/", "203", "", 2),
    ("POST", "/decorated/", "201", "", 1),
    ("GET", "/async-class/", "200", "", 1),
    ("GET", "/streaming/", "200", "", 1),
    ("GET", "/rest/", "202", "", 1),
    ("GET", "/rest-class/", "404", "NotFound", 1),
]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("protocol", ["WSGI", "ASGI"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[1])
def test_fault_35_decorated_view_has_labels_by_request_and_response(
    protocol: str, case: tuple[str, str, str, str, int]
) -> None:
    """Asynchronous views included."""
    method, route, status, exception, calls = case
    before = samples(OWN, "views_total", "method", "status", "exception", "user")
    with override_settings(ROOT_URLCONF=__name__, DEBUG=False):
        if protocol == "WSGI":
            answered: Any = Site()(route, method, HTTP_X_USER="ann")
        else:
            answered = ASGISite()(route, method, headers={"x-user": "ann"})
    assert answered == status
    after = samples(OWN, "views_total", "method", "status", "exception", "user")
    changed = {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}
    assert changed == {(method, status, exception, "ann"): calls}
    assert errors(OWN) == {}


def test_decorated_views_keep_what_django_reads() -> None:
    assert function_view.csrf_exempt
    assert asyncio.iscoroutinefunction(async_view)
    view = count(AsyncClass.as_view())
    assert view.view_class is AsyncClass
    response = asyncio.run(view(RequestFactory().get("/")))
    assert response.content == b"async class"
