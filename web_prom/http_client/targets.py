"""Who measures a request: the applications that want all requests of the process, and one that wants it."""

from __future__ import annotations

import logging
import os
from threading import RLock
from typing import Any, ClassVar
from weakref import WeakKeyDictionary, ref

from prometheus_client import CollectorRegistry

from web_prom.config.settings import Config
from web_prom.http_client.recorder import CallRecorder
from web_prom.metrics.families import existing_families
from web_prom.metrics.recorder import Recorder
from web_prom.multiprocess.writing.activation import is_shared
from web_prom.posix import at_fork
from web_prom.upstream.registry import check_registry

logger = logging.getLogger("web_prom")

Targets = tuple["ref[CallRecorder]", ...]
"""Weak references, because an application that is dropped is measured no longer."""

ATTRIBUTE = "_web_prom_measurement"
"""The attribute of a session that is measured on its own: a :class:`Measurement`."""

_lock = RLock()
at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


class ProcessTargets:
    """The targets of all requests of this process.

    Attributes:
        targets: The recorders of the applications with the setting ``PROM_HTTP_CLIENT``. Of those that write
            to the same values, only the first one.
    """

    targets: Targets = ()
    _candidates: ClassVar[list[ref[CallRecorder]]] = []

    @classmethod
    def add(cls, recorder: CallRecorder) -> None:
        """Record all requests of this process with a recorder, until it is dropped."""
        with _lock:
            cls._candidates.append(ref(recorder, cls._remove))
            cls.choose()

    @classmethod
    def discard(cls, recorder: CallRecorder) -> None:
        """Record no further requests with a recorder."""
        with _lock:
            cls._candidates[:] = [each for each in cls._candidates if each() is not recorder]
            cls.choose()

    @classmethod
    def choose(cls) -> None:
        """Choose the targets again: a recorder was added or dropped, or values became shared."""
        with _lock:
            chosen: list[tuple[ref[CallRecorder], CallRecorder]] = []
            for reference in list(cls._candidates):
                recorder = reference()
                if recorder is not None and not any(_share(recorder, other) for _, other in chosen):
                    chosen.append((reference, recorder))
            cls.targets = tuple(reference for reference, _ in chosen)

    @classmethod
    def _remove(cls, reference: ref[CallRecorder]) -> None:
        # The garbage collector may call this at any time, also while this thread holds the lock.
        with _lock:
            if reference in cls._candidates:
                cls._candidates.remove(reference)
            cls.choose()


class ProcessCallRecorder(CallRecorder):
    """The recorder of an application that wants all requests of the process."""

    def rebind_values(self) -> None:
        """Drop all children and writers: the metrics or the values of the registry were replaced."""
        super().rebind_values()
        ProcessTargets.choose()


class Measurement:
    """The measurement of single sessions in one registry. Sessions share it.

    Its recorder is that of an application on the registry. If none exists when the first request ends, the
    settings are those of the environment. A copy of a session shares it; an unpickled session has none.

    Args:
        registry: The registry of the family.

    Attributes:
        has_failed: Whether the log says already that there is no recorder.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.has_failed = False
        self._recorder: CallRecorder | None = None

    def recorder(self) -> CallRecorder:
        """Return the recorder. Safe from any thread.

        Raises:
            WebPromError: A setting in the environment is not allowed, or the registry refuses a family.
        """
        if self._recorder is None:
            with _lock:
                self._recorder = self._recorder or CallRecorder(self._application())
        return self._recorder

    def _application(self) -> Recorder:
        families = existing_families(self.registry)
        for user in list(families.recorders) if families else ():
            if isinstance(user, Recorder):
                return user
        return Recorder(Config.load(environ=os.environ), self.registry, owner="http_client.instrument()")

    def __copy__(self) -> Measurement:
        return self

    def __deepcopy__(self, _memo: object) -> Measurement:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _no_measurement, ()


def _no_measurement() -> None:
    """Return what an unpickled session has in place of its measurement."""


_measurements: WeakKeyDictionary[CollectorRegistry, ref[Measurement]] = WeakKeyDictionary()


def measurement_in(registry: CollectorRegistry) -> Measurement:
    """Return the measurement of single sessions in a registry. Sessions keep it alive.

    Raises:
        TypeError: The object is not a registry.
    """
    check_registry(registry, "collect", "register")
    with _lock:
        reference = _measurements.get(registry)
        found = reference() if reference else None
        if found is None:
            found = Measurement(registry)
            _measurements[registry] = ref(found)
        return found


def targets_of(session: Any) -> Targets:
    """Return the targets of the requests of a session, a client or a pool manager. Never raises."""
    targets = ProcessTargets.targets
    measurement: Measurement | None = session.__dict__.get(ATTRIBUTE)
    return targets if measurement is None else _with_measurement(targets, measurement)


def _with_measurement(targets: Targets, measurement: Measurement) -> Targets:
    try:
        own = measurement.recorder()
    except Exception:
        if not measurement.has_failed:
            measurement.has_failed = True
            logger.exception("the requests of instrumented sessions are not measured")
        return targets
    for reference in targets:
        recorder = reference()
        if recorder is not None and _share(recorder, own):
            return targets
    return (*targets, ref(own))


def record(targets: Targets, method: Any, host: Any, outcome: int | str, seconds: float) -> None:
    """Observe one request with each target. Never raises."""
    for reference in targets:
        recorder = reference()
        if recorder is not None:
            recorder.record(method, host, outcome, seconds)


def count_error(targets: Targets) -> None:
    """Count the current exception as an error of the instrumentation. Never raises."""
    for reference in targets:
        recorder = reference()
        if recorder is not None:
            recorder.recorder.record_internal_error("http_client")


def _share(one: CallRecorder, other: CallRecorder) -> bool:
    """Return whether a request that both record would be counted twice."""
    if one.families is other.families:
        return True
    return is_shared() and one.families.config.namespace == other.families.config.namespace
