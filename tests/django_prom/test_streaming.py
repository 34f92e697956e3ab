"""Streaming responses and files under WSGI."""

from __future__ import annotations

from typing import Any
from wsgiref.util import FileWrapper

import pytest
from django.test import Client
from prometheus_client import CollectorRegistry

from tests.web_prom.support import (
    Clock,
    errors,
    exceptions,
    in_progress,
    requests,
    seconds,
)

from . import views
from .conftest import Site


def test_fault_01_duration_includes_the_whole_stream(
    site: Site, registry: CollectorRegistry, clock: Clock
) -> None:
    """The view returns long before the stream ends."""
    views.hooks["between"] = lambda: clock.go(0.3)
    assert site("/stream/") == "200"
    assert site.text == "one,zwölf"
    assert seconds(registry) == pytest.approx(0.3)
    assert requests(registry) == {("GET", "/stream/", "200"): 1}


def test_fault_01_duration_includes_the_stream_of_the_test_client(
    client: Client, registry: CollectorRegistry, clock: Clock
) -> None:
    """The test client closes responses in its own way."""
    views.hooks["between"] = lambda: clock.go(0.3)
    response = client.get("/stream/")
    assert in_progress(registry) == 1
    assert response.getvalue() == "one,zwölf".encode()
    assert seconds(registry) == pytest.approx(0.3)
    assert in_progress(registry) == 0


def test_async_body_under_wsgi_ends_at_close(site: Site, registry: CollectorRegistry, clock: Clock) -> None:
    """Django reads an asynchronous body completely before it sends it, so the request ends later."""
    views.hooks["between"] = lambda: clock.go(0.3)
    with pytest.warns(Warning, match="must consume asynchronous iterators"):
        body = iter(site.open("/stream-from-async/"))
    assert next(body) == b"one,"
    clock.go(0.2)
    assert in_progress(registry) == 1


def test_fault_02_exception_during_a_stream_keeps_the_sent_status(
    site: Site, registry: CollectorRegistry, clock: Clock
) -> None:
    """The exception is counted."""

    def fail() -> None:
        clock.go(0.1)
        raise KeyError

    views.hooks["between"] = fail
    with pytest.raises(KeyError):
        site("/stream/")
    assert requests(registry) == {("GET", "/stream/", "200"): 1}
    assert exceptions(registry) == {("/stream/", "KeyError"): 1}
    assert seconds(registry) == pytest.approx(0.1)
    assert in_progress(registry) == 0


def test_fault_02_exception_at_the_start_of_a_stream_is_500(site: Site, registry: CollectorRegistry) -> None:
    """Nothing was sent, so the server answers 500."""

    def fail() -> None:
        raise KeyError

    views.hooks["start"] = fail
    with pytest.raises(KeyError):
        site("/stream/")
    assert requests(registry) == {("GET", "/stream/", "500"): 1}
    assert exceptions(registry) == {("/stream/", "KeyError"): 1}


def test_fault_02_unreadable_file_keeps_the_sent_status(site: Site, registry: CollectorRegistry) -> None:
    """There is no file_wrapper, so Django reads the file."""
    with pytest.raises(OSError, match="the disk failed"):
        site("/broken-file/")
    assert requests(registry) == {("GET", "/broken-file/", "200"): 1}
    assert exceptions(registry) == {("/broken-file/", "OSError"): 1}


def test_disconnect_during_a_stream_finishes_the_request(
    site: Site, registry: CollectorRegistry, clock: Clock
) -> None:
    """The server closes a body that it does not send completely."""
    views.hooks["between"] = lambda: clock.go(5)
    site.disconnect("/stream/")
    assert requests(registry) == {("GET", "/stream/", "200"): 1}
    assert exceptions(registry) == {}
    assert seconds(registry) == 0


def test_unread_stream_finishes_at_close(site: Site, registry: CollectorRegistry) -> None:
    """A server that fails before the first chunk still closes the body."""
    body = site.open("/stream/")
    assert in_progress(registry) == 1
    body.close()
    assert requests(registry) == {("GET", "/stream/", "200"): 1}
    assert in_progress(registry) == 0


def test_fault_07_file_response_uses_the_sendfile_of_the_server(
    site: Site, registry: CollectorRegistry
) -> None:
    """The server gets the same object that its file_wrapper returned, with the same file."""
    made: list[FileWrapper] = []

    def wrapper(file: Any, size: int = 8192) -> FileWrapper:
        made.append(FileWrapper(file, size))
        return made[-1]

    body = site.open("/file/", **{"wsgi.file_wrapper": wrapper})
    assert [body] == made
    assert in_progress(registry) == 1
    assert b"".join(body).startswith(b'"""The views')
    body.close()
    assert made[0].filelike.closed
    assert requests(registry) == {("GET", "/file/", "200"): 1}
    assert in_progress(registry) == 0


def test_fault_07_file_response_works_without_a_file_wrapper(site: Site, registry: CollectorRegistry) -> None:
    assert site("/file/") == "200"
    assert site.text.startswith('"""The views')
    assert requests(registry) == {("GET", "/file/", "200"): 1}


def test_custom_response_class_finishes_at_close(site: Site, registry: CollectorRegistry) -> None:
    """The response has its own __iter__."""
    assert site("/own-iteration/") == "200"
    assert requests(registry) == {("GET", "/own-iteration/", "200"): 1}
    assert errors(registry) == {}
