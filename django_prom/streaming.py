"""The bodies of streaming responses. They report their end and their exceptions to a recording."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

from django.http import HttpRequest
from django.http.response import HttpResponseBase

CountChunk = Callable[[Any, str], None]
"""Counts a chunk of a body. The second argument is the charset of the response."""


class StreamRecording(Protocol):
    """A recording that is finished with the body of its response."""

    def finish(self) -> None:
        """Observe the request at the end of the body."""

    def on_exception(self, error: BaseException, *, asgi: bool, response_started: bool) -> None:
        """Finish the request after an exception of the body."""


class _RecordedBody:
    """The iterator of a response, and the recording of the request.

    The subclasses are not generators, so they need no close, and a body that is never read loses nothing.
    """

    __slots__ = ("_asgi", "_charset", "_count_chunk", "_is_native", "_iterator", "_recording", "_started")

    def __init__(
        self,
        iterator: Any,
        recording: StreamRecording,
        request: HttpRequest,
        response: HttpResponseBase,
        count_chunk: CountChunk | None,
    ) -> None:
        self._iterator = iterator
        self._recording = recording
        self._count_chunk = count_chunk
        # Only a counted chunk needs the charset, and Django parses a header for it.
        self._charset: str = "" if count_chunk is None else response.charset
        self._asgi = hasattr(request, "scope")
        # An ASGI server gets the status before it reads the body. A WSGI server sends both together.
        self._started = self._asgi
        # Django reads a body of the other protocol completely before it sends any of it. So the end of such
        # a body is not the end of the request.
        self._is_native = response.is_async == self._asgi

    def _on_end(self) -> None:
        if self._is_native:
            self._recording.finish()

    def _on_exception(self, error: BaseException) -> None:
        self._recording.on_exception(error, asgi=self._asgi, response_started=self._started)

    def _on_chunk(self, chunk: Any) -> Any:
        self._started = self._started or self._is_native
        if self._count_chunk is not None:
            self._count_chunk(chunk, self._charset)
        return chunk


class RecordedBody(_RecordedBody):
    """A body that is a synchronous iterator."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            chunk = next(self._iterator)
        except StopIteration:
            self._on_end()
            raise
        except BaseException as error:
            self._on_exception(error)
            raise
        return self._on_chunk(chunk)


class AsyncRecordedBody(_RecordedBody):
    """A body that is an asynchronous iterator."""

    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            chunk = await self._iterator.__anext__()
        except StopAsyncIteration:
            self._on_end()
            raise
        except BaseException as error:
            self._on_exception(error)
            raise
        return self._on_chunk(chunk)


def record_stream(
    recording: StreamRecording,
    request: HttpRequest,
    response: HttpResponseBase,
    count_chunk: CountChunk | None = None,
) -> bool:
    """Replace the iterator of a streaming response with one that reports to a recording.

    The iterator is replaced, and not ``streaming_content``: setting that on a FileResponse disables the
    server's sendfile, and every chunk would be converted twice.

    Args:
        recording: The recording of the request.
        request: Django's request.
        response: Django's streaming response.
        count_chunk: Counts each chunk, if sizes are measured.

    Returns:
        Whether the response has an iterator. If not, its chunks are not seen.
    """
    iterator = getattr(response, "_iterator", None)
    if iterator is None:
        return False
    if not isinstance(iterator, _RecordedBody):
        body_class = AsyncRecordedBody if response.is_async else RecordedBody
        response._iterator = body_class(iterator, recording, request, response, count_chunk)
    return True
