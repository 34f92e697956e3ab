"""The URLs of the Django project that OpenTelemetry and web-prom measure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_safe


@require_safe  # type: ignore[untyped-decorator]
def status(request: Any, code: int) -> Any:
    return HttpResponse("x", status=code)


def raising(request: Any) -> Any:
    raise LookupError


def handled(request: Any) -> Any:
    raise Http404


def breaking(request: Any) -> Any:
    def chunks() -> Iterator[str]:
        yield "x"
        raise LookupError

    return StreamingHttpResponse(chunks())


urlpatterns = [
    path("status/<int:code>/", status),
    path("raise", raising),
    path("handled", handled),
    path("break", breaking),
]
