"""The recordings of Django requests, without and with the sizes of bodies."""

from __future__ import annotations

from io import SEEK_END
from time import perf_counter
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_prom.signals import EarlyInput
from django_prom.streaming import record_stream
from web_prom.asgi.disconnects import is_cancelled
from web_prom.metrics.body_sizes import BodySizeRecording
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import Recording


class RequestRecording(Recording):
    """The recording of a request that Django answers.

    A response has a list of functions that Django calls when it closes the response. The recording's
    ``finish`` is in this list. The recording does not refer to the response, so there is no reference cycle:
    both are freed when the server drops the response. A recording that is not finished is then put into a
    queue.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # A cache above the middleware pickles the response, including the functions that close it.
        return (_FinishedRecording, ())

    def on_start(self, request: HttpRequest) -> None:
        """Measure what is measured at the start of a request, if the settings require it."""
        queue_time = self.recorder.queue_time
        if queue_time is not None:
            queue_time.observe(request.META)

    def on_exception(self, error: BaseException, *, asgi: bool, response_started: bool) -> None:
        """Add an exception after which nothing more is sent, and finish.

        Args:
            error: The exception.
            asgi: Whether the server uses ASGI. An ASGI server cancels a request if the client disconnects.
            response_started: Whether the client has a status.
        """
        if self.finished:
            return
        disconnected = asgi and is_cancelled(error)
        self.add_final_exception(error, response_started=response_started, client_disconnected=disconnected)
        self.finish()

    def wrap_body(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Record the end and the exceptions of a streaming response."""
        record_stream(self, request, response)


class RequestRecordingWithSizes(BodySizeRecording, RequestRecording):
    """A recording that also measures the sizes of the bodies and the time to the first byte."""

    response_size: int | None = None

    def on_start(self, request: HttpRequest) -> None:
        """Also measure the body of the request while it is read."""
        super().on_start(request)
        stream = request.META.get("wsgi.input")
        if isinstance(stream, EarlyInput):
            stream.set_recording(self)
        elif hasattr(request, "scope"):
            # Under ASGI, Django has already read the whole body into a file.
            body = request._stream
            try:
                position = body.tell()
                body.seek(0, SEEK_END)
                self.request_size = body.tell()
                body.seek(position)
            except OSError:  # the body of the test client is not a file
                self.request_size = _parse_length(request.META.get("CONTENT_LENGTH")) or 0

    def wrap_body(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Measure the body of the response, at once or while it is streamed."""
        has_no_body = request.method == "HEAD" or response.status_code in (204, 304)
        as_file = _is_sent_as_file(request, response)
        count_chunk = None if has_no_body or as_file else self.count_chunk
        if response.streaming and record_stream(self, request, response, count_chunk):
            size = _parse_length(response.get("Content-Length")) if as_file else 0
        else:
            size = None if response.streaming else sum(map(len, response))
        self.response_size = 0 if has_no_body else size
        if self.response_size:
            self.first_byte = perf_counter() - self.started

    def count_chunk(self, chunk: Any, charset: str) -> None:
        """Count the bytes of a chunk of a streamed body."""
        encoded = chunk if isinstance(chunk, bytes | memoryview) else str(chunk).encode(charset)
        self.add_response_bytes(len(encoded))


def recording_class(recorder: Recorder) -> type[RequestRecording]:
    """Return the class of the recordings of a project."""
    kind = RequestRecordingWithSizes if recorder.measures_sizes else RequestRecording
    if not recorder.config.database:
        return kind
    from web_prom.metrics.query_recording import with_queries

    return with_queries(kind)


class _FinishedRecording:
    """The recording in an unpickled response. There is nothing to finish."""

    finished = True

    def finish(self) -> None:
        """Do nothing."""


def _is_sent_as_file(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Return whether the server sends the body itself, with its ``wsgi.file_wrapper``."""
    return getattr(response, "file_to_stream", None) is not None and bool(
        request.META.get("wsgi.file_wrapper")
    )


def _parse_length(header: object) -> int | None:
    text = str(header)
    return int(text) if text.isascii() and text.isdigit() else None
