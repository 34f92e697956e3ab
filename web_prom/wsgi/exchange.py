"""One request between a WSGI server and an application: its status, its response body and its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import BuiltinFunctionType
from typing import Any, cast

from web_prom.metrics.body_sizes import BodySizeRecording, CountingBody, CountingInput
from web_prom.metrics.recording import Recording
from web_prom.types import Environ, ExcInfo, Headers, StartResponse

_NO_HEADER = ("", "")


class WSGIExchange(Recording):
    """The recording of a WSGI request, its ``start_response`` and its response body.

    The application gets :meth:`start_response`, which reads the status. The server gets this object as the
    response body. So one object per request is enough. The request is finished when the body ends, raises or
    is closed. The body ends as soon as it has returned as many bytes as ``Content-Length`` announces: test
    clients do not read on after that, and do not always call ``close()``.

    Attributes:
        headers_sent: Whether the server has got a part of the body, and so has sent the status.
        content_length: The Content-Length of the response, as text; empty if there is none.
        labels_environ: The environ from which the extra labels are to be computed. None if they are computed,
            if there are none, and if an adapter computes them.
    """

    headers_sent = False
    labels_environ: Environ | None = None
    content_length: str
    _start_response: StartResponse
    _write: Callable[[bytes], object]
    _body: Any

    def on_start(self, environ: Environ) -> None:
        """Take the measurements of sizes that some configurations need at the start. Never raises."""

    def start_response(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Start the response; read its status and its Content-Length, and resolve the route."""
        start_response = self._start_response
        self._write = (
            start_response(status, headers) if exc_info is None else start_response(status, headers, exc_info)
        )
        try:
            self.status = status[:3]
            name, self.content_length = headers[-1] if headers else _NO_HEADER
            if name != "Content-Length":  # frameworks add it last
                self.content_length = _find_content_length(headers)
            resolve_route = self.recorder.resolve_route
            resolve_route(self)
        except Exception:
            self.recorder.record_internal_error("annotate")
        return self.write

    def write(self, data: bytes) -> object:
        """Send a chunk of the body: the ``write`` that ``start_response`` returns."""
        self.headers_sent = True
        return self._write(data)

    def on_exception(self, error: BaseException) -> None:
        """Record an exception of the application or of its body.

        The server answers 500 if it has sent no headers yet. If the application has started no response, the
        route and the extra labels are not known before this call.
        """
        without_response = self.status is None
        self.add_final_exception(error, response_started=self.headers_sent)
        if without_response:
            self._annotate_without_response()

    def _annotate_without_response(self) -> None:
        """Resolve the route and compute the extra labels of a request without a response."""
        try:
            self.recorder.resolve_route(self)
            environ, self.labels_environ = self.labels_environ, None
            if environ is not None and not self.extra:
                self.compute_extra_labels(environ, None)
        except Exception:
            self.recorder.record_internal_error("annotate")

    def wrap_body(self, body: Any, environ: Environ) -> Iterable[bytes]:
        """Return a response body that finishes the request when it ends."""
        file_wrapper = environ.get("wsgi.file_wrapper")
        # uWSGI's file wrapper is a function. It returns the file unchanged, and uWSGI compares the file
        # later.
        if type(body) is file_wrapper or (
            type(file_wrapper) is BuiltinFunctionType and hasattr(body, "read")
        ):
            self._finish_with_file(body)
            return cast("Iterable[bytes]", body)
        self._body = body
        return BodyWithLen(self) if hasattr(body, "__len__") else self

    def _finish_with_file(self, body: Any) -> None:
        """Finish the request when the server closes a file wrapper, or now if that cannot be observed."""
        # The server uses sendfile only if it gets the same object that its file wrapper returned.
        # mod_wsgi's object allows no new attributes, but it calls close() of the file in it.
        if not (self._finish_on_close(body) or self._finish_on_close(getattr(body, "filelike", None))):
            self.finish()

    def _finish_on_close(self, closable: Any) -> bool:
        """Finish the request when an object is closed. Return False if its ``close`` cannot be replaced."""
        close = getattr(closable, "close", None)

        def close_and_finish() -> None:
            try:
                if close is not None:
                    close()
            finally:
                self.finish()

        try:
            closable.close = close_and_finish
        except AttributeError:
            return False
        return True

    def __iter__(self) -> Iterator[bytes]:
        content_length = self.content_length
        size = 0
        chunk = None
        try:
            for chunk in self._body:
                size += len(chunk)
                if str(size) == content_length:
                    self.finish()
                yield chunk
        except GeneratorExit:
            raise  # the server stopped reading; it calls close() next
        except BaseException as error:
            self.headers_sent = self.headers_sent or chunk is not None
            self.on_exception(error)
            self.finish()
            raise
        if not self.finished:
            self.finish()

    def close(self) -> None:
        """Close the application's body and finish the request."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._body = ()  # the body may refer to the environ, and the environ refers to this object
            if not self.finished:
                self.finish()


class WSGIExchangeWithSizes(BodySizeRecording, WSGIExchange):
    """A WSGI exchange that also measures body sizes and the time to the first byte."""

    def on_start(self, environ: Environ) -> None:
        """Take the measurements at the start, and count the bytes of the request body as they are read."""
        if self.recorder.config.request_size and "wsgi.input" in environ:
            environ["wsgi.input"] = CountingInput(environ["wsgi.input"], self)

    def write(self, data: bytes) -> object:
        """Count and send a chunk of the body."""
        self.add_response_bytes(len(data))
        return super().write(data)

    def wrap_body(self, body: Any, environ: Environ) -> Iterable[bytes]:
        """Return a response body that counts its bytes and finishes the request when it ends."""
        wrapped = super().wrap_body(body, environ)
        if wrapped is not body:
            self._body = CountingBody(body, self)
        else:
            self.set_file_size(self.content_length)
        return wrapped


class BodyWithLen:
    """An exchange as a response body with ``len()``, from which servers compute Content-Length."""

    __slots__ = ("_exchange", "_length", "close")

    def __init__(self, exchange: WSGIExchange) -> None:
        self._exchange = exchange
        self._length = len(exchange._body)
        self.close = exchange.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._exchange)

    def __len__(self) -> int:
        return self._length


def _find_content_length(headers: Headers) -> str:
    """Return the value of the header Content-Length, or an empty string."""
    for name, value in reversed(headers):
        if len(name) == 14 and name.lower() == "content-length":
            return str(value)
    return ""
