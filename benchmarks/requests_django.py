"""The Django project of the request benchmark: bare, by hand, with web-prom, and with each peer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import cycle
from time import perf_counter
from types import ModuleType
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.core import signals
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path

from benchmarks.floor import Children, bound_children
from benchmarks.opentelemetry import meter_provider
from benchmarks.pairing import BARE, FLOOR, OURS, Variant

Make = Callable[[int], Variant]
GetResponse = Callable[[HttpRequest], HttpResponse]

SECTION = 25

# Signals are global in the process: a receiver of one variant would slow down the others.
SIGNALS = (signals.request_started, signals.request_finished, signals.got_request_exception)


def path_of(number: int) -> str:
    """Return the path of a route."""
    return f"/section{number // SECTION}/{_route(number)}"


def _route(number: int) -> str:
    return f"route{number}/"


def _view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


def _bare(paths: int) -> Variant:
    return project(BARE, paths)


def _floor(paths: int) -> Variant:
    name = "one" if paths == 1 else "many"
    floor_children[:] = bound_children(paths)
    return project(FLOOR, paths, middleware=[f"{__name__}.floor_of_{name}"])


floor_children: list[Children] = []


def floor_of_one(get_response: GetResponse) -> GetResponse:
    """Measure one route by hand."""
    return _by_hand(get_response, floor_children[0])


def floor_of_many(get_response: GetResponse) -> GetResponse:
    """Measure each route with its own children, so the floor looks up none."""
    turn = cycle([_by_hand(get_response, children) for children in floor_children]).__next__

    def middleware(request: HttpRequest) -> HttpResponse:
        return turn()(request)

    return middleware


def _by_hand(get_response: GetResponse, children: Children) -> GetResponse:
    in_progress, requests, duration = children

    def middleware(request: HttpRequest) -> HttpResponse:
        started = perf_counter()
        in_progress.inc()
        try:
            return get_response(request)
        finally:
            in_progress.dec()
            requests.inc()
            duration.observe(perf_counter() - started)

    return middleware


def _web_prom(paths: int) -> Variant:
    return project(OURS, paths, app="django_prom", urls="django_prom.urls")


def _django_prometheus(paths: int) -> Variant:
    middleware = "django_prometheus.middleware.Prometheus{}Middleware"
    return project(
        "django-prometheus",
        paths,
        middleware=[middleware.format("Before"), middleware.format("After")],
        urls="django_prometheus.urls",
    )


def _opentelemetry(paths: int) -> Variant:
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    settings.MIDDLEWARE = []
    DjangoInstrumentor().instrument(meter_provider=meter_provider())
    return project("OpenTelemetry", paths, middleware=settings.MIDDLEWARE)


VARIANTS: dict[str, Make] = {BARE: _bare, FLOOR: _floor, OURS: _web_prom}
PEERS: dict[str, Make] = {"django-prometheus": _django_prometheus, "OpenTelemetry": _opentelemetry}


def project(
    name: str,
    paths: int,
    *,
    handler: Callable[[], Any] = WSGIHandler,
    view: Callable[[HttpRequest], Any] = _view,
    middleware: Sequence[str] = (),
    app: str | None = None,
    urls: str | None = None,
) -> Variant:
    """Return a handler of Django with a middleware, an app and its URLs, as a project installs them."""
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["localhost"])
        django.setup()
    _connect(DJANGO_ITSELF)
    settings.MIDDLEWARE = list(middleware)
    settings.ROOT_URLCONF = urlconf = _urlconf(name, paths, view, urls)
    if app:
        apps.set_installed_apps([app])
    serving = handler()
    receivers = _receivers()

    def activate() -> None:
        settings.ROOT_URLCONF = urlconf
        _connect(receivers)

    return Variant(name, serving, activate)


def _receivers() -> list[list[Any]]:
    return [list(signal.receivers) for signal in SIGNALS]


def _connect(receivers: list[list[Any]]) -> None:
    for signal, those in zip(SIGNALS, receivers, strict=True):
        signal.receivers = list(those)


DJANGO_ITSELF = _receivers()


def _urlconf(name: str, paths: int, view: Callable[[HttpRequest], Any], urls: str | None) -> str:
    """Create a module of URL patterns, with sections as in larger projects, and return its name."""
    patterns: list[URLPattern | URLResolver] = []
    for section in range(0, paths, SECTION):
        routes = [path(_route(number), view) for number in range(section, min(section + SECTION, paths))]
        patterns.append(path(f"section{section // SECTION}/", include(routes)))
    if urls:  # last, because each request would try it first otherwise
        patterns.append(path("", include(urls)))
    module = ModuleType(f"benchmarks._urls_{name.replace('-', '_')}_{paths}")
    module.urlpatterns = patterns  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return module.__name__
