"""The recording of a Django request: from the middleware's call to the end of the response's body."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from io import SEEK_END
from time import perf_counter
from typing import Any

from django_prom import routes
from django_prom.conf import Instrumentation
from django_prom.signals import STARTED, EarlyInput
from web_prom.asgi.disconnects import is_cancelled
from web_prom.metrics.body_sizes import BodySizeRecording
from web_prom.metrics.labels import STATUS_TEXTS
from web_prom.metrics.layers import ForwardingRecording, MeasuredProtocols, find_outer, forward, is_counted_by
from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.runtime.this_process import measurements


class RequestRecording(Recording):
    """The recording of a request that Django answers.

    Django closes a response once it is sent, and keeps what it then calls in a list of the response: the
    recording's ``finish`` stands there. Nothing here refers to the response, so that both go away as soon
    as the server drops them, and the recording with them finishes at the latest then.
    """

    measures_sizes = False
    """Whether bytes and the time to the first of them are measured."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A cache that stands above the middleware pickles the response and what it would call.
        return (_Finished, ())

    def on_exception(self, error: BaseException, *, asgi: bool, sent: bool) -> None:
        """Note that something raised which no response follows, and finish.

        Args:
            error: What was raised.
            asgi: Whether the server speaks ASGI, where a client that goes away cancels the request.
            sent: Whether the client has a status already.
        """
        if self.finished:
            return
        disconnected = asgi and is_cancelled(error)
        self.add_final_exception(error, response_started=sent, client_disconnected=disconnected)
        self.finish()

    def on_start(self, request: Any) -> None:
        """Measure what only some settings ask for, as the request begins."""
        queue_time = self.recorder.queue_time
        if queue_time is not None:
            queue_time.observe(request.META)

    def wrap_body(self, request: Any, response: Any) -> None:
        """Watch the body of a streaming response."""
        self._watch(request, response, counted=False)

    def _watch(self, request: Any, response: Any, *, counted: bool) -> bool:
        # Its iterator is replaced, and not `streaming_content`: setting that on a FileResponse switches the
        # server's sendfile off, and every chunk would be converted twice.
        iterator = getattr(response, "_iterator", None)
        if iterator is None:
            return False
        if not isinstance(iterator, _Watched):
            kind = AsyncBody if response.is_async else Body
            response._iterator = kind(iterator, self, request, response, counted=counted)
        return True


class RequestRecordingWithSizes(BodySizeRecording, RequestRecording):
    """A recording that also measures bytes and the time to the first byte."""

    measures_sizes = True
    response_size: int | None = None

    def on_start(self, request: Any) -> None:
        """Also measure the request's body as it is read."""
        super().on_start(request)
        stream = request.META.get("wsgi.input")
        if isinstance(stream, EarlyInput):
            stream.hand_over(self)
        elif hasattr(request, "scope"):
            # Under ASGI Django has read the whole body, into a file, before it calls anybody.
            body = request._stream
            try:
                position = body.tell()
                body.seek(0, SEEK_END)
                self.request_size = body.tell()
                body.seek(position)
            except OSError:  # the test client's is no file
                self.request_size = _length(request.META.get("CONTENT_LENGTH")) or 0

    def wrap_body(self, request: Any, response: Any) -> None:
        """Measure the body, at once or as it is streamed."""
        bodiless = request.method == "HEAD" or response.status_code in (204, 304)
        as_file = _is_sent_as_file(request, response)
        if response.streaming and self._watch(request, response, counted=not bodiless and not as_file):
            size = _length(response.get("Content-Length")) if as_file else 0
        else:
            size = None if response.streaming else sum(map(len, response))
        self.response_size = 0 if bodiless else size
        if self.response_size:
            self.first_byte = perf_counter() - self.started

    def count(self, chunk: Any, charset: str) -> None:
        """Count a chunk of a streamed body."""
        encoded = chunk if isinstance(chunk, bytes | memoryview) else str(chunk).encode(charset)
        self.add_response_bytes(len(encoded))


class _Finished:
    """What is left of a recording in a copy of its response: nothing to do."""

    finished = True

    def finish(self) -> None:
        """Do nothing."""


class _Watched:
    """What both kinds of bodies are: the iterator of a response, and the recording that is told of it.

    Not generators: there is nothing to close, and nothing is lost if one is never started.
    """

    __slots__ = ("_asgi", "_charset", "_iterator", "_native", "_recording", "_sent")

    def __init__(
        self, iterator: Any, recording: RequestRecording, request: Any, response: Any, *, counted: bool
    ) -> None:
        self._iterator = iterator
        self._recording = recording
        self._charset: str | None = response.charset if counted else None
        self._asgi = hasattr(request, "scope")
        # An ASGI server has the status before it asks for the body, a WSGI server sends both together.
        self._sent = self._asgi
        # A body of the other kind is read whole before any of it is sent: its end is not the request's.
        self._native = response.is_async == self._asgi

    def _end(self) -> None:
        if self._native:
            self._recording.finish()

    def _fail(self, error: BaseException) -> None:
        self._recording.on_exception(error, asgi=self._asgi, sent=self._sent)

    def _pass(self, chunk: Any) -> Any:
        self._sent = self._sent or self._native
        if self._charset is not None:
            self._recording.count(chunk, self._charset)  # type: ignore[attr-defined]
        return chunk


class Body(_Watched):
    """A streamed body that tells its recording of its end, and of what it raises."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            chunk = next(self._iterator)
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            self._fail(error)
            raise
        return self._pass(chunk)


class AsyncBody(_Watched):
    """The same of a body that is an asynchronous iterator."""

    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            chunk = await self._iterator.__anext__()
        except StopAsyncIteration:
            self._end()
            raise
        except BaseException as error:
            self._fail(error)
            raise
        return self._pass(chunk)


def begin(instrumentation: Instrumentation, request: Any, *, served: bool = True) -> Recording | None:  # noqa: C901 - one call
    """Return the recording of a client's request: a new one, or that of a middleware around Django.

    Django sends request_started for the requests of clients, test clients included. A request without it
    was made by the application, for example for the preview of a page: it is not measured. Django also
    sends the signal where the application calls a handler with a copy of a request's environ or scope:
    the copy has the recording of the outer request, and is not measured either.

    Never raises: None if the request is not measured.

    Args:
        instrumentation: The recorder and the settings of the project.
        request: Django's request.
        served: False where no handler called the middleware: then every request is measured.
    """
    recorder = instrumentation.recorder
    try:
        meta = request.META
        started = meta.pop(STARTED, None)
        scope = None
        if started is None:  # under ASGI META is not the server's; or somebody made the request by hand
            scope = getattr(request, "scope", None)
            if scope is not None:
                started = scope.pop(STARTED, None)
            if served and started is None:
                return None
        outer = _around(meta, scope)
        if outer is not None:
            inner = outer.outer if isinstance(outer, ForwardingRecording) else outer
            if hasattr(inner, "request_id") and inner.status is None:
                return None
            inner.request_id = outer.request_id = id(request)
            if is_counted_by(outer, recorder):
                meta[RECORDING_KEY] = outer
                return outer  # type: ignore[no-any-return]  # it has what a recording has
        kind = RequestRecordingWithSizes if instrumentation.measures_sizes else RequestRecording
        recording = meta[RECORDING_KEY] = kind(recorder, instrumentation.start_key(request))
        recording.request_id = id(request)
        if outer is not None:
            recording.outer = outer
        if started is not None:
            recording.started = started
        if scope is not None:
            scope[RECORDING_KEY] = recording
            measurements.loop.start()
    except Exception:
        recorder.record_internal_error("start")
        return None
    if instrumentation.measures_start:
        try:
            recording.on_start(request)
        except Exception:
            recorder.record_internal_error("start")
    return recording


def end(recording: Recording, request: Any, response: Any, *, labels: bool = True) -> None:
    """Take from a response what a recording has to know, and have it finished with the body. Never raises.

    Args:
        recording: The request's.
        request: Django's request.
        response: Django's response.
        labels: Compute the extra labels too.
    """
    recorder = recording.recorder
    try:
        if isinstance(recording, RequestRecording):
            code = response.status_code
            recording.status = STATUS_TEXTS.get(code) or f"{code:d}"
            response._resource_closers.append(recording.finish)
            if recording.measures_sizes or response.streaming:
                recording.wrap_body(request, response)
    except Exception:
        recorder.record_internal_error("follow")
    try:
        match = request.resolver_match
        route = None if match is None else routes.known.get((match.route, match.func))
        _set_route(recording, routes.find(request, response) if route is None else route)
        if labels and recorder.extra_labels:
            recording.compute_extra_labels(request, response)
        if isinstance(recording, RequestRecording) and recording.outer is not None:
            forward(recording, recording.outer)
    except Exception:
        recorder.record_internal_error("annotate")


def abort(recording: Recording, request: Any, error: BaseException) -> None:
    """Finish the recording of a request that no response of Django's follows. Never raises."""
    try:
        _set_route(recording, routes.find(request, None))
    except Exception:
        recording.recorder.record_internal_error("annotate")
    if isinstance(recording, RequestRecording):
        recording.on_exception(error, asgi=hasattr(request, "scope"), sent=False)


def _set_route(recording: Recording, route: routes.Route | None) -> None:
    if recording.explicit_route is None:
        recording.route = None if route is None else route.template
    if route is not None and route.excluded:
        recording.measured = False


def _around(meta: dict[str, Any], scope: Any) -> Any:
    """Return the unfinished recording of a layer around Django, or None."""
    recording = meta.get(RECORDING_KEY)
    if recording is None:
        if scope is not None:
            recording = scope.get(RECORDING_KEY)
            if recording is not None and recording.recorder.mount_path is not None:
                recording = ForwardingRecording(recording)
        elif MeasuredProtocols.asgi:
            recording = find_outer(meta)
    return None if recording is None or recording.finished else recording


def _is_sent_as_file(request: Any, response: Any) -> bool:
    return getattr(response, "file_to_stream", None) is not None and bool(
        request.META.get("wsgi.file_wrapper")
    )


def _length(header: object) -> int | None:
    text = str(header)
    return int(text) if text.isascii() and text.isdigit() else None
