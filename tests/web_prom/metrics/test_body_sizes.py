"""The input stream that counts what an application reads, beside the stream without it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.wsgi import LimitedStream

from web_prom.metrics.body_sizes import CountingInput

BODY = b"one\ntwo\nthree\n"


class Count:
    """What the stream counts."""

    request_size = 0


class Required:
    """A stream with the methods that PEP 3333 requires, and no other one."""

    def __init__(self, body: bytes = BODY) -> None:
        stream = io.BytesIO(body)
        self.read, self.readline, self.readlines = stream.read, stream.readline, stream.readlines

    def __iter__(self) -> Any:
        return iter(self.readlines())


class Iterator(Required):
    """A stream with `next`, as some servers have it, and a keyword."""

    def __next__(self) -> bytes:
        return self.readline()

    next = __next__

    def read(self, size: int | None = None) -> bytes:
        """Read as gunicorn does."""
        return b"" if size == 0 else self.readline()

    def __init__(self) -> None:
        self.readline = io.BytesIO(BODY).readline
        self.readlines = io.BytesIO(BODY).readlines


class Raw(io.RawIOBase):
    """A stream that has bytes only at each second attempt."""

    def __init__(self) -> None:
        self._parts = [None, b"one", None, b"two", b""]

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read a part, or return None."""
        part = self._parts.pop(0)
        if part is None:
            return None
        buffer[: len(part)] = part
        return len(part)


def fill(method: str, size: int = 5) -> Callable[[Any], bytes]:
    """Return a function that reads with a method that takes a buffer."""

    def read(stream: Any) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: getattr(stream, method)(buffer)])

    return read


def read_in_block(stream: Any) -> bytes:
    """Read inside of a `with` block, which closes the stream."""
    with stream as entered:
        data: bytes = entered.read()
    assert stream.closed
    return data


READERS: dict[str, Callable[[Any], Any]] = {
    "read": lambda stream: stream.read(),
    "read size": lambda stream: stream.read(3),
    "readline": lambda stream: stream.readline(),
    "readlines": lambda stream: b"".join(stream.readlines()),
    "iteration": b"".join,
    "next": next,
    "with": read_in_block,
    "read1": lambda stream: stream.read1(6),
    "readinto": fill("readinto"),
    "readinto1": fill("readinto1"),
    "buffer that is too long": fill("readinto", 100),
    "werkzeug": lambda stream: LimitedStream(stream, len(BODY)).read(),
    "werkzeug with a line": lambda stream: LimitedStream(stream, 6).readline(),
    "buffered reader": lambda stream: io.BufferedReader(stream).readline() and BODY,
}


@pytest.mark.parametrize("how", READERS)
@pytest.mark.parametrize("make", [lambda: io.BytesIO(BODY), lambda: io.BufferedReader(io.BytesIO(BODY))])
def test_counting_input_counts_what_each_way_of_reading_returns(how: str, make: Callable[[], Any]) -> None:
    count = Count()
    data = READERS[how](CountingInput(make(), count))
    assert data == READERS[how](make())
    assert count.request_size == len(data)


def test_counting_input_has_the_optional_methods_of_the_stream_only() -> None:
    full, required = (
        CountingInput(io.BufferedReader(io.BytesIO()), Count()),
        CountingInput(Required(), Count()),
    )
    for name in ("readinto", "readinto1", "read1", "seek", "closed"):
        assert hasattr(full, name)
        assert not hasattr(required, name)
    assert hasattr(CountingInput(Raw(), Count()), "readall")
    assert not hasattr(full, "readall")
    with pytest.raises(TypeError, match="is not an iterator"):
        next(required)


def test_counting_input_of_a_stream_with_required_methods_is_counted_by_werkzeug() -> None:
    count = Count()
    assert LimitedStream(CountingInput(Required(), count), len(BODY)).read() == BODY  # type: ignore[arg-type]
    assert count.request_size == len(BODY)


def test_counting_input_passes_keywords_and_counts_next() -> None:
    count = Count()
    stream = CountingInput(Iterator(), count)
    assert stream.read(size=0) == b""
    assert stream.read(size=None) == b"one\n"
    assert stream.next() == b"two\n"
    assert next(stream) == b"three\n"
    assert count.request_size == len(BODY)


def test_counting_input_of_a_stream_without_bytes_now_returns_none() -> None:
    count = Count()
    stream: Any = CountingInput(Raw(), count)
    assert stream.read(5) is None
    assert stream.read(5) == b"one"
    assert stream.readinto(bytearray(5)) is None
    assert stream.readall() == b"two"
    assert count.request_size == 6


def test_counting_input_raises_what_the_stream_raises() -> None:
    stream: Any = CountingInput(io.BytesIO(BODY), Count())
    stream.close()
    for read in (stream.read, stream.readline, stream.readlines, lambda: stream.readinto(bytearray(1))):
        with pytest.raises(ValueError, match="closed file"):
            read()


class Entered(Required):
    """A stream whose `with` block gets another object."""

    def __enter__(self) -> str:
        return "another"

    def __exit__(self, *details: Any) -> bool:
        return True


def test_counting_input_enters_and_leaves_as_the_stream_does() -> None:
    with CountingInput(Entered(), Count()) as entered:
        assert entered == "another"
        raise LookupError
