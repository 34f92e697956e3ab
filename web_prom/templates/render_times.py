"""The histogram of render times, and the measurement of one rendering."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from contextvars import ContextVar, Token
from time import perf_counter
from typing import Any

from prometheus_client import Histogram

from web_prom.metrics.conventions import MetricSpec, same_names
from web_prom.metrics.labels import UNNAMED_TEMPLATE
from web_prom.metrics.operation_recorder import OperationRecorder, Write
from web_prom.metrics.recorder import Recorder

RENDER_TIME = MetricSpec(
    name="template_render_duration_seconds",
    documentation="Seconds that a template was rendered, with the templates that it includes or extends.",
    labels=same_names("template", "engine"),
)

RENDER_TIME_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""In seconds. A template that takes 5 s is too slow in every application."""

_END: Any = object()

_is_rendering: ContextVar[bool] = ContextVar("web_prom_is_rendering", default=False)

Chunks = Generator[str, None, None]
AsyncChunks = AsyncGenerator[str, None]


class RenderTimes(OperationRecorder):
    """Measures the templates of one application. Safe to share between threads, and to use after a fork.

    Only the outermost rendering is measured: a template that is included, extended or rendered by code of
    another template is part of it. The families refer to this object weakly, so the adapter must keep it.

    Args:
        recorder: The recorder of the application.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._abandoned: deque[tuple[str, str, float]] = deque()
        super().__init__(recorder)

    def drop_writers(self) -> None:
        """Drop the writers of the histogram. The next renderings look them up again."""
        self._writers: dict[tuple[str, str], Write] = {}

    def on_scrape(self) -> None:
        """Observe the streams that were closed before their end."""
        while True:
            try:
                closed = self._abandoned.popleft()
            except IndexError:  # empty; another thread may have taken the last one
                return
            self.observe(*closed)

    def observe(self, engine: str, name: str, seconds: float) -> None:
        """Observe one rendering. Never raises.

        Args:
            engine: The name of the template engine.
            name: The name of the template, or :data:`UNNAMED_TEMPLATE`.
            seconds: The duration.
        """
        try:
            if self._abandoned:
                self.on_scrape()
            write = self._writers.get((engine, name))
            if write is None:
                write = self._writer_for(engine, name)
            write(seconds, None)
        except Exception:
            self.recorder.record_internal_error("templates")

    def measure(self, engine: str, name: object) -> Rendering:
        """Return a context in which a template is rendered.

        Args:
            engine: The name of the template engine.
            name: The name of the template; None if it was created from a string.
        """
        return Rendering(self, engine, UNNAMED_TEMPLATE if name is None else str(name))

    def stream(self, engine: str, name: object, chunks: Chunks) -> Chunks:
        """Yield the parts of a template that is rendered in parts. The time between them is not measured.

        Args:
            engine: The name of the template engine.
            name: The name of the template; None if it was created from a string.
            chunks: The parts.
        """
        rendering = self.measure(engine, name)
        rendering.in_parts = True
        try:
            while True:
                with rendering:
                    chunk = next(chunks, _END)
                if chunk is _END:
                    break
                yield chunk
            rendering.finish()
        except GeneratorExit:
            rendering.abandon()
            raise
        except BaseException:
            rendering.finish()
            raise
        finally:
            chunks.close()

    async def stream_async(self, engine: str, name: object, chunks: AsyncChunks) -> AsyncChunks:
        """Yield the parts of a template that is rendered in parts by coroutines, as :meth:`stream`."""
        rendering = self.measure(engine, name)
        rendering.in_parts = True
        try:
            while True:
                with rendering:
                    chunk = await anext(chunks, _END)
                if chunk is _END:
                    break
                yield chunk
            rendering.finish()
        except GeneratorExit:
            rendering.abandon()
            raise
        except BaseException:
            rendering.finish()
            raise
        finally:
            await chunks.aclose()

    def abandon(self, engine: str, name: str, seconds: float) -> None:
        """Observe a rendering later, at the next rendering or scrape. Safe in the garbage collector."""
        self._abandoned.append((engine, name, seconds))

    def _writer_for(self, engine: str, name: str) -> Write:
        family = self.families.limited_family(
            Histogram, RENDER_TIME, bounded=("engine",), buckets=RENDER_TIME_BUCKETS
        )
        attributes = {"template": name, "engine": engine}
        write, may_be_kept = self.histogram_write(family, attributes, RENDER_TIME_BUCKETS)
        if may_be_kept:
            self._writers[engine, name] = write
        return write


class Rendering:
    """One rendering, as a context. It measures nothing inside of another rendering.

    Args:
        times: Where the rendering is observed.
        engine, name: The labels.

    Attributes:
        in_parts: Whether the context is entered for each part. Then :meth:`finish` observes them together.
    """

    __slots__ = ("_engine", "_name", "_parts", "_seconds", "_started", "_times", "_token", "in_parts")

    def __init__(self, times: RenderTimes, engine: str, name: str) -> None:
        self.in_parts = False
        self._times = times
        self._engine = engine
        self._name = name
        self._parts = 0
        self._seconds = 0.0
        self._started = 0.0
        self._token: Token[bool] | None = None

    def __enter__(self) -> None:
        if not _is_rendering.get():
            self._token = _is_rendering.set(True)
            self._started = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._token is None:
            return
        self._seconds += perf_counter() - self._started
        self._parts += 1
        token, self._token = self._token, None
        with suppress(ValueError):  # the garbage collector closes a coroutine in another context
            _is_rendering.reset(token)
        if kind is GeneratorExit:
            self.abandon()
        elif not self.in_parts:
            self.finish()

    def finish(self) -> None:
        """Observe the rendering, if a part of it was measured."""
        if self._parts:
            self._parts = 0
            self._times.observe(self._engine, self._name, self._seconds)

    def abandon(self) -> None:
        """Observe the rendering later. The garbage collector may have closed it while a value is written."""
        if self._parts:
            self._parts = 0
            self._times.abandon(self._engine, self._name, self._seconds)
