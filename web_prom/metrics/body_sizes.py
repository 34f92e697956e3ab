"""Measuring the bytes of a request and its response, and the time to the first byte."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy, deepcopy
from time import perf_counter
from typing import Any, Protocol

from web_prom.metrics.recording import Recording


class CountsRequestBytes(Protocol):
    """An object to which the bytes of a request body are added."""

    request_size: int


class BodySizeRecording(Recording):
    """A recording that also measures the sizes of the bodies and the time to the first byte."""

    request_size = 0
    response_size: int | None = 0
    first_byte: float | None = None

    def add_response_bytes(self, size: int) -> None:
        """Count the bytes of a part of the response, and keep the time of the first byte."""
        if size and self.first_byte is None:
            self.first_byte = perf_counter() - self.started
        self.response_size = (self.response_size or 0) + size

    def set_file_size(self, length: str) -> None:
        """Count a file that the server sends itself. Only the announced length of its bytes is known.

        Args:
            length: The announced length as text. If it is not a number, the size is not observed.
        """
        if self.first_byte is None:
            self.first_byte = perf_counter() - self.started
        self.response_size = int(length) if length.isdecimal() else None


class CountingBody:
    """A response body that counts its chunks."""

    def __init__(self, body: Any, recording: BodySizeRecording) -> None:
        self._body = body
        self._recording = recording
        if hasattr(body, "close"):
            self.close = body.close

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            self._recording.add_response_bytes(len(chunk))
            yield chunk

    def __len__(self) -> int:
        return len(self._body)


class CountingInput:
    """An input stream that counts the bytes that the application reads. All else is the server's stream.

    It has a method that not every stream has if the server's stream has it. Each method takes the arguments,
    and returns or raises what that of the server's stream does.
    """

    def __init__(self, stream: Any, recording: CountsRequestBytes) -> None:
        self._stream = stream
        self._recording = recording

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stream, name)
        if name in _RETURN_BYTES:
            return lambda *args, **options: self._count(found(*args, **options))
        if name in _FILL_BUFFER:
            return lambda buffer: self._count_size(found(buffer))
        return found

    def __copy__(self) -> CountingInput:
        return CountingInput(copy(self._stream), self._recording)

    def __deepcopy__(self, memo: dict[int, Any]) -> CountingInput:
        return CountingInput(deepcopy(self._stream, memo), self._recording)

    def __iter__(self) -> Iterator[bytes]:
        return map(self._count, self._stream)

    def __next__(self) -> bytes:
        return self._count(next(self._stream))

    def __enter__(self) -> Any:
        entered = self._stream.__enter__()
        return self if entered is self._stream else entered

    def __exit__(self, *details: Any) -> Any:
        return self._stream.__exit__(*details)

    def read(self, *args: Any, **options: Any) -> bytes:
        """Read bytes and count them."""
        return self._count(self._stream.read(*args, **options))

    def readline(self, *args: Any, **options: Any) -> bytes:
        """Read a line and count its bytes."""
        return self._count(self._stream.readline(*args, **options))

    def readlines(self, *args: Any, **options: Any) -> list[bytes]:
        """Read lines and count their bytes."""
        return [self._count(line) for line in self._stream.readlines(*args, **options)]

    def _count(self, data: bytes) -> bytes:
        if data:  # a stream that has no bytes now may return None
            self._recording.request_size += len(data)
        return data

    def _count_size(self, size: int | None) -> int | None:
        self._recording.request_size += size or 0
        return size


_RETURN_BYTES = frozenset({"next", "read1", "readall"})
_FILL_BUFFER = frozenset({"readinto", "readinto1"})
