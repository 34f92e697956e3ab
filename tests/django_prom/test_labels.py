"""Extra labels under ASGI that use the database, which Django refuses in an event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from django.utils.asyncio import async_unsafe
from prometheus_client import CollectorRegistry

import web_prom as prom
from tests.web_prom.support import errors, exceptions, in_progress, python, requests, samples
from web_prom import asgi

from . import views
from .asgi_site import ASGISite, hears_disconnects
from .conftest import Site

label_threads: list[threading.Thread] = []


@async_unsafe  # type: ignore[untyped-decorator]
def user(request: Any, response: Any) -> str:
    """Raise SynchronousOnlyOperation in an event loop, as ``request.user`` does."""
    label_threads.append(threading.current_thread())
    return "ann"


def shop(request: Any, response: Any) -> str:
    """Return a label that needs no database."""
    return f"shop {response.status_code}"


def broken(request: Any, response: Any) -> str:
    raise LookupError


def labelled(registry: CollectorRegistry, *names: str) -> dict[tuple[str, ...], float]:
    """Return the counted requests by status and extra labels."""
    return samples(registry, "http_requests_total", "status", *names)


@pytest.mark.parametrize("path", ["/async/", "/users/1/", "/async-stream/", "/async-fail/"])
def test_fault_51_label_can_use_the_database(
    path: str, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """It is computed in a thread. The log has the reason and the remedy once."""
    label_threads.clear()
    status = "500" if path == "/async-fail/" else "200"
    with override_settings(PROM_EXTRA_LABELS={"user": user, "shop": shop}):
        site = ASGISite()
        assert [site(path) for _ in range(3)] == [status] * 3
    assert labelled(registry, "user", "shop") == {(status, "ann", f"shop {status}"): 3}
    assert len(label_threads) == 3
    assert threading.main_thread() not in label_threads
    assert errors(registry) == {}
    (message,) = (message for message in caplog.messages if "SynchronousOnlyOperation" in message)
    assert "user" in message
    assert "await request.auser()" in message
    assert in_progress(registry) == 0


def test_fault_51_outer_asgi_middleware_gets_the_labels(registry: CollectorRegistry) -> None:
    with override_settings(PROM_EXTRA_LABELS={"user": user}):
        from django.core.asgi import get_asgi_application

        site = ASGISite()
        site._app = asgi.PrometheusMiddleware(
            get_asgi_application(), registry=registry, extra_labels={"user": user}
        )
        site("/async/")
    assert labelled(registry, "user") == {("200", "ann"): 1}


def test_labels_without_database_are_computed_in_the_loop(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if one of them fails."""
    seen: list[threading.Thread] = []

    def where(request: Any, response: Any) -> str:
        seen.append(threading.current_thread())
        return "here"

    with (
        override_settings(PROM_EXTRA_LABELS={"broken": broken, "where": where}),
        caplog.at_level(logging.CRITICAL, "web_prom"),
    ):
        ASGISite()("/async/")
    assert labelled(registry, "broken", "where") == {("200", "", "here"): 1}
    assert seen == [threading.main_thread()]
    assert errors(registry) == {("label broken",): 1}


@hears_disconnects
def test_fault_51_disconnect_while_labels_are_computed_is_499(
    registry: CollectorRegistry,
) -> None:
    async def run() -> None:
        disconnect = asyncio.Event()
        loop = asyncio.get_running_loop()
        reached = threading.Event()

        @async_unsafe  # type: ignore[untyped-decorator]
        def slow(request: Any, response: Any) -> str:
            loop.call_soon_threadsafe(disconnect.set)
            assert reached.wait(60)
            return "slow"

        async def continue_after_disconnect() -> None:
            await disconnect.wait()
            for _ in range(20):
                await asyncio.sleep(0)
            reached.set()

        with override_settings(PROM_EXTRA_LABELS={"slow": slow}):
            task = asyncio.ensure_future(continue_after_disconnect())
            site = ASGISite()
            await site.serve("/async/", disconnect=disconnect)
            await task
            assert site.status is None

    asyncio.run(run())
    assert {status for _, _, status in requests(registry)} == {"499"}
    assert exceptions(registry) == {}
    assert in_progress(registry) == 0


def test_fault_51_view_runs_once(registry: CollectorRegistry) -> None:
    """Also if a label is computed a second time, in a thread."""
    calls: list[Any] = []
    views.hooks["view"] = calls.append
    with override_settings(PROM_EXTRA_LABELS={"user": user}):
        ASGISite()("/async/")
    assert len(calls) == 1


USERS = """
    import asyncio, sys, types
    import django
    from django.conf import settings
    urls = sys.modules["urls"] = types.ModuleType("urls")
    settings.configure(
        INSTALLED_APPS=[
            "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django_prom",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        ROOT_URLCONF="urls",
        SECRET_KEY="tests" * 20,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        PROM_EXTRA_LABELS={"user": lambda request, response: request.user.username},
    )
    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.http import HttpResponse
    from django.test import AsyncClient, Client
    from django.urls import path

    async def lazy(request):
        return HttpResponse("hello")

    async def loaded(request):
        await request.auser() if hasattr(request, "auser") else None
        return HttpResponse("hello")

    urls.urlpatterns = [path("lazy", lazy), path("loaded", loaded)]
    call_command("migrate", verbosity=0)
    client, asynchronous = Client(), AsyncClient()
    client.force_login(User.objects.create_user("ann", password="x"))
    asynchronous.cookies = client.cookies

    async def main():
        for _ in range(2):
            await asynchronous.get("/lazy")
            await asynchronous.get("/loaded")

    asyncio.run(main())
    client.get("/lazy")
    from prometheus_client import REGISTRY
    for family in REGISTRY.collect():
        for sample in family.samples:
            if sample.name in ("http_requests_total", "web_prom_instrumentation_errors_total"):
                print(sample.labels.get("route"), sample.labels.get("user"), sample.value)
"""


@pytest.mark.slow
def test_fault_51_label_can_read_the_user(tmp_path: Path) -> None:
    """Django's user is not loaded when the response is created."""
    printed = python(USERS, str(tmp_path / "db")).splitlines()
    assert sorted(printed) == ["/lazy ann 3.0", "/loaded ann 2.0"]


VERSION = prom.header("X-API-Version", allowed=("1", "2"))


@pytest.mark.parametrize("path", ["/async/", "/users/1/"])
def test_header_label_is_the_same_under_wsgi_and_asgi(path: str, registry: CollectorRegistry) -> None:
    with override_settings(PROM_EXTRA_LABELS={"version": VERSION, "user": prom.limited(user, limit=1)}):
        asgi_site, wsgi_site = ASGISite(), Site()
        for version in ("1", "9"):
            asgi_site(path, headers={"x-api-version": version})
            wsgi_site(path, HTTP_X_API_VERSION=version)
    assert labelled(registry, "version", "user") == {("200", "1", "ann"): 2, ("200", "_other", "ann"): 2}
