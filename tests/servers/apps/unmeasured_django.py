"""A Django project without web-prom, for WSGI and for ASGI."""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="x",
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=[],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        DATABASES={},
    )
    django.setup()


def item(request: Any, number: int) -> Any:
    return HttpResponse(str(number))


def error(request: Any) -> Any:
    raise RuntimeError("as meant")


urlpatterns = [path("items/<int:number>", item), path("error", error)]

if os.environ.get("AS_ASGI"):
    from django.core.asgi import get_asgi_application

    application = get_asgi_application()
else:
    from django.core.wsgi import get_wsgi_application

    application = get_wsgi_application()
