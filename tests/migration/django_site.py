"""The views and URLs of the Django project of the comparison."""

from __future__ import annotations

import time

from django.apps import apps
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, include, path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from tests.migration.traffic import SLOW_SECONDS

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"]


@require_http_methods(["GET", "HEAD"])
def item(_request: HttpRequest, item: int) -> HttpResponse:
    if item == 404:
        raise Http404
    return HttpResponse(f"item {item}")


@csrf_exempt
@require_http_methods(METHODS)
def items(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{len(request.body)} bytes")


def error(_request: HttpRequest) -> HttpResponse:
    raise ValueError("as intended")


def old(_request: HttpRequest) -> HttpResponse:
    return redirect("/items/1")


def stream(_request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter(["a", "b"]))


def slow(_request: HttpRequest) -> HttpResponse:
    time.sleep(SLOW_SECONDS)
    return HttpResponse("slow", charset="latin-1")


def page(request: HttpRequest) -> TemplateResponse:
    return TemplateResponse(request, "page.html")


def health(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns: list[URLPattern | URLResolver] = [
    path("items/<int:item>", item, name="item"),
    path("items", items),
    path("error", error, name="error"),
    path("old", old),
    path("stream", stream),
    path("slow", slow),
    path("page", page, name="page"),
    path("health", health),
]

if apps.is_installed("django_prom"):
    urlpatterns.append(path("", include("django_prom.urls")))
