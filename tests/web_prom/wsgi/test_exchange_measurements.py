"""Durations, queue times and body sizes of WSGI requests."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.web_prom.support import Clock, Environ, Server, environ_of, hello, samples, seconds, serve
from tests.web_prom.wsgi.support import PLAIN, Measure, Start
from web_prom.metrics.queue_time import queue_seconds


def test_fault_01_duration_includes_the_whole_body(
    measure: Measure, registry: CollectorRegistry, clock: Clock
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        clock.go(0.5)
        start_response("200 OK", PLAIN)

        def body() -> Iterator[bytes]:
            for _ in range(3):
                clock.go(0.1)
                yield b"x"
            clock.go(0.2)

        return body()

    serve(measure(app))
    assert seconds(registry) == pytest.approx(1.0)


def test_duration_is_in_the_same_bucket_as_with_upstream(
    measure: Measure, registry: CollectorRegistry, clock: Clock
) -> None:
    """A bucket includes its bound, as in prometheus_client's observe()."""
    took: list[float] = [0.0, 0.1, 0.1000001, 0.5, 0.6, 1.0, 99.0]

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        clock.now = 0.0  # differences of small numbers are exact
        start_response("200 OK", PLAIN)
        clock.now = float(environ["HTTP_X_TOOK"])
        return [b"x"]

    wrapped = measure(app, duration_buckets="0.1,0.5,1")
    clock.now = 0.0
    from prometheus_client import Histogram

    oracle = Histogram("oracle", "Help.", buckets=(0.1, 0.5, 1), registry=registry)
    for value in took:
        clock.now = 0.0
        serve(wrapped, HTTP_X_TOOK=repr(value))
        oracle.observe(value)
    ours = samples(registry, "http_request_duration_seconds_bucket", "le")
    assert ours == samples(registry, "oracle_bucket", "le") == {
        ("0.1",): 2, ("0.5",): 4, ("1.0",): 6, ("+Inf",): 7,
    }  # fmt: skip
    assert seconds(registry) == registry.get_sample_value("oracle_sum")


def test_first_byte_is_timed_at_the_first_nonempty_chunk(
    measure: Measure, registry: CollectorRegistry, clock: Clock
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        clock.go(1)
        start_response("200 OK", PLAIN)
        yield b""
        clock.go(2)
        yield b"x"
        clock.go(4)
        yield b"y"

    serve(measure(app, first_byte=True))
    assert seconds(registry, "http_response_first_byte_seconds") == 3
    assert seconds(registry) == 7


def test_first_byte_is_timed_at_write(measure: Measure, registry: CollectorRegistry, clock: Clock) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", PLAIN)
        clock.go(1)
        write(b"x")
        clock.go(1)
        return [b"y"]

    serve(measure(app, first_byte=True, response_size=True))
    assert seconds(registry, "http_response_first_byte_seconds") == 1
    assert seconds(registry, "http_response_size_bytes") == 2


def test_first_byte_is_not_observed_for_an_empty_body(measure: Measure, registry: CollectorRegistry) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("204 No Content", [])
        return []

    serve(measure(app, first_byte=True))
    assert samples(registry, "http_response_first_byte_seconds_count", "route") == {("_unmatched",): 0}


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("header", "waited"),
    [
        ("t=1699999999.5", 0.5),
        ("1699999999.5", 0.5),
        (" t=1699999999.5 ", 0.5),
        ("t=1699999999500", 0.5),
        ("1699999999500", 0.5),
        ("t=1699999999500000", 0.5),
        ("t=1700000000", 0.0),
        ("t=1699996400", 3600.0),
        ("t=1699996399", None),  # more than an hour
        ("t=1700000001", None),  # in the future
        ("t=0", None),
        ("t=-1", None),
        ("", None),
        ("t=", None),
        ("yesterday", None),
        ("t=nan", None),
        ("t=inf", None),
        ("t=-inf", None),
        ("t=1e400", None),
        ("t=1699999999.5, t=1699999999.6", None),
        ("x" * 10_000, None),
    ],
)
def test_queue_seconds_reads_each_unit(header: str, waited: float | None) -> None:
    assert queue_seconds(header, NOW) == pytest.approx(waited)


@settings(deadline=None, max_examples=60, database=None)
@given(st.one_of(st.text(), st.floats().map(str), st.integers().map(str)))
def test_queue_seconds_is_none_or_plausible(header: str) -> None:
    waited = queue_seconds(header, NOW)
    assert waited is None or 0 <= waited <= 3600


def test_queue_time_is_observed_once_per_request_with_the_header(
    measure: Measure, registry: CollectorRegistry
) -> None:
    import time

    wrapped = measure(hello, queue_time=True, constant_labels={"site": "a"})
    serve(wrapped)
    serve(wrapped, HTTP_X_REQUEST_START="nonsense")
    serve(wrapped, HTTP_X_REQUEST_START=f"t={time.time() - 0.5}")
    assert samples(registry, "http_request_queue_seconds_count", "site") == {("a",): 1}


class Stream(io.BytesIO):
    """A server's input stream."""


READERS: dict[str, Callable[[Any], Any]] = {
    "read all": lambda stream: stream.read(),
    "read in pieces": lambda stream: [stream.read(3) for _ in range(20)],
    "read to -1": lambda stream: stream.read(-1),
    "readline": lambda stream: [stream.readline() for _ in range(5)],
    "readline in pieces": lambda stream: [stream.readline(2) for _ in range(20)],
    "readlines": lambda stream: stream.readlines(),
    "iterate": list,
    "nothing": lambda stream: None,
}
BODY = b"first line\nsecond\nthird"


@pytest.mark.parametrize("how", READERS)
def test_request_size_is_the_number_of_bytes_read(
    how: str, measure: Measure, registry: CollectorRegistry
) -> None:
    seen: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        seen.append(READERS[how](environ["wsgi.input"]))
        return hello(environ, start_response)

    serve(
        measure(app, request_size=True),
        method="POST",
        **{"wsgi.input": Stream(BODY), "CONTENT_LENGTH": "9999"},
    )
    assert seen == [READERS[how](Stream(BODY))]
    expected = 0 if how == "nothing" else len(BODY)
    assert samples(registry, "http_request_size_bytes_sum", "method") == {("POST",): expected}


def test_request_size_excludes_unread_bytes(measure: Measure, registry: CollectorRegistry) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield environ["wsgi.input"].read(5)  # while the body is sent

    serve(measure(app, request_size=True), **{"wsgi.input": Stream(BODY), "CONTENT_LENGTH": str(len(BODY))})
    assert seconds(registry, "http_request_size_bytes") == 5


def test_input_keeps_the_other_methods_of_the_server_stream(measure: Measure) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        stream = environ["wsgi.input"]
        assert stream.tell() == 0
        assert stream.seekable()
        with pytest.raises(AttributeError):
            stream.no_such_method()
        return hello(environ, start_response)

    serve(measure(app, request_size=True), **{"wsgi.input": Stream(BODY)})


def test_input_is_unchanged_if_sizes_are_not_measured(measure: Measure) -> None:
    stream = Stream(BODY)

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        assert environ["wsgi.input"] is stream
        return hello(environ, start_response)

    serve(measure(app, response_size=True), **{"wsgi.input": stream})


def test_response_size_is_the_number_of_bytes_returned(measure: Measure, registry: CollectorRegistry) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        for _ in range(10):
            yield b"x" * 1000

    wrapped = measure(app, response_size=True)
    Server().run(wrapped, environ_of(), stop_after=3)
    assert seconds(registry, "http_response_size_bytes") == 3000
    serve(wrapped)
    assert seconds(registry, "http_response_size_bytes") == 13000


def test_optional_metrics_are_off_by_default(measure: Measure, registry: CollectorRegistry) -> None:
    serve(measure(hello))
    assert {family.name for family in registry.collect()} == {
        "http_requests",
        "http_request_duration_seconds",
        "http_request_exceptions",
        "http_requests_in_progress",
        "web_prom_instrumentation_errors",
        "web_prom_label_overflow",
    }
