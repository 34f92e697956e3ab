"""Exceptions that REST framework or django-ninja answers inside of a view."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.test import override_settings
from django.urls import path
from ninja import NinjaAPI
from prometheus_client import CollectorRegistry
from rest_framework.decorators import api_view
from rest_framework.exceptions import APIException, NotFound
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from django_prom import error_handlers
from tests.web_prom.support import errors, exceptions, python, samples

from .asgi_site import ASGISite
from .conftest import Site, configured


class Translated(Exception):
    """An error for which the handlers raise another one."""


ERRORS: dict[str, type[Exception]] = {
    "answered": KeyError,
    "unknown": RuntimeError,
    "translated": Translated,
    "client": NotFound,
    "forbidden": PermissionDenied,
}


def handle_in_rest_framework(error: Exception, context: Any) -> Any:
    """Answer a KeyError, and leave a RuntimeError to Django."""
    if isinstance(error, KeyError):
        return Response({"error": "internal"}, status=503)
    if isinstance(error, Translated):
        raise LookupError from error
    return exception_handler(error, context)


class RestClass(APIView):  # type: ignore[misc]
    def get(self, request: Any, kind: str) -> Any:
        raise ERRORS[kind]


class OwnHandler(RestClass):
    def handle_exception(self, exc: Exception) -> Any:
        return super().handle_exception(exc)


@api_view(["GET"])
def rest_function(request: Any) -> Any:
    raise APIException


def broken_permission(request: Any) -> Any:
    raise KeyError


api = NinjaAPI(urls_namespace="error-handlers")


@api.get("/sync/{kind}/")
def ninja_sync(request: Any, kind: str) -> Any:
    raise ERRORS[kind]


@api.get("/async/{kind}/")
async def ninja_async(request: Any, kind: str) -> Any:
    await asyncio.sleep(0)
    raise ERRORS[kind]


@api.get("/auth/{kind}/", auth=broken_permission)
def ninja_auth(request: Any, kind: str) -> Any:
    """Return nothing. The authentication raises before the call."""


@api.exception_handler(KeyError)
def answer(request: Any, error: Any) -> Any:
    return api.create_response(request, {"error": "internal"}, status=503)


@api.exception_handler(Translated)
def translate(request: Any, error: Any) -> Any:
    raise LookupError from error


@api.exception_handler(NotFound)
@api.exception_handler(PermissionDenied)
def refuse(request: Any, error: Any) -> Any:
    return api.create_response(request, {}, status=404 if isinstance(error, NotFound) else 403)


urlpatterns = [
    path("rest/<kind>/", RestClass.as_view()),
    path("own/<kind>/", OwnHandler.as_view()),
    path("function/", rest_function),
    path("ninja/", api.urls),
]

HERE = __name__
PROJECT = configured(
    ROOT_URLCONF=HERE,
    REST_FRAMEWORK={
        "EXCEPTION_HANDLER": f"{HERE}.handle_in_rest_framework",
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
    },
)


@pytest.mark.parametrize("protocol", ["WSGI", "ASGI"])
@pytest.mark.parametrize("view", ["rest", "own", "ninja/sync", "ninja/async"])
@pytest.mark.parametrize(
    "case",
    [
        ("answered", "503", "KeyError"),
        ("unknown", "500", "RuntimeError"),
        ("translated", "500", "LookupError"),
        ("client", "404", None),
        ("forbidden", "403", None),
    ],
)
@PROJECT
def test_fault_06_exception_that_a_handler_in_the_view_answers_is_counted_once(
    protocol: str, view: str, case: tuple[str, str, str | None], registry: CollectorRegistry
) -> None:
    """Only if the answer is a server error. If the handler raises, what it raises is counted."""
    kind, status, counted = case
    site: Any = Site() if protocol == "WSGI" else ASGISite()
    assert site(f"/{view}/{kind}/") == status
    found = {name: number for (_, name), number in exceptions(registry).items()}
    assert found == ({} if counted is None else {counted: 1})
    assert errors(registry) == {}


@PROJECT
def test_error_handlers_of_functions_and_of_authentication_are_watched(
    site: Site, registry: CollectorRegistry
) -> None:
    assert site("/function/") == "500"
    assert site("/ninja/auth/any/") == "503"
    assert exceptions(registry) == {
        ("/function/", "APIException"): 1,
        ("/ninja/auth/<kind>/", "KeyError"): 1,
    }


@PROJECT
def test_error_handlers_do_not_count_for_django_prometheus(site: Site, registry: CollectorRegistry) -> None:
    """That package counts the exceptions that leave the view, also those of client errors."""
    with override_settings(PROM_NAMING="django-prometheus"):
        for kind in ("answered", "client", "unknown"):
            site(f"/rest/{kind}/")
    assert samples(registry, "django_http_exceptions_total_by_type_total", "type") == {("RuntimeError",): 1}


@PROJECT
def test_error_handlers_answer_without_a_measured_request(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the recording changes no answer, and is counted."""
    assert RestClass().handle_exception(KeyError()).status_code == 503
    with override_settings(PROM_ENABLED=False):
        assert Site()("/rest/answered/") == "503"

    def fail(*_: Any) -> None:
        raise ValueError

    monkeypatch.setattr(error_handlers, "add_exception", fail)
    assert Site()("/rest/answered/") == "503"
    assert errors(registry) == {("annotate",): 1}


def test_error_handlers_are_patched_once() -> None:
    error_handlers.watch_error_handlers()
    for method in (APIView.handle_exception, NinjaAPI.on_exception):
        assert method.is_recorded
        assert not hasattr(method.__wrapped__, "is_recorded")


LATER = """
    import sys
    from django.conf import settings
    settings.configure(INSTALLED_APPS=["django_prom"], ROOT_URLCONF="django_prom.urls")
    import django; django.setup()
    print([name for name in ("rest_framework", "ninja") if name in sys.modules])
    from rest_framework.views import APIView
    from ninja import NinjaAPI
    print(APIView.handle_exception.is_recorded, NinjaAPI.on_exception.is_recorded)
"""


@pytest.mark.slow
def test_error_handlers_that_are_imported_later_are_patched() -> None:
    """They are not imported for this."""
    assert python(LATER).split("\n")[:2] == ["[]", "True True"]


def test_error_handler_of_an_unknown_version_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import rest_framework.views

    monkeypatch.delattr(rest_framework.views, "APIView")
    error_handlers.watch_error_handlers()
    assert "rest_framework.views" in caplog.text
