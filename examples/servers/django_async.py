"""A Django shop in one file, with async and sync views. docs/how-to/servers.rst has the commands.

web-prom needs one line in the settings and one in the URLs, as in any other project.
"""

import asyncio
import os
from collections.abc import AsyncIterator

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import Http404, HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import include, path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    INSTALLED_APPS=["django_prom"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not a secret: this shop has no sessions and signs nothing",
)

PRODUCTS = {1: "teapot", 2: "kettle", 3: "samovar"}


async def index(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({"worker": os.getpid()})


def product(_request: HttpRequest, number: int) -> JsonResponse:
    if number not in PRODUCTS:
        raise Http404
    return JsonResponse({"name": PRODUCTS[number]})


async def events(_request: HttpRequest) -> StreamingHttpResponse:
    async def lines() -> AsyncIterator[str]:
        while True:
            yield f"data: {os.getpid()}\n\n"
            await asyncio.sleep(1)

    return StreamingHttpResponse(
        lines(), content_type="text/event-stream"
    )  # in progress while the client is connected


urlpatterns = [
    path("", index),
    path("products/<int:number>", product),
    path("events", events),
    path("", include("django_prom.urls")),
]

application = get_asgi_application()
