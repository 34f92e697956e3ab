"""The recording of one request, from its start to its end. It observes the request exactly once."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from web_prom.metrics.labels import CLIENT_CLOSED_REQUEST, EMPTY, INTERNAL_SERVER_ERROR
from web_prom.metrics.recorder import Recorder, WriterKey
from web_prom.metrics.request_start import RequestStart
from web_prom.metrics.uncopied import Uncopied

RECORDING_KEY = "web_prom.recording"
"""The key of a request's recording in its WSGI environ or ASGI scope."""


class Recording(Uncopied):
    """The state of one request in progress.

    It finishes exactly once: at the end of the body or at ``close()``. If no code finishes it, it is put
    into a queue when it is deleted, and the next request or scrape of the process finishes it. One thread at
    a time uses it.

    Attributes:
        recorder: The recorder of the application.
        request_start: The attributes that all requests with the same start share.
        route: The route template, or None if no route matched.
        explicit_route: The route that the application set itself. The framework's route does not replace it.
        status: The status that the client gets, as text of three digits. None if no response has started.
        extra: The values of the extra labels.
        outer: The recording of the same request in an outer layer with another registry, or None.
        measured: Whether the request is counted and timed. False for an excluded view.
        body_failed: Whether the response body failed after the response had started.
        finished: Whether the request was observed.
        in_progress: Whether the gauge of requests in progress contains the request.
        started: ``perf_counter()`` when the application was called, in seconds.
        request_size, response_size: Sizes of the bodies in bytes, if they are measured.
        first_byte: Seconds to the first byte, if it is measured.
        request_id: ``id()`` of the framework's request object. Only Django's adapter sets it.

    Args:
        recorder: The recorder of the application.
        start_key: The key of the request's start in ``request_starts`` of the recorder.
        started: ``perf_counter()`` when the application was called, if that is not now.
    """

    # The interpreter specialises neither a store to a name that the class has too, nor a load of a default
    # on the class. So only an attribute that few requests set or read has a default here. With slots the same
    # takes half as long again.
    body_failed = False
    request_id: int

    def __init__(self, recorder: Recorder, start_key: Any, started: float | None = None) -> None:
        self.finished = True  # nothing must be undone before the gauge is incremented
        self.recorder = recorder
        request_start: RequestStart = recorder.request_starts[start_key]
        self.request_start = request_start
        self.route: str | None = None
        self.explicit_route: str | None = None
        self.status: str | None = None
        self.extra: tuple[str, ...] = ()
        self.outer: Any = None
        self.measured = True
        self._errors: list[BaseException] | None = None
        self.in_progress = True
        if recorder.abandoned:
            recorder.finish_abandoned()
        # A function in an attribute is loaded first and then called, here and in other places of a request:
        # Python 3.11 specialises that, and not a call as a method.
        add_at_start = request_start.add_at_start
        add_at_start(1)
        self.finished = False
        self.started = perf_counter() if started is None else started

    def add_exception(self, error: BaseException) -> None:
        """Keep an exception. It is counted at the end if the request ends in a server error."""
        if self._errors is None:
            self._errors = [error]
        elif all(error is not known for known in self._errors):
            self._errors.append(error)

    def add_final_exception(
        self, error: BaseException, *, response_started: bool, client_disconnected: bool = False
    ) -> None:
        """Keep an exception after which the application sends nothing more, and set the status.

        Args:
            error: The exception that the application or its response body raised.
            response_started: Whether the client has the status. Otherwise the server answers with 500.
            client_disconnected: Whether the exception says that the client is disconnected. Then it is not an
                error of the application.
        """
        if client_disconnected:
            if not response_started:
                self.status = CLIENT_CLOSED_REQUEST
            return
        self.add_exception(error)
        if response_started:
            self.body_failed = True
        else:
            self.status = INTERNAL_SERVER_ERROR

    @property
    def last_error(self) -> BaseException | None:
        """The exception that was added last, or None."""
        return self._errors[-1] if self._errors else None

    def compute_extra_labels(
        self,
        request: Any,
        response: Any,
        recorder: Recorder | None = None,
        reraise: tuple[type[Exception], ...] = (),
    ) -> None:
        """Compute the extra labels from a request and its response.

        Args:
            request: The request of the framework, the environ or the scope.
            response: The response, or None if there is none.
            recorder: The recorder of the layer that has this request; None: that of this recording. Its
                functions are called, because those of an outer layer may take another kind of request.
            reraise: Exceptions of the functions that are raised. No other exception is raised.
        """
        functions = self.recorder.extra_labels
        if not functions:
            return
        if recorder is None or recorder is self.recorder:
            self.extra = self.recorder.compute_extra_values(request, response, reraise)
        else:
            values = recorder.compute_extra_values(request, response, reraise)
            found = dict(zip((name for name, _ in recorder.extra_labels), values, strict=True))
            self.extra = tuple(found.get(name, EMPTY) for name, _ in functions)

    def finish(self, ended: float | None = None) -> None:
        """Observe the request, once. Further calls do nothing. Never raises.

        Args:
            ended: ``perf_counter()`` at the end of the request, if that is not now.
        """
        if self.finished:
            return
        self.finished = True
        recorder = self.recorder
        errors = self._errors
        write = None
        try:
            request_start = self.request_start
            try:
                if self.measured:
                    duration = (perf_counter() if ended is None else ended) - self.started
                    key: WriterKey = (request_start, self.route, self.status, self.extra)
                    if errors is not None and recorder.naming.has_error_label and self._is_server_error:
                        key = (*key, type(errors[-1]).__qualname__)
                    try:
                        write = recorder.writers[key]
                    except KeyError:
                        write = recorder.writer_for(key)
                    if write is not None:
                        write(duration, self)
            finally:
                if self.in_progress:  # not if the writer has decremented the gauge
                    add_at_end = request_start.add_at_end
                    add_at_end(-1)
        except Exception:
            recorder.record_internal_error("finish")
        if errors is not None:
            self._count_exceptions(counted=write is not None)

    def count_exception_after_finish(self, error: BaseException) -> None:
        """Count an exception that was raised after the request had finished with a server error."""
        if self.measured and self.status is not None and self.status >= "500":
            key = (self.request_start, self.route, self.status, self.extra)
            if (self.recorder.writers.get(key) or self.recorder.writer_for(key)) is not None:
                self.recorder.count_exception(error, key)

    @property
    def _is_server_error(self) -> bool:
        """Whether the request ended in a server error, without a response or with an incomplete body."""
        return self.body_failed or self.status is None or self.status >= "500"

    def _count_exceptions(self, *, counted: bool) -> None:
        try:
            if counted and (self._is_server_error or self.recorder.naming.counts_handled_exceptions):
                key = (self.request_start, self.route, self.status, self.extra)
                for error in self._errors or ():
                    self.recorder.count_exception(error, key)
        except Exception:
            self.recorder.record_internal_error("finish")
        finally:
            self._errors = None  # an exception refers to its frames, and these refer to this object

    def __del__(self) -> None:
        # The garbage collector may call this while the same thread holds the lock of a value. So the
        # request is only put into a queue here.
        try:
            if not self.finished:
                self.recorder.abandoned.append((self, perf_counter()))
        except AttributeError:  # `__init__` did not run
            pass
