"""Fixtures for the tests of the Django app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from prometheus_client import CollectorRegistry

from django_prom import conf
from tests.web_prom.support import Clock, Server, environ_of

from .views import hooks

Test = TypeVar("Test", bound=Callable[..., Any])


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorRegistry]:
    """Replace the default registry with a new one for each test."""
    own = CollectorRegistry()
    monkeypatch.setattr(conf, "REGISTRY", own)
    conf.reset()
    yield own
    hooks.clear()
    monkeypatch.undo()
    conf.reset()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of requests with one that only the test advances."""
    clock = Clock()
    for module in (
        "web_prom.metrics.recording",
        "web_prom.metrics.body_sizes",
        "django_prom.signals",
        "django_prom.recording",
    ):
        monkeypatch.setattr(f"{module}.perf_counter", clock)
    return clock


def site_environ(path: str, method: str = "GET", /, **more: Any) -> dict[str, Any]:
    """Return the environ of a request to an allowed host."""
    return environ_of(path, method, **{"HTTP_HOST": "testserver", **more})


def configured(**options: Any) -> Callable[[Test], Test]:
    """Override settings for one test: Django's decorator with a type."""
    decorator: Callable[[Test], Test] = override_settings(**options)
    return decorator


class Site:
    """The project behind a WSGI server. The middleware is loaded at the first request."""

    def __init__(self) -> None:
        self._handler: Any = None
        self.last = Server()

    @property
    def handler(self) -> Any:
        """The WSGI application."""
        if self._handler is None:
            self._handler = WSGIHandler()
        return self._handler

    def __call__(self, path: str, method: str = "GET", /, **more: Any) -> str:
        """Serve one request as a server does, and return the status code."""
        self.last = Server()
        self.last.run(self.handler, site_environ(path, method, **more))
        return str(self.last.status)[:3]

    def disconnect(self, path: str) -> None:
        """Serve one request of a client that disconnects after the first chunk."""
        self.last = Server()
        self.last.run(self.handler, site_environ(path), stop_after=1)

    def open(self, path: str, /, **more: Any) -> Any:
        """Start a request, and return the body that a server would send and close."""
        return self.handler(site_environ(path, **more), Server().start_response)

    @property
    def text(self) -> str:
        """The body of the last response."""
        return b"".join(self.last.sent).decode()


@pytest.fixture
def site() -> Site:
    """Return the project behind a new server."""
    return Site()
