"""Writers: the same values as those of prometheus_client's methods, written together."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from tests.web_prom.support import python
from web_prom.metrics import writers
from web_prom.metrics.mmap_writers import MmapHistogramWriter, MmapWriter
from web_prom.metrics.writers import (
    ExtendedWriter,
    GenericWriter,
    InMemoryWriter,
    gauge_updaters,
    make_writer,
)
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.writing import current_storage
from web_prom.multiprocess.writing.shared_value import SharedValue

BOUNDS = (0.1, 0.5, 1.0)

# Each example needs new names, because shared values continue with the values in the files.
numbers = count()


class OtherValue(values.MutexValue):
    """A value of an unknown class."""


@pytest.fixture(params=[InMemoryWriter, MmapWriter, GenericWriter])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[object]:
    """Return each class of writers, with new values of the matching class."""
    if request.param is MmapWriter:
        request.getfixturevalue("shared")
    if request.param is GenericWriter:
        monkeypatch.setattr(values, "ValueClass", OtherValue)
    found: type[object] = request.param
    return found


class Pair:
    """A counter and a histogram in a new registry."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._registry = CollectorRegistry()
        self.requests = Counter(f"{name}_requests", "Requests.", registry=self._registry)
        self.duration = Histogram(f"{name}_duration", "Duration.", registry=self._registry, buckets=BOUNDS)

    def samples(self) -> dict[tuple[str, str], float]:
        """Return all samples except the times of creation."""
        return {
            (sample.name.removeprefix(self._name), sample.labels.get("le", "")): sample.value
            for family in self._registry.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, database=None)
@given(durations=st.lists(st.sampled_from([0.0, 0.05, *BOUNDS, 0.7, 1.5, 1e9]), max_size=8))
def test_writer_writes_the_same_as_prometheus_client(kind: type[object], durations: list[float]) -> None:
    """A bound belongs to its own bucket. A value above all bounds belongs to the last bucket."""
    ours, stock = Pair(f"ours{next(numbers)}"), Pair(f"stock{next(numbers)}")
    written = make_writer(ours.requests, ours.duration, BOUNDS, [])
    assert type(written) is kind
    for duration in durations:
        written.write(duration, None)
        stock.requests.inc()
        stock.duration.observe(duration)
    assert ours.samples() == stock.samples()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, database=None)
@given(durations=st.lists(st.sampled_from([0.0, 0.05, *BOUNDS, 0.7, 1.5, 1e9]), max_size=8))
def test_writer_without_a_counter_writes_the_same_as_prometheus_client(
    kind: type[object], durations: list[float]
) -> None:
    """The values are of each class."""
    alone = {InMemoryWriter: InMemoryWriter, MmapWriter: MmapHistogramWriter}.get(kind, GenericWriter)
    ours, stock = Pair(f"ours{next(numbers)}"), Pair(f"stock{next(numbers)}")
    written = make_writer(None, ours.duration, BOUNDS, [])
    assert type(written) is alone
    for duration in durations:
        written.write(duration, None)
        stock.duration.observe(duration)
    assert ours.samples() == stock.samples()


def test_mmap_writer_writes_to_the_files(shared: Path) -> None:
    """So a scrape of another process finds the values."""
    pair = Pair("filed")
    written = make_writer(pair.requests, pair.duration, BOUNDS, [])
    for duration in (0.3, 0.4, 7.0):
        written.write(duration, None)
    found = {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in WorkersCollector(str(shared)).collect()
        for sample in family.samples
    }
    assert found["filed_requests_total", ""] == found["filed_duration_count", ""] == 3
    assert found["filed_duration_sum", ""] == 7.7
    assert [found["filed_duration_bucket", bound] for bound in ("0.1", "0.5", "1.0", "+Inf")] == [0, 2, 2, 3]


class Probe(float):
    """A duration that records whether the lock is held when it is added."""

    held: list[bool]

    def __radd__(self, other: float) -> float:
        self.held.append(self.is_held())
        return other + float(self)

    def is_held(self) -> bool:
        return writers._lock.locked()


def test_in_memory_writer_takes_one_lock() -> None:
    """The values have the same lock, so a scrape never sees a part of a request."""
    pair, probe = Pair("probed"), Probe(0.3)
    probe.held = []
    make_writer(pair.requests, pair.duration, BOUNDS, []).write(probe, None)
    assert probe.held == [True]
    assert not writers._lock.locked()
    all_values: list[Any] = [pair.requests._value, pair.duration._sum, *pair.duration._buckets]
    assert {value._lock for value in all_values} == {writers._lock}


def test_mmap_writer_takes_one_lock(shared: Path) -> None:
    """It is the lock of the storage, which the methods of the values take too."""

    class Lock:
        taken, held = 0, False

        def __enter__(self) -> None:
            self.taken, self.held = self.taken + 1, True

        def __exit__(self, *_: object) -> None:
            self.held = False

    pair, probe, lock = Pair("probed"), Probe(0.3), Lock()
    probe.held, probe.is_held = [], lambda: lock.held  # type: ignore[method-assign]
    written = make_writer(pair.requests, pair.duration, BOUNDS, [])
    written.write(0.3, None)
    files = current_storage.process_storage()._files
    assert files is not None
    for file in files.open_files.values():
        file.lock = lock
    written.write(probe, None)
    assert probe.held == [True]
    assert lock.taken == 1


@pytest.mark.parametrize("counted", [True, False])
def test_mmap_writer_increments_the_revision(counted: bool, shared: Path) -> None:
    """The methods of the values do the same. A reader skips label sets whose revision has not changed."""
    pair = Pair("marked")
    written = make_writer(pair.requests if counted else None, pair.duration, BOUNDS, [])
    for duration in (0.3, 0.4, 7.0):
        written.write(duration, None)
    total: Any = pair.duration._sum
    assert total.file.view[total.position + 1] == 3


@pytest.mark.slow
def test_mmap_writer_after_a_fork_writes_to_the_files_of_the_child(tmp_path: Path) -> None:
    """The files of the child do not contain the values of the parent."""
    printed = python(
        """
import os, sys
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from prometheus_client import Counter, Histogram
from web_prom.metrics.writers import make_writer
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.writing.activation import share_values
share_values()
requests, duration = Counter("r", "R."), Histogram("d", "D.", buckets=(1, 2))
written = make_writer(requests, duration, (1.0, 2.0), [])
for _ in range(3):
    written.write(1.5, None)
if not os.fork():
    for _ in range(5):
        written.write(0.5, None)
    assert requests._value.get() == duration._sum.get() * 2 == 5
    os._exit(0)
assert os.wait()[1] == 0
written.write(1.5, None)
assert requests._value.get() == duration._buckets[1].get() == 4
print(*sorted(os.listdir(sys.argv[1])))
families = {family.name: family for family in WorkersCollector(sys.argv[1]).collect()}
print(*[sample.value for family in ("r", "d") for sample in families[family].samples])
        """,
        str(tmp_path),
    )
    files, samples = printed.splitlines()
    assert files.split() == [
        "counter_s0.db",
        "counter_s1.db",
        "histogram_s0.db",
        "histogram_s1.db",
        "slots.lock",
    ]
    assert sorted(map(float, samples.split())) == [5, 8.5, 9, 9, 9, 9]


def test_writer_releases_the_lock_after_an_error() -> None:
    """Otherwise the next request would wait for ever."""
    pair = Pair("failing")
    written = make_writer(pair.requests, pair.duration, BOUNDS, [])
    pair.duration._sum._value = None
    with pytest.raises(TypeError):
        written.write(0.3, None)
    assert not writers._lock.locked()


def test_extended_writer_ignores_missing_values() -> None:
    """The attribute of a recording may be None or missing."""
    pair = Pair("measured")
    observed: list[tuple[str, float]] = []

    def measure(field: str) -> tuple[str, Callable[[float], None]]:
        return field, lambda value: observed.append((field, value))

    written = make_writer(pair.requests, pair.duration, BOUNDS, [measure(field) for field in ("a", "b", "c")])
    assert isinstance(written, ExtendedWriter)
    written.write(0.3, SimpleNamespace(a=0, b=None))
    assert observed == [("a", 0)]
    assert pair.samples()["_requests_total", ""] == 1


def test_gauge_updaters_of_a_value_in_memory(registry: CollectorRegistry) -> None:
    """The updaters may be requested several times."""
    gauge = Gauge("progress", "Progress.", registry=registry)
    in_flight: list[int] = []
    add_at_start, add_at_end = gauge_updaters(gauge, in_flight)
    add_at_start(1)
    add_at_start(1)
    assert registry.get_sample_value("progress") == 2
    _, again = gauge_updaters(gauge, in_flight)
    add_at_end(-1)
    assert registry.get_sample_value("progress") == 1
    again(-1)
    assert registry.get_sample_value("progress") == 0


def test_gauge_updaters_carry_over_requests_once_when_values_become_shared(
    registry: CollectorRegistry, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two applications request the updaters of the same gauge, one after the other."""
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    gauge = Gauge("progress", "Progress.", registry=registry, multiprocess_mode="livesum")
    in_flight: list[int] = []
    add_at_start, _ = gauge_updaters(gauge, in_flight)
    add_at_start(1)
    add_at_start(1)
    monkeypatch.setattr(values, "ValueClass", SharedValue)
    gauge._metric_init()
    steps = [gauge_updaters(gauge, in_flight) for _ in range(2)]
    assert registry.get_sample_value("progress") == 2
    for _, add_at_end in steps:
        add_at_end(-1)
    assert registry.get_sample_value("progress") == 0


@pytest.mark.slow
def test_gauge_is_zero_after_a_request_during_which_values_became_shared(tmp_path: Path) -> None:
    """The request starts with values in memory and ends with shared values."""
    printed = python(
        """
import os, sys
from prometheus_client import REGISTRY
from tests.web_prom.support import Server, environ_of, hello
from web_prom.wsgi import PrometheusMiddleware

def in_progress():
    return REGISTRY.get_sample_value("http_requests_in_progress")

wrapped = PrometheusMiddleware(hello, registry=REGISTRY)
body = wrapped(environ_of(), Server().start_response)
print(in_progress())
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
PrometheusMiddleware(hello, registry=REGISTRY)
print(in_progress())
body.close()
print(in_progress())
""",
        str(tmp_path),
    )
    assert printed.split() == ["1.0", "1.0", "0.0"]
