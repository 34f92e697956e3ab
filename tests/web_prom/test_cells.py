"""The values that a request writes: the same as prometheus_client's own methods write, and all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.mmap_dict import MmapedDict

from web_prom import cells
from web_prom.cells import LocalCells, MeasuredCells, SharedCells, StockCells, cells_of, steps_of
from web_prom.multiprocess.collector import WorkersCollector

from .support import python

BOUNDS = (0.1, 0.5, 1.0)

# Shared values go on from what a file has under their name.
numbers = count()


class OtherValue(values.MutexValue):
    """A value of a kind that nobody knows."""


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Return what makes new values those that workers share."""
    opened: list[Any] = []

    class Watched(MmapedDict):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
            opened.append(self)

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "MmapedDict", Watched)
    monkeypatch.setattr(values, "_multi_process_cleanups", [], raising=False)

    def share() -> None:
        monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())  # type: ignore[no-untyped-call]

    yield share
    for file in opened:
        file.close()


@pytest.fixture(params=[LocalCells, SharedCells, StockCells])
def kind(
    request: pytest.FixtureRequest, shared: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> type[object]:
    """Return each kind of cells, with new values being of theirs."""
    if request.param is SharedCells:
        shared()
    if request.param is StockCells:
        monkeypatch.setattr(values, "ValueClass", OtherValue)
    found: type[object] = request.param
    return found


class Pair:
    """A counter and a histogram, on a registry of their own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._registry = CollectorRegistry()
        self.requests = Counter(f"{name}_requests", "Requests.", registry=self._registry)
        self.duration = Histogram(f"{name}_duration", "Duration.", registry=self._registry, buckets=BOUNDS)

    def samples(self) -> dict[tuple[str, str], float]:
        """Return every sample but the times of creation."""
        return {
            (sample.name.removeprefix(self._name), sample.labels.get("le", "")): sample.value
            for family in self._registry.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, database=None)
@given(durations=st.lists(st.sampled_from([0.0, 0.05, *BOUNDS, 0.7, 1.5, 1e9]), max_size=8))
def test_the_values_are_those_that_the_stock_methods_write(
    kind: type[object], durations: list[float]
) -> None:
    """Each bound belongs to its own bucket, and what is above all of them to the last."""
    ours, stock = Pair(f"ours{next(numbers)}"), Pair(f"stock{next(numbers)}")
    written = cells_of(ours.requests, ours.duration, BOUNDS, [])
    assert type(written) is kind
    for duration in durations:
        written.write(duration, None)
        stock.requests.inc()
        stock.duration.observe(duration)
    assert ours.samples() == stock.samples()


@pytest.mark.parametrize("kind", [SharedCells], indirect=True)
def test_shared_values_are_in_the_files(kind: type[object], tmp_path: Path) -> None:
    """Where a scrape of another process finds them."""
    pair = Pair("filed")
    written = cells_of(pair.requests, pair.duration, BOUNDS, [])
    for duration in (0.3, 0.4, 7.0):
        written.write(duration, None)
    found = {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in WorkersCollector(str(tmp_path)).collect()
        for sample in family.samples
    }
    assert found["filed_requests_total", ""] == found["filed_duration_count", ""] == 3
    assert found["filed_duration_sum", ""] == 7.7
    assert [found["filed_duration_bucket", bound] for bound in ("0.1", "0.5", "1.0", "+Inf")] == [0, 2, 2, 3]


@pytest.mark.parametrize("kind", [LocalCells, SharedCells], indirect=True)
def test_a_request_is_written_under_one_lock(kind: type[object]) -> None:
    """Which the values of a process alone then have as their own, so that a scrape sees whole requests."""

    class Probe(float):
        def __radd__(self, other: float) -> float:
            held.append(cells._lock.locked())
            return other + float(self)

    held: list[bool] = []
    pair = Pair("probed")
    cells_of(pair.requests, pair.duration, BOUNDS, []).write(Probe(0.3), None)
    assert held == [True]
    assert not cells._lock.locked()
    if kind is LocalCells:
        all_values: list[Any] = [pair.requests._value, pair.duration._sum, *pair.duration._buckets]
        assert {value._lock for value in all_values} == {cells._lock}


def test_a_write_that_fails_leaves_no_lock_held() -> None:
    """The next request would wait for ever."""
    pair = Pair("failing")
    written = cells_of(pair.requests, pair.duration, BOUNDS, [])
    pair.duration._sum._value = None
    with pytest.raises(TypeError):
        written.write(0.3, None)
    assert not cells._lock.locked()


def test_what_was_not_measured_is_not_observed() -> None:
    """A recording has a field for each further histogram; it may be None, or not be there."""
    pair = Pair("measured")
    observed: list[tuple[str, float]] = []

    def measure(field: str) -> tuple[str, Callable[[float], None]]:
        return field, lambda value: observed.append((field, value))

    written = cells_of(pair.requests, pair.duration, BOUNDS, [measure(field) for field in ("a", "b", "c")])
    assert isinstance(written, MeasuredCells)
    written.write(0.3, SimpleNamespace(a=0, b=None))
    assert observed == [("a", 0)]
    assert pair.samples()["_requests_total", ""] == 1


def test_the_gauge_of_a_process_alone_goes_up_and_down(registry: CollectorRegistry) -> None:
    """However often it is bound."""
    gauge = Gauge("progress", "Progress.", registry=registry)
    in_flight: list[int] = []
    enter, leave = steps_of(gauge, in_flight)
    enter(1)
    enter(1)
    assert registry.get_sample_value("progress") == 2
    _, again = steps_of(gauge, in_flight)
    leave(-1)
    assert registry.get_sample_value("progress") == 1
    again(-1)
    assert registry.get_sample_value("progress") == 0


def test_requests_in_progress_at_the_switch_are_carried_over_once(
    registry: CollectorRegistry, shared: Callable[[], None]
) -> None:
    """Two applications bind the same gauge, one after the other."""
    gauge = Gauge("progress", "Progress.", registry=registry, multiprocess_mode="livesum")
    in_flight: list[int] = []
    enter, _ = steps_of(gauge, in_flight)
    enter(1)
    enter(1)
    shared()
    gauge._metric_init()
    steps = [steps_of(gauge, in_flight) for _ in range(2)]
    assert registry.get_sample_value("progress") == 2
    for _, leave in steps:
        leave(-1)
    assert registry.get_sample_value("progress") == 0


def test_a_request_that_spans_the_switch_leaves_the_gauge_at_zero(tmp_path: Path) -> None:
    """It began in a process alone, and ends in one that shares its values."""
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
