"""The recorder of cache operations of one application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from prometheus_client import Counter, Histogram

from web_prom.cache.conventions import DURATION, DURATION_BUCKETS, OPERATIONS, Result
from web_prom.metrics.limited_metric import LimitedMetric
from web_prom.metrics.operation_recorder import OperationRecorder
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.writers import make_writer
from web_prom.upstream.values import values_of

_BOUNDED = ("operation", "result")

WriterKey = tuple[str, str, str]
"""The name of a cache, an operation and its result."""

Writers = dict[WriterKey, Callable[[float, object], object]]
"""Functions that count an operation and observe its duration. They ignore the second argument."""


FoundAllWriters = dict[tuple[str, str], Callable[[int, float], object]]
"""Functions that count the keys of an operation that found all of them, and observe its duration."""


class CacheRecorder(OperationRecorder):
    """Writes the operations of the caches of one application.

    Safe to share between threads. After a fork the child uses the same object.

    Args:
        recorder: The recorder of the application: its registry, its constant labels, its errors.
        backend_of: Returns the class of a cache by its name. Only some namings have a label for it.

    Attributes:
        writers: The functions that write an operation, by name of the cache, operation and result. It is
            always the same object.
        found_all_writers: The functions that write an operation on many keys that found all of them, by name
            of the cache and operation. It is always the same object.
    """

    def __init__(self, recorder: Recorder, backend_of: Callable[[str], str] = str) -> None:
        self._backend_of = backend_of
        self.writers: Writers = {}
        self.found_all_writers: FoundAllWriters = {}
        self._key_writers: dict[WriterKey, Callable[..., object]] = {}
        super().__init__(recorder)

    def drop_writers(self) -> None:
        """Drop the writers. The next operations look them up again."""
        self.writers.clear()
        self.found_all_writers.clear()
        self._key_writers.clear()

    def observe(
        self, cache: str, operation: str, result: Result, seconds: float, *, backend: str = ""
    ) -> None:
        """Count an operation and observe its duration. Never raises.

        Args:
            cache: The name of the cache.
            operation: The operation.
            result: Its result.
            seconds: Its duration.
            backend: The class of the cache, with its module. Some namings have a label for it.
        """
        try:
            key = (cache, operation, result)
            write = self.writers.get(key)
            if write is None:
                counter, may_keep = self._child(self._counter_family, key, backend)
                histogram, _ = self._child(self._histogram_family, key, backend)
                write = make_writer(counter, histogram, DURATION_BUCKETS, ()).write
                if may_keep:
                    self.writers[key] = write
            write(seconds, None)
        except Exception:
            self.record_internal_error()

    def observe_keys(
        self, cache: str, operation: str, hits: int, misses: int, seconds: float, *, backend: str = ""
    ) -> None:
        """Count the hits and misses of an operation on many keys, and observe one duration. Never raises."""
        try:
            writers = self._key_writers
            if hits > 0:
                key = cache, operation, "hit"
                (writers.get(key) or self._key_writer(key, backend))(hits)
            if misses > 0:
                key = cache, operation, "miss"
                (writers.get(key) or self._key_writer(key, backend))(misses)
            key = cache, operation, "ok"
            (writers.get(key) or self._key_writer(key, backend))(seconds, None)
            if hits > 0:
                self._keep_found_all_writer(cache, operation)
        except Exception:
            self.record_internal_error()

    def record_internal_error(self) -> None:
        """Count an error of the measurement itself. Never raises."""
        self.recorder.record_internal_error("cache")

    @property
    def _counter_family(self) -> LimitedMetric:
        return self.families.limited_family(Counter, OPERATIONS, bounded=_BOUNDED)

    @property
    def _histogram_family(self) -> LimitedMetric:
        return self.families.limited_family(Histogram, DURATION, bounded=_BOUNDED, buckets=DURATION_BUCKETS)

    def _key_writer(self, key: WriterKey, backend: str) -> Callable[..., object]:
        if key[2] == "ok":
            child, may_keep = self._child(self._histogram_family, key, backend)
            write: Callable[..., object] = make_writer(None, child, DURATION_BUCKETS, ()).write
        else:
            child, may_keep = self._child(self._counter_family, key, backend)
            values = values_of(child)
            write = child.inc if values is None else values[0].inc
        if may_keep:
            self._key_writers[key] = write
        return write

    def _keep_found_all_writer(self, cache: str, operation: str) -> None:
        """Keep one function for the hits and the duration, if both writers may be kept."""
        count = self._key_writers.get((cache, operation, "hit"))
        observe = self._key_writers.get((cache, operation, "ok"))
        if count is None or observe is None:
            return

        def write(hits: int, seconds: float) -> None:
            count(hits)
            observe(seconds, None)

        self.found_all_writers[cache, operation] = write

    def _child(self, family: LimitedMetric, key: WriterKey, backend: str) -> tuple[Any, bool]:
        """Return a child, and whether it may be kept under the key."""
        attributes = dict(zip(("cache", *_BOUNDED), key, strict=True), backend=backend)
        attributes["backend"] = self._backend_of(key[0])
        child, overflow = self.recorder.child_without_extra(family, attributes)
        return child, not overflow


class RecorderSource:
    """The recorder of the operations of some caches. It refers weakly to the recorder.

    So a cache that belongs to an application does not keep the application alive. Safe to share between
    threads.

    Args:
        recorder: The recorder. Its application keeps it alive.

    Attributes:
        writers, found_all_writers: Those of the recorder; empty if there is none.
    """

    def __init__(self, recorder: CacheRecorder) -> None:
        self._reference = ref(recorder)
        self.writers = recorder.writers
        self.found_all_writers = recorder.found_all_writers

    def recorder(self) -> CacheRecorder | None:
        """Return the recorder, or None."""
        return self._reference()


class LazyRecorderSource(RecorderSource):
    """A recorder that is found at the first operation.

    Args:
        find: Returns the recorder, or None if operations are not measured yet.
    """

    def __init__(self, find: Callable[[], CacheRecorder | None]) -> None:
        self._find = find
        self.reset()

    def reset(self) -> None:
        """Find the recorder again at the next operation."""
        self._recorder: CacheRecorder | None = None
        self.writers: Writers = {}
        self.found_all_writers: FoundAllWriters = {}

    def recorder(self) -> CacheRecorder | None:
        """Return the recorder, or None."""
        if self._recorder is None:
            found = self._find()
            if found is not None:
                self._recorder = found
                self.writers, self.found_all_writers = found.writers, found.found_all_writers
        return self._recorder


class Target:
    """Writes the operations of one cache.

    Args:
        name: The name of the cache.
        source: Finds the recorder.
        backend: The class of the cache, with its module.

    Attributes:
        name, source, backend: As given.
        threads: The operation that each thread runs now: a :class:`web_prom.cache.running.Call`, or this
            object for an operation that needs none.
    """

    __slots__ = ("backend", "name", "source", "threads")

    def __init__(self, name: str, source: RecorderSource, backend: str) -> None:
        self.name = name
        self.source = source
        self.backend = backend
        self.threads: dict[int, object] = {}

    def observe(self, operation: str, result: Result, seconds: float) -> None:
        """Count an operation and observe its duration, if operations are measured yet. Never raises."""
        recorder = self.source.recorder()
        if recorder is not None:
            recorder.observe(self.name, operation, result, seconds, backend=self.backend)

    def observe_keys(self, operation: str, hits: int, misses: int, seconds: float) -> None:
        """Count hits and misses, and observe one duration, if operations are measured yet. Never raises."""
        recorder = self.source.recorder()
        if recorder is not None:
            recorder.observe_keys(self.name, operation, hits, misses, seconds, backend=self.backend)

    def record_internal_error(self) -> None:
        """Count an error of the measurement itself. Never raises."""
        recorder = self.source.recorder()
        if recorder is not None:
            recorder.record_internal_error()
