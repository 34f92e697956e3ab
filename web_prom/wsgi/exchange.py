"""One request at the edge between server and application: its status, its body, its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import BuiltinFunctionType
from typing import Any, cast

from web_prom.metrics.queue_time import observe_queue
from web_prom.metrics.recording import Recording
from web_prom.types import Environ

_NO_HEADER = ("", "")


class Exchange(Recording):
    """A request's recording at the edge between the server and the application.

    It stands in the way of ``start_response``, to read the status there, and it is the response body that
    the server gets: one object for each request in the place of three. The body finishes the request at
    its end, at ``close()``, or when it raises. Its end is where the announced length has been handed out:
    a test client that has all of it does not ask for more, and does not always close.

    Attributes:
        sent: Whether the server has a part of the body, and with it the status.
        length: The announced Content-Length, as text; empty where there is none.
    """

    sent = False
    length: str
    _start_response: Callable[..., Any]
    _body: Any

    def prepare(self, environ: Environ) -> None:
        """Measure what only some configurations ask for, as the request begins. Never raises."""
        observe_queue(self.recorder, environ.get("HTTP_X_REQUEST_START", ""))

    def start_response(self, status: str, headers: list[Any], exc_info: Any = None) -> Callable[[bytes], Any]:
        """Pass the start of the response on; keep its status and the length that it announces."""
        if exc_info is None:
            self._write = self._start_response(status, headers)
        else:
            self._write = self._start_response(status, headers, exc_info)
        try:
            self.status = status[:3]
            name, self.length = headers[-1] if headers else _NO_HEADER
            if name != "Content-Length":  # frameworks add it last
                self.length = _announced_length(headers)
            self.recorder.resolve_route(self)
        except Exception:
            self.recorder.record_internal_error("annotate")
        return self.write

    def write(self, data: bytes) -> Any:
        """Pass on a chunk that the application sends the old way."""
        self.sent = True
        return self._write(data)

    def abort(self, error: BaseException) -> None:
        """Note that the application or its body raised; before the first byte the server answers 500."""
        self.add_exception(error)
        if self.sent:
            self.body_failed = True
        else:
            self.status = "500"

    def follow(self, body: Any, environ: Environ) -> Iterable[bytes]:
        """Return a body that finishes the request with itself."""
        wrapper = environ.get("wsgi.file_wrapper")
        # uWSGI's is a function that returns the file itself, and remembers which it was.
        if type(body) is wrapper or (type(wrapper) is BuiltinFunctionType and hasattr(body, "read")):
            self._watch_file(body)
            return cast("Iterable[bytes]", body)
        self._body = body
        return SizedBody(self) if hasattr(body, "__len__") else self

    def _watch_file(self, body: Any) -> None:
        # The server sends such a body by itself (sendfile) if it gets the very object that it made.
        # mod_wsgi's takes no attribute, but closes the file in it by that one's close().
        if not (self._finishes_with(body) or self._finishes_with(getattr(body, "filelike", None))):
            self.finish()

    def _finishes_with(self, closed: Any) -> bool:
        """Finish the request when ``closed`` is closed; tell whether that can be seen."""
        close = getattr(closed, "close", None)

        def close_and_finish() -> None:
            try:
                if close is not None:
                    close()
            finally:
                self.finish()

        try:
            closed.close = close_and_finish
        except AttributeError:
            return False
        return True

    def __iter__(self) -> Iterator[bytes]:
        length = self.length
        size = 0
        chunk = None
        try:
            for chunk in self._body:
                size += len(chunk)
                if str(size) == length:
                    self.finish()
                yield chunk
        except GeneratorExit:
            raise  # the server lost interest; it calls close()
        except BaseException as error:
            self.sent = self.sent or chunk is not None
            self.abort(error)
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
            self._body = ()  # it may refer to the environ, and the environ refers to this
            if not self.finished:
                self.finish()


class SizedBody:
    """An exchange as a body whose length is known: servers ask for it, to tell Content-Length themselves."""

    __slots__ = ("_exchange", "_length", "close")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._length = len(exchange._body)
        self.close = exchange.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._exchange)

    def __len__(self) -> int:
        return self._length


def _announced_length(headers: list[Any]) -> str:
    """Return the value of the header Content-Length, or nothing."""
    for name, value in reversed(headers):
        if len(name) == 14 and name.lower() == "content-length":
            return str(value)
    return ""
