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
    """Give each test a registry of its own in the place of the default one."""
    own = CollectorRegistry()
    monkeypatch.setattr(conf, "REGISTRY", own)
    conf.reset()
    yield own
    hooks.clear()
    monkeypatch.undo()
    conf.reset()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that requests are timed by, which goes only when it is told to."""
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
    """Return the environ of a request to a host that the project allows."""
    return environ_of(path, method, **{"HTTP_HOST": "testserver", **more})


def configured(**options: Any) -> Callable[[Test], Test]:
    """Override settings for one test; Django's own decorator, with the type that it has."""
    decorator: Callable[[Test], Test] = override_settings(**options)
    return decorator


class Site:
    """The project behind a WSGI server; its middleware is loaded at the first request."""

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
        """Serve one request as a server does, and return the status line's number."""
        self.last = Server()
        self.last.run(self.handler, site_environ(path, method, **more))
        return str(self.last.status)[:3]

    def hang_up(self, path: str) -> None:
        """Serve one request of a client that goes away after the first chunk."""
        self.last = Server()
        self.last.run(self.handler, site_environ(path), stop_after=1)

    def open(self, path: str, /, **more: Any) -> Any:
        """Begin to serve a request, and return the body that the server would send and close."""
        return self.handler(site_environ(path, **more), Server().start_response)

    @property
    def text(self) -> str:
        """What was sent last."""
        return b"".join(self.last.sent).decode()


@pytest.fixture
def site() -> Site:
    """Return the project behind a server of the test's own."""
    return Site()
