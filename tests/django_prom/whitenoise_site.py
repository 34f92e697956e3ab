"""A site with files that WhiteNoise serves, under WSGI and ASGI. It prints the counted requests."""

from __future__ import annotations

import asyncio
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import django
from django.conf import settings

FOLDER = Path(sys.argv[1])
for name in ("static/app.css", "static/deep/app.js", "root/robots.txt"):
    (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_text(name)

urls = sys.modules["whitenoise_site_urls"] = ModuleType("whitenoise_site_urls")
settings.configure(
    INSTALLED_APPS=["django.contrib.staticfiles", "django_prom"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "whitenoise.middleware.WhiteNoiseMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    ROOT_URLCONF="whitenoise_site_urls",
    SECRET_KEY="tests",
    ALLOWED_HOSTS=["testserver"],
    STATIC_URL="static/",
    STATIC_ROOT=FOLDER / "static",
    WHITENOISE_ROOT=FOLDER / "root",
)
django.setup()

from django.http import HttpResponse  # noqa: E402
from django.test import AsyncClient, Client  # noqa: E402
from django.urls import path  # noqa: E402
from prometheus_client import REGISTRY  # noqa: E402

urls.urlpatterns = [path("hello/", lambda request: HttpResponse("hello"))]  # type: ignore[attr-defined]

REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/static/app.css", {}),
    ("GET", "/static/deep/app.js", {}),
    ("GET", "/static/app.css", {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
    ("HEAD", "/static/app.css", {}),
    ("POST", "/static/app.css", {}),
    ("GET", "/robots.txt", {}),
    ("GET", "/static/wp-login.php", {}),
    ("GET", "/wp-login.php", {}),
    ("GET", "/hello/", {}),
]


def send() -> None:
    client = Client()
    for method, where, headers in REQUESTS:
        variables = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        response = client.generic(method, where, **variables)
        b"".join(response)


async def send_async() -> None:
    client = AsyncClient()
    for method, where, headers in REQUESTS:
        response = await client.generic(method, where, **{key.lower(): each for key, each in headers.items()})
        if response.streaming and response.is_async:
            [chunk async for chunk in response.streaming_content]
        else:
            b"".join(response)


send()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # WhiteNoise's bodies are synchronous iterators
    asyncio.run(send_async())
for family in REGISTRY.collect():
    for sample in family.samples:
        if sample.name == "http_requests_total":
            labels = sample.labels
            print("counted", labels["method"], labels["route"], labels["status"], sample.value)
