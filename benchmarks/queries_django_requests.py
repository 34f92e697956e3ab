"""A request of Django with five queries and two cache hits: bare, by hand, and with each exporter."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from django.http import HttpRequest, HttpResponse

from benchmarks import requests_django
from benchmarks.caches_django import KEY, cache_of, measured_by_hand
from benchmarks.floor import bound_children
from benchmarks.pairing import BARE, FLOOR, OURS, Variant
from benchmarks.queries_django import PEER, QUERY, bound_histogram, configure, connection_of, query

QUERIES = tuple(f"{QUERY}AND {number} = {number}" for number in range(5))

path_of = requests_django.path_of


def view_of(name: str) -> Callable[[HttpRequest], HttpResponse]:
    """Return a view that executes the queries of a variant, and gets two values of its cache."""
    connection, cache = connection_of(name), cache_of(name)

    def view(request: HttpRequest) -> HttpResponse:
        for sql in QUERIES:
            query(connection, sql)
        for _ in range(2):
            cache.get(KEY)
        return HttpResponse("ok")

    return view


def _bare(paths: int) -> Variant:
    configure()
    return requests_django.project(BARE, paths, view=view_of(BARE))


def _floor(paths: int) -> Variant:
    configure()
    connection, observe = connection_of(FLOOR), bound_histogram().observe
    get, _ = measured_by_hand()

    def view(request: HttpRequest) -> HttpResponse:
        for sql in QUERIES:
            with connection.cursor() as cursor:
                text = "".join((sql, ""))
                started = perf_counter()
                try:
                    cursor.execute(text, (1,))
                finally:
                    observe(perf_counter() - started)
        for _ in range(2):
            get()
        return HttpResponse("ok")

    requests_django.floor_children[:] = bound_children(paths)
    middleware = [f"{requests_django.__name__}.floor_of_one"]
    return requests_django.project(FLOOR, paths, view=view, middleware=middleware)


def _web_prom(paths: int) -> Variant:
    configure()
    variant = requests_django.project(
        OURS, paths, view=_late(OURS), app="django_prom", urls="django_prom.urls"
    )
    connection_of(OURS)
    return variant


def _late(name: str) -> Callable[[HttpRequest], HttpResponse]:
    """Return a view that looks up the connection at its first request, when the app is installed."""
    views: list[Any] = []

    def view(request: HttpRequest) -> HttpResponse:
        if not views:
            views.append(view_of(name))
        return views[0](request)

    return view


def _django_prometheus(paths: int) -> Variant:
    configure()
    middleware = "django_prometheus.middleware.Prometheus{}Middleware"
    return requests_django.project(
        PEER,
        paths,
        view=view_of(PEER),
        middleware=[middleware.format("Before"), middleware.format("After")],
        urls="django_prometheus.urls",
    )


VARIANTS: dict[str, Callable[[int], Variant]] = {BARE: _bare, FLOOR: _floor, OURS: _web_prom}
PEERS: dict[str, Callable[[int], Variant]] = {PEER: _django_prometheus}
