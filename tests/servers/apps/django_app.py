"""The Django application of the real servers; for a client it equals flask_app.py."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import include, path
from django.views.decorators.http import require_GET, require_POST, require_safe
from prometheus_client import Counter

ORDERS = Counter("shop_orders_total", "Orders taken.")

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    INSTALLED_APPS=["django_prom"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests",
    USE_TZ=True,
)


class SoldOutError(Exception):
    pass


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(os.getpid()))


def item(request: HttpRequest, number: int) -> HttpResponse:
    if number == 0:
        raise Http404
    return HttpResponse(f"item {number}")


def order(request: HttpRequest) -> HttpResponse:
    size = len(request.body)
    ORDERS.inc()
    return HttpResponse(str(size), status=201)


def error(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("as meant")


def handled(request: HttpRequest) -> HttpResponse:
    try:
        raise SoldOutError
    except SoldOutError:
        return HttpResponse("sold out", status=503)


def slow(request: HttpRequest) -> HttpResponse:
    time.sleep(0.03)
    return HttpResponse("at last")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * 100
            time.sleep(0.003)

    return StreamingHttpResponse(chunks())


def long_stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(b"x" * 65536 for _ in range(64))


def breaks_half_way(request: HttpRequest) -> StreamingHttpResponse:
    def chunks() -> Iterator[bytes]:
        yield b"x" * 100
        raise RuntimeError("as meant")

    return StreamingHttpResponse(chunks())


def breaks_at_once(request: HttpRequest) -> StreamingHttpResponse:
    def chunks() -> Iterator[bytes]:
        yield from ()
        raise RuntimeError("as meant")

    return StreamingHttpResponse(chunks())


def file(request: HttpRequest) -> HttpResponseBase:
    return FileResponse(open(os.environ["BIG_FILE"], "rb"))


def hold(request: HttpRequest) -> StreamingHttpResponse:
    """Respond with the id of the process, and keep the request in progress."""

    def chunks() -> Iterator[bytes]:
        yield f"{os.getpid()}\n".encode()
        time.sleep(60)

    return StreamingHttpResponse(chunks())


urlpatterns = [
    path("", include("django_prom.urls")),
    path("", require_GET(index)),
    path("items/<int:number>", require_safe(item)),
    path("orders", require_POST(order)),
    path("error", require_GET(error)),
    path("sold-out", require_GET(handled)),
    path("slow", require_GET(slow)),
    path("stream", require_GET(stream)),
    path("long-stream", require_GET(long_stream)),
    path("breaks-half-way", require_GET(breaks_half_way)),
    path("breaks-at-once", require_GET(breaks_at_once)),
    path("file", require_safe(file)),
    path("hold", require_GET(hold)),
]

django.setup()
application = WSGIHandler()
# A process ends faster where the garbage collector does not visit its modules.
gc.freeze()
