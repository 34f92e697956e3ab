"""The connection pools of one application: gauges that are read before a scrape, counters, durations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from prometheus_client import Counter, Gauge, Histogram

from web_prom.database import conventions
from web_prom.database.conventions import DURATION_BUCKETS
from web_prom.metrics.conventions import MetricSpec
from web_prom.metrics.labels import sanitize_label_value
from web_prom.metrics.operation_recorder import OperationRecorder

if TYPE_CHECKING:
    from web_prom.metrics.operation_recorder import Write


class PoolState(NamedTuple):
    """The connections of a pool now. A number that is not known is None.

    Attributes:
        used: Connections that are checked out.
        idle: Open connections in the pool.
        max: Connections that the pool may have.
        pending: Requests that wait for a connection.
    """

    used: int | None = None
    idle: int | None = None
    max: int | None = None
    pending: int | None = None


ReadState = Callable[[], PoolState | None]
"""Returns the state of a pool, or None if the pool does not exist any more."""

_pools: WeakSet[Pool] = WeakSet()


class Pool:
    """Records one connection pool. Safe to share between threads. No method raises.

    Several pools with one name are added up. In many workers, gauges are summed over the live workers.

    Args:
        recorder: The database recorder of the application.
        name: The pool's name.
        system: The name of the database system. Only some namings have a label for it.
    """

    def __init__(self, recorder: OperationRecorder, name: str, system: str = "") -> None:
        self._recorder = recorder
        self._labels = {"db_client_connection_pool_name": sanitize_label_value(name)}
        self._attributes = {**self._labels, "db_system_name": system}
        self._readers: list[ReadState] = []
        self._shown: set[str] = set()
        self.drop_writers()
        _pools.add(self)

    def drop_writers(self) -> None:
        """Drop all children and writers. The next events look them up again."""
        self._writes: dict[Any, Any] = {}

    def add_reader(self, read: ReadState) -> None:
        """Read the state of a pool before each scrape, and once a second if values are shared.

        Args:
            read: Returns the state. It must be fast, take no lock, and not keep the pool alive.
        """
        self._readers.append(read)

    def observe_wait(self, seconds: float) -> None:
        """Observe how long a request waited for a connection."""
        self._observe(conventions.WAIT_TIME, seconds)

    def observe_use(self, seconds: float) -> None:
        """Observe how long a connection was checked out."""
        self._observe(conventions.USE_TIME, seconds)

    def observe_create(self, seconds: float) -> None:
        """Observe how long it took to open a connection, and count it as opened."""
        self._observe(conventions.CREATE_TIME, seconds)
        self.count_opened()

    def count_opened(self, amount: int = 1) -> None:
        """Count connections that were opened. :meth:`observe_create` does it too."""
        self._count(conventions.OPENED, amount)

    def count_failure(self, error: str, amount: int = 1) -> None:
        """Count connections that could not be opened.

        Args:
            error: The name of the exception's class; empty if it is not known.
            amount: The number of connections.
        """
        self._count(conventions.FAILURES, amount, error_type=error)

    def count_closed(self, amount: int = 1) -> None:
        """Count connections that were closed."""
        self._count(conventions.CLOSED, amount)

    def count_timeout(self, amount: int = 1) -> None:
        """Count requests that got no connection within the pool's timeout."""
        self._count(conventions.TIMEOUTS, amount)

    def write_gauges(self) -> None:
        """Write the state of the pools to the gauges."""
        try:
            states = [(read, read()) for read in list(self._readers)]
            for read, state in states:
                if state is None:
                    with suppress(ValueError):  # another thread has removed it
                        self._readers.remove(read)
            known = [state for _, state in states if state is not None]
            for field, (spec, labels) in _GAUGES.items():
                numbers = [number for state in known if (number := getattr(state, field)) is not None]
                if numbers or field in self._shown:
                    self._shown.add(field)
                    self._gauge(spec, labels).set(sum(numbers))
        except Exception:
            self._recorder.recorder.record_internal_error("database pool")

    def _gauge(self, spec: MetricSpec, labels: dict[str, str]) -> Any:
        recorder = self._recorder
        gauge = recorder.families.unlimited_family(Gauge, spec, multiprocess_mode="livesum")
        values = {**self._labels, **labels, **recorder.recorder.config.constant_labels}
        return gauge.labels(**values)

    def _observe(self, spec: MetricSpec, seconds: float) -> None:
        try:
            write: Write | None = self._writes.get(spec.name)
            if write is None:
                writes = self._writes
                family = self._recorder.families.limited_family(Histogram, spec, buckets=DURATION_BUCKETS)
                write, _ = self._recorder.histogram_write(family, self._attributes, DURATION_BUCKETS)
                writes[spec.name] = write
            write(seconds, None)
        except Exception:
            self._recorder.recorder.record_internal_error("database pool")

    def _count(self, spec: MetricSpec, amount: int, **labels: str) -> None:
        try:
            key = (spec.name, *labels.values())
            inc = self._writes.get(key)
            if inc is None:
                writes = self._writes
                family = self._recorder.families.limited_family(Counter, spec)
                inc, keep = self._recorder.counter_inc(family, {**self._attributes, **labels})
                if keep:
                    writes[key] = inc
            inc(amount)
        except Exception:
            self._recorder.recorder.record_internal_error("database pool")


_STATE = "db_client_connection_state"
_GAUGES: dict[str, tuple[MetricSpec, dict[str, str]]] = {
    "used": (conventions.CONNECTION_COUNT, {_STATE: "used"}),
    "idle": (conventions.CONNECTION_COUNT, {_STATE: "idle"}),
    "max": (conventions.CONNECTION_MAX, {}),
    "pending": (conventions.PENDING_REQUESTS, {}),
}


def write_pools() -> None:
    """Write the state of all pools of this process to the gauges. Never raises."""
    for pool in list(_pools):
        pool.write_gauges()
