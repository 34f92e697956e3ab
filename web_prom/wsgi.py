"""Measure any WSGI application: the middleware, at the edge between server and application."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any, cast

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.config import Config
from web_prom.exposition import Exposition, WSGIApp, as_wsgi
from web_prom.recorder import KEY, Recorder, Recording

# A queue time beyond this is a clock or a header that lies.
MAX_QUEUE_SECONDS = 3600.0

_NO_HEADER = ("", "")

Environ = dict[str, Any]
Annotate = Callable[[Recording], None]


def set_route(environ: Environ, template: str) -> None:
    """Tell the route template of a request that :class:`PrometheusMiddleware` measures.

    For applications without an adapter; at any time until the response body ends. Without it the route
    is ``_unmatched``: the path itself is never a label. Does nothing where nothing measures.

    Args:
        environ: The request's WSGI environ.
        template: Such as ``/users/<id>``; one of a list that no client can grow.
    """
    recording = environ.get(KEY)
    if recording is not None:
        recording.route = template


class PrometheusMiddleware:
    """Measure a WSGI application and answer scrapes.

    ::

        application = PrometheusMiddleware(application)

    The application tells its route template with :func:`set_route`. An application that two of these
    wrap is measured by the outer one alone. Safe to share between threads and processes; there is no
    state on it for a request.

    Args:
        app: The WSGI application.
        registry: Where the metrics are.
        config: Settings that are loaded already, instead of ``options``.
        annotate: Called with the recording as the response starts, in the context of the application's
            call; sets the route. Framework adapters pass their own.
        owner: The application's name, for messages.
        **options: The settings of README's table by their names in small letters, without the prefix.
            They win over the environment. Without an adapter, extra labels are computed from the environ
            and the pair of status line and headers.

    Raises:
        ConfigError: A setting is unknown or not allowed.
        ConflictError: The registry is used by an application with other settings.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR cannot be used.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        registry: CollectorRegistry = REGISTRY,
        config: Config | None = None,
        annotate: Annotate | None = None,
        owner: str = "a WSGI application",
        **options: object,
    ) -> None:
        if config is not None and options:
            raise TypeError(f"settings are in config or in options, not in both (not {', '.join(options)})")
        config = config or Config.load(options, environ=os.environ)
        self._app = app
        # PEP 3333: a path is bytes, each read as a character. An empty one is an application's root.
        self._path = config.path.encode().decode("latin-1") or None
        self._enabled = config.enabled
        if self._enabled:
            self.recorder = Recorder(config, registry, owner=owner, annotate=annotate)
            self._metrics = as_wsgi(Exposition(registry, config))
            sized = config.request_size or config.response_size or config.first_byte
            self._exchange = MeasuredExchange if sized else Exchange
            self._prepares = sized or config.queue_time
            # Without an adapter nobody else knows a request and its response.
            self._labels = bool(config.extra_labels) and annotate is None

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        if not self._enabled:
            return self._app(environ, start_response)
        if environ.get("PATH_INFO", "") == self._path:
            return self._metrics(environ, start_response)
        if KEY in environ and not environ[KEY].finished:
            return self._app(environ, self._telling(environ[KEY], start_response))
        try:
            exchange = environ[KEY] = self._exchange(self.recorder, environ.get("REQUEST_METHOD", ""))
        except Exception:
            self.recorder.failed("start")
            return self._app(environ, start_response)
        exchange._start_response = start_response
        exchange.length = ""
        if self._prepares:
            exchange.prepare(environ)
        started = self._labelling(exchange, environ) if self._labels else exchange.start_response
        try:
            body = self._app(environ, started)
        except BaseException as error:
            exchange.abort(error)
            exchange.finish()
            raise
        try:
            return exchange.follow(body, environ)
        except Exception:
            self.recorder.failed("follow")
            exchange.finish()
            return body

    def _labelling(self, exchange: Exchange, environ: Environ) -> Callable[..., Any]:
        def started(status: str, headers: list[Any], *exc_info: Any) -> Any:
            write = exchange.start_response(status, headers, *exc_info)
            if not exchange.extra:
                exchange.annotate(environ, (status, headers))
            return write

        return started

    def _telling(self, outer: Recording, start_response: Callable[..., Any]) -> Callable[..., Any]:
        """Tell the recording of a middleware around us what our adapter knows."""

        def started(*args: Any) -> Any:
            try:
                self.recorder.annotate(outer)
            except Exception:
                self.recorder.failed("annotate")
            return start_response(*args)

        return started


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
        try:
            if self.recorder.queue is not None:
                waited = queue_seconds(environ.get("HTTP_X_REQUEST_START", ""), time.time())
                if waited is not None:
                    self.recorder.queue.observe(waited)
        except Exception:
            self.recorder.failed("queue")

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
            self.recorder.annotate(self)
        except Exception:
            self.recorder.failed("annotate")
        return self.write

    def write(self, data: bytes) -> Any:
        """Pass on a chunk that the application sends the old way."""
        self.sent = True
        return self._write(data)

    def abort(self, error: BaseException) -> None:
        """Note that the application or its body raised; before the first byte the server answers 500."""
        self.note(error)
        if self.sent:
            self.broken = True
        else:
            self.status = "500"

    def follow(self, body: Any, environ: Environ) -> Iterable[bytes]:
        """Return a body that finishes the request with itself."""
        wrapper = environ.get("wsgi.file_wrapper")
        if type(body) is wrapper:
            self._watch_file(body)
            return cast("Iterable[bytes]", body)
        self._body = body
        return SizedBody(self) if hasattr(body, "__len__") else self

    def _watch_file(self, body: Any) -> None:
        # The server sends such a body by itself (sendfile) if it gets the very object that it made.
        close = getattr(body, "close", None)

        def close_and_finish() -> None:
            try:
                if close is not None:
                    close()
            finally:
                self.finish()

        try:
            body.close = close_and_finish
        except AttributeError:
            self.finish()

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


class MeasuredExchange(Exchange):
    """An exchange that also measures bytes and the time to the first of them."""

    request_size = 0
    response_size: int | None = 0
    first_byte: float | None = None

    def prepare(self, environ: Environ) -> None:
        """Also count the bytes of the request body."""
        super().prepare(environ)
        if self.recorder.config.request_size and "wsgi.input" in environ:
            environ["wsgi.input"] = CountedInput(environ["wsgi.input"], self)

    def write(self, data: bytes) -> Any:
        """Also count the chunk."""
        self.count(data)
        return super().write(data)

    def count(self, chunk: bytes) -> None:
        """Count a chunk of the response, and take the time of the first."""
        if self.first_byte is None and chunk:
            self.first_byte = perf_counter() - self.started
        self.response_size = (self.response_size or 0) + len(chunk)

    def follow(self, body: Any, environ: Environ) -> Iterable[bytes]:
        """Return a body that also counts its chunks."""
        followed = super().follow(body, environ)
        if followed is not body:
            self._body = CountedBody(body, self)
        else:
            self.first_byte = perf_counter() - self.started
            self.response_size = int(self.length) if self.length.isdecimal() else None
        return followed


class CountedBody:
    """Counts the chunks of a response body as they pass."""

    def __init__(self, body: Any, exchange: MeasuredExchange) -> None:
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


def _announced_length(headers: list[Any]) -> str:
    """Return the value of the header Content-Length, or nothing."""
    for name, value in reversed(headers):
        if len(name) == 14 and name.lower() == "content-length":
            return str(value)
    return ""


def queue_seconds(header: str, now: float) -> float | None:
    """Return the seconds since a proxy's ``X-Request-Start``, or None if it tells nothing sensible.

    nginx and Apache write ``t=`` and seconds or microseconds, Heroku milliseconds; which unit it is
    shows in the size of the number.

    Args:
        header: ``t=1700000000.123``, ``1700000000123`` or ``t=1700000000123456``.
        now: The time, in seconds since the epoch.
    """
    try:
        began = float(header.strip().removeprefix("t="))
    except ValueError:
        return None
    for unit in (1.0, 1e3, 1e6):
        waited = now - began / unit
        if 0 <= waited <= MAX_QUEUE_SECONDS:
            return waited
    return None
