"""WSGI responses that the server sends as a file."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.support import (
    App,
    Clock,
    Environ,
    Server,
    environ_of,
    in_progress,
    requests,
    samples,
    seconds,
    serve,
)
from tests.web_prom.wsgi.support import OK, OPTIONS, Measure, Start, app_list, assert_idle, send


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    """Return a file of 20,000 bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 2000)
    return path


def file_app(path: Path, opened: list[Any], length: int | None = 20000) -> App:
    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", [] if length is None else [("Content-Length", str(length))])
        opened.append(path.open("rb"))
        return environ["wsgi.file_wrapper"](opened[-1])

    return app


@pytest.mark.parametrize("options", OPTIONS)
def test_fault_07_file_wrapper_is_returned_as_the_same_object(
    options: dict[str, Any], measure: Measure, registry: CollectorRegistry, big_file: Path, clock: Clock
) -> None:
    opened: list[Any] = []
    wrapped = measure(file_app(big_file, opened), **options)
    body: Any = wrapped(environ_of(**{"wsgi.file_wrapper": FileWrapper}), Server().start_response)
    assert type(body) is FileWrapper
    assert body.filelike is opened[0]
    assert in_progress(registry) == 1
    clock.go(2)
    body.close()
    assert opened[0].closed, "close() of the wrapper is called"
    assert requests(registry) == {OK: 1}
    assert seconds(registry) == 2, "until the file is sent"
    body.close()
    assert requests(registry) == {OK: 1}
    assert_idle(registry)


@pytest.mark.parametrize("options", OPTIONS)
def test_fault_07_file_wrapper_is_sent_by_sendfile(
    options: dict[str, Any], measure: Measure, registry: CollectorRegistry, big_file: Path
) -> None:
    wire = send(measure(file_app(big_file, []), **options))
    assert wire.sent_by_kernel
    assert requests(registry) == {OK: 1}
    assert_idle(registry)
    if options:
        assert samples(registry, "http_response_size_bytes_sum", "route") == {("_unmatched",): 20000}
        assert samples(registry, "http_response_first_byte_seconds_count", "route") == {("_unmatched",): 1}


def test_file_without_content_length_has_no_response_size(
    measure: Measure, registry: CollectorRegistry, big_file: Path
) -> None:
    send(measure(file_app(big_file, [], length=None), response_size=True))
    assert requests(registry) == {OK: 1}
    assert samples(registry, "http_response_size_bytes_count", "route") == {("_unmatched",): 0}


class Slotted:
    """A file wrapper that allows no new attributes, as mod_wsgi's."""

    __slots__ = ("filelike",)

    def __init__(self, filelike: Any) -> None:
        self.filelike = filelike

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.filelike.read()])

    def close(self) -> None:
        self.filelike.close()


@pytest.mark.parametrize("options", OPTIONS)
def test_file_wrapper_without_attributes_finishes_when_its_file_is_closed(
    options: dict[str, Any], measure: Measure, registry: CollectorRegistry, big_file: Path, clock: Clock
) -> None:
    """The request ends when the server closes the file wrapper."""
    opened: list[Any] = []
    wrapped = measure(file_app(big_file, opened), **options)
    body: Any = wrapped(environ_of(**{"wsgi.file_wrapper": Slotted}), Server().start_response)
    assert type(body) is Slotted
    assert len(b"".join(body)) == 20000
    assert in_progress(registry) == 1
    clock.go(2)
    body.close()
    assert opened[0].closed
    assert requests(registry) == {OK: 1}
    assert seconds(registry) == 2
    assert_idle(registry)


def test_file_wrapper_without_a_replaceable_close_finishes_at_once(
    measure: Measure, registry: CollectorRegistry, big_file: Path
) -> None:
    """Its end cannot be observed, so the request is counted at once."""

    class Closed:
        __slots__ = ("_file",)

        def __init__(self, file: Any) -> None:
            self._file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter([self._file.read()])

        def close(self) -> None:
            self._file.close()

    opened: list[Any] = []
    environ = environ_of(**{"wsgi.file_wrapper": Closed})
    assert len(Server().run(measure(file_app(big_file, opened)), environ)) == 20000
    assert opened[0].closed
    assert requests(registry) == {OK: 1}
    assert_idle(registry)


@pytest.mark.parametrize("options", OPTIONS)
def test_builtin_file_wrapper_gets_its_file_back(
    options: dict[str, Any], measure: Measure, registry: CollectorRegistry, big_file: Path, clock: Clock
) -> None:
    """The file wrapper of uWSGI returns its argument, and uWSGI compares the object later."""
    opened: list[Any] = []
    wrapped = measure(file_app(big_file, opened), **options)
    body: Any = wrapped(environ_of(**{"wsgi.file_wrapper": iter}), Server().start_response)
    assert body is opened[0]
    assert in_progress(registry) == 1
    clock.go(2)
    body.close()
    assert body.closed
    assert requests(registry) == {OK: 1}
    assert seconds(registry) == 2
    assert_idle(registry)


def test_builtin_file_wrapper_does_not_affect_other_bodies(
    measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(app_list)
    assert serve(wrapped, **{"wsgi.file_wrapper": iter}) == b"abcd"
    assert requests(registry) == {OK: 1}
    assert_idle(registry)


def test_unclosed_file_is_finished_at_the_next_scrape(
    measure: Measure, registry: CollectorRegistry, big_file: Path
) -> None:
    opened: list[Any] = []
    wrapped = measure(file_app(big_file, opened))
    body = wrapped(environ_of(**{"wsgi.file_wrapper": FileWrapper}), Server().start_response)
    del body
    gc.collect()
    opened.pop().close()
    serve(wrapped, "/metrics")
    assert requests(registry) == {OK: 1}
    assert_idle(registry)
