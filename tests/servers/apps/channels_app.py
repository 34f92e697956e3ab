"""Channels with Django, behind the middlewares that its documentation shows."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import django
from django.conf import settings

urls = sys.modules["channels_app_urls"] = ModuleType("channels_app_urls")

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "testserver"],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django_prom",
    ],
    ROOT_URLCONF="channels_app_urls",
    SECRET_KEY="for tests",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.generic.http import AsyncHttpConsumer  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import include, path, re_path  # noqa: E402

from django_prom import conf, exclude, set_route  # noqa: E402
from web_prom.asgi import PrometheusMiddleware  # noqa: E402


class Chat(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Sends back what it gets, and what the URL said."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=json.dumps([text_data, self.scope["url_route"]["kwargs"]]))


class Synchronous(WebsocketConsumer):  # type: ignore[misc]
    """The same in a thread."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data=json.dumps([text_data, self.scope["url_route"]["kwargs"]]))


class Named(Chat):
    """Names its route itself."""

    async def connect(self) -> None:
        set_route(self.scope, "/rooms/<kind>")
        await self.accept()


@exclude
class Hidden(Chat):
    """Is not measured."""


class Refusing(Chat):
    """Refuses everybody."""

    async def connect(self) -> None:
        await self.close()


class Events(AsyncHttpConsumer):  # type: ignore[misc]
    """Answers HTTP without Django."""

    async def handle(self, body: bytes) -> None:
        await self.send_response(200, b"events")


def hello(request: Any, name: str) -> HttpResponse:
    return HttpResponse(f"hello {name}")


urls.urlpatterns = [  # type: ignore[attr-defined]
    path("hello/<name>/", hello),
    path("", include("django_prom.urls")),
]

rooms = URLRouter([path("<int:room>/", Chat.as_asgi()), re_path(r"^lobby/(?P<floor>\w+)/$", Chat.as_asgi())])

application = PrometheusMiddleware(
    ProtocolTypeRouter(
        {
            "http": URLRouter(
                [path("events/<name>/", Events.as_asgi()), re_path(r"", get_asgi_application())]
            ),
            "websocket": AllowedHostsOriginValidator(
                AuthMiddlewareStack(
                    URLRouter(
                        [
                            path("ws/chat/<str:room>/", Chat.as_asgi()),
                            re_path(r"ws/old/(?P<room>\w+)/$", Synchronous.as_asgi()),
                            path("ws/named/", Named.as_asgi()),
                            path("ws/hidden/", Hidden.as_asgi()),
                            path("ws/refusing/", Refusing.as_asgi()),
                            path("ws/rooms/", rooms),
                            path("ws/", URLRouter([path("rooms/<slug:name>/", Chat.as_asgi())])),
                        ]
                    )
                )
            ),
        }
    ),
    config=conf.config(),
    owner=conf.owner(),
)
