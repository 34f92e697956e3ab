"""The bytes of a request and its response, and the time to the first of them, where they are measured."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

from web_prom.metrics.recording import Recording


class Measures(Recording):
    """What a recording has that also measures bytes and the time to the first of them."""

    request_size = 0
    response_size: int | None = 0
    first_byte: float | None = None

    def count(self, chunk: bytes) -> None:
        """Count a chunk of the response, and take the time of the first."""
        if self.first_byte is None and chunk:
            self.first_byte = perf_counter() - self.started
        self.response_size = (self.response_size or 0) + len(chunk)

    def count_file(self, length: str) -> None:
        """Count a file that the server sends by itself, of whose bytes only the announced length is known."""
        self.first_byte = perf_counter() - self.started
        self.response_size = int(length) if length.isdecimal() else None


class CountedBody:
    """Counts the chunks of a response body as they pass."""

    def __init__(self, body: Any, exchange: Measures) -> None:
        self._body = body
        self._exchange = exchange
        if hasattr(body, "close"):
            self.close = body.close

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            self._exchange.count(chunk)
            yield chunk

    def __len__(self) -> int:
        return len(self._body)


class CountedInput:
    """Counts the bytes that the application reads of a request body; all else is the server's stream."""

    def __init__(self, stream: Any, recording: Any) -> None:
        self._stream = stream
        self._recording = recording

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[bytes]:
        return map(self._counted, self._stream)

    def read(self, *size: int) -> bytes:
        """Read, and count."""
        return self._counted(self._stream.read(*size))

    def readline(self, *size: int) -> bytes:
        """Read a line, and count."""
        return self._counted(self._stream.readline(*size))

    def readlines(self, *hint: int) -> list[bytes]:
        """Read lines, and count."""
        return [self._counted(line) for line in self._stream.readlines(*hint)]

    def _counted(self, data: bytes) -> bytes:
        self._recording.request_size += len(data)
        return data
