"""The Django project of the request benchmark again: an asynchronous view, behind Django's ASGI handler.

A change of thread takes longer than all that is measured, and never the same time. So each is counted, and
what it would run in a thread is run at once: the cost is that of the work alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import cycle
from time import perf_counter
from typing import Any

from asgiref.sync import SyncToAsync, markcoroutinefunction
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse

from benchmarks.floor import Children, bound_children
from benchmarks.pairing import BARE, FLOOR, OURS, Variant
from benchmarks.requests_django import Make, path_of, project

__all__ = ["PEERS", "VARIANTS", "changes_of_thread", "path_of"]

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponse]]

changes_of_thread: list[str] = []
"""The functions that were called in a thread. A caller clears the list before it measures."""


async def _call_at_once(self: SyncToAsync[Any, Any], *args: Any, **kwargs: Any) -> Any:
    changes_of_thread.append(getattr(self.func, "__qualname__", ""))
    return self.func(*args, **kwargs)


SyncToAsync.__call__ = _call_at_once  # type: ignore[method-assign]


async def _view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


_project = partial(project, handler=ASGIHandler, view=_view)


def _bare(paths: int) -> Variant:
    return _project(BARE, paths)


def _floor(paths: int) -> Variant:
    floor_children[:] = bound_children(paths)
    return _project(FLOOR, paths, middleware=[f"{__name__}.ByHand"])


floor_children: list[Children] = []


class ByHand:
    """Measure by hand. Each route has its own children, so the floor looks up none."""

    sync_capable, async_capable = False, True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        self._next = cycle(floor_children).__next__
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        in_progress, requests, duration = self._next()
        started = perf_counter()
        in_progress.inc()
        try:
            return await self._get_response(request)
        finally:
            in_progress.dec()
            requests.inc()
            duration.observe(perf_counter() - started)


def _web_prom(paths: int) -> Variant:
    return _project(OURS, paths, app="django_prom", urls="django_prom.urls")


def _django_prometheus(paths: int) -> Variant:
    middleware = "django_prometheus.middleware.Prometheus{}Middleware"
    return _project(
        "django-prometheus",
        paths,
        middleware=[middleware.format("Before"), middleware.format("After")],
        urls="django_prometheus.urls",
    )


VARIANTS: dict[str, Make] = {BARE: _bare, FLOOR: _floor, OURS: _web_prom}
PEERS: dict[str, Make] = {"django-prometheus": _django_prometheus}
