"""The value class: it writes what prometheus_client's own would have written, from any thread."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Exemplar

from web_prom.family_names import STORAGE_ERRORS
from web_prom.multiprocess.writing import current_storage, process_files
from web_prom.multiprocess.writing.process_files import ProcessStorage
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.multiprocess.writing.value_file import INITIAL_BYTES

MODES = sorted(Gauge._MULTIPROC_MODES)

# The kinds of operations, each on an instrument of its own, with a label or without.
OPERATIONS: dict[str, Callable[[Any, float], object]] = {
    "counter": lambda metric, amount: metric.inc(abs(amount)),
    "reset": lambda metric, amount: metric.reset(),
    "summary": lambda metric, amount: metric.observe(amount),
    "histogram": lambda metric, amount: metric.observe(amount),
    "set": lambda metric, amount: metric.set(amount),
    "add": lambda metric, amount: metric.inc(amount),
}


def instruments() -> dict[str, Any]:
    registry = CollectorRegistry()
    made: dict[str, Any] = {
        "counter": Counter("c", "Help.", ["x"], registry=registry),
        "summary": Summary("s", 'Help "quoted"\n.', ["x"], registry=registry),
        "histogram": Histogram("h", "Help.", ["x"], buckets=(1, 2, 1e6), registry=registry),
    }
    for mode in MODES:
        options: Any = {"registry": registry, "multiprocess_mode": mode}
        made[f"gauge_{mode}"] = Gauge(f"g_{mode}", "Hilfe für Ω.", ["x"], **options)
    return made


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, str, float, str]:
    which = draw(st.sampled_from(["counter", "summary", "histogram", *(f"gauge_{mode}" for mode in MODES)]))
    operation = which
    if which == "counter":
        operation = draw(st.sampled_from(["counter", "reset"] if hasattr(Counter, "reset") else ["counter"]))
    if which.startswith("gauge"):
        recent = which.endswith("mostrecent")  # which cannot be added to
        operation = "set" if recent else draw(st.sampled_from(["set", "add"]))
    amount = draw(st.floats(-1e9, 1e9) | st.integers(-1000, 1000).map(float))
    return which, operation, amount, draw(st.sampled_from(["a", "b", 'c"\\\n', "日本", "\ud800"]))


def read(directory: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Return what prometheus_client reads from each file, without what we write beside the values."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for path in directory.glob("*.db"):
        entries: Any = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
        found[path.name] = {
            key: (value, 0.0 if path.name.startswith("histogram") else timestamp)
            for key, value, timestamp, _ in entries
            if STORAGE_ERRORS not in key
        }
    return {name: entries for name, entries in found.items() if entries}


def play(todo: list[tuple[str, str, float, str]]) -> None:
    """Do with new instruments what a process might; each has one value from the beginning."""
    made = instruments()
    for metric in made.values():
        metric.labels("first")
    for which, operation, amount, label in todo:
        OPERATIONS[operation](made[which].labels(label), amount)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.lists(steps(), max_size=25), st.lists(steps(), max_size=25))
def test_shared_value_writes_the_files_of_prometheus_client(
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: list[tuple[str, str, float, str]],
    after: list[tuple[str, str, float, str]],
) -> None:
    """All types and modes, from two processes of which the second goes on with the files of the first."""
    opened: list[Any] = []

    class Watched(MmapedDict):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
            opened.append(self)

    monkeypatch.setattr(values, "MmapedDict", Watched)
    monkeypatch.setattr(values, "_multi_process_cleanups", [], raising=False)
    monkeypatch.setattr("prometheus_client.metrics.time", SimpleNamespace(time=lambda: 1000.0))
    with tempfile.TemporaryDirectory() as upstream:
        for part in (before, after):
            # Whoever comes next finds no live gauges; prometheus_client would go on with them.
            for path in Path(upstream).glob("gauge_live*"):
                path.unlink()
            kind: Any = values.MultiProcessValue(lambda: "s0")  # type: ignore[no-untyped-call]
            with monkeypatch.context() as patched:
                patched.setattr(values, "ValueClass", kind)
                patched.setenv("PROMETHEUS_MULTIPROC_DIR", upstream)
                play(part)
            current_storage._last = ProcessStorage()
            play(part)
            assert read(shared) == read(Path(upstream))
            current_storage.process_storage().close()
    for file in opened:
        file.close()
    for path in shared.glob("*.db"):
        path.unlink()


@pytest.fixture
def histogram(shared: Path) -> Any:
    return Histogram("h", "Help.", ["x"], buckets=(1, 2), registry=CollectorRegistry()).labels("a")


def mark(histogram: Any) -> float:
    found: float = histogram._sum.file.view[histogram._sum.position + 1]
    return found


def test_revision_counts_the_writes_to_all_buckets_of_a_label_set(histogram: Any) -> None:
    assert mark(histogram) == 0
    for number, amount in enumerate((0.5, 1.5, 1.5, 9), start=1):
        histogram.observe(amount)
        assert mark(histogram) == number
    histogram._buckets[0].set(7)
    assert mark(histogram) == 5
    histogram._sum.set(3, timestamp=1e9)
    histogram._sum.inc(2)
    assert mark(histogram) == 5
    assert histogram._sum.get() == 5


def test_revision_is_written_after_the_bucket(histogram: Any) -> None:
    """A reader that sees the old mark sees at most an old bucket, and looks again at the next scrape."""

    class Recorded:
        def __init__(self, view: Any) -> None:
            self.view = view

        def __getitem__(self, at: int) -> float:
            value: float = self.view[at]
            return value

        def __setitem__(self, at: int, value: float) -> None:
            written.append(at)
            self.view[at] = value

    written: list[int] = []
    file = histogram._sum.file
    view, file.view = file.view, Recorded(file.view)
    histogram.observe(1.5)
    file.view = view
    total, bucket = histogram._sum, histogram._buckets[1]
    assert written == [total.position, bucket.position, total.position + 1]


@pytest.mark.parametrize("names", [("x", "le"), ("le", "x")])
def test_bucket_that_is_created_alone_finds_the_sum_of_its_histogram(
    histogram: Any, names: tuple[str, str]
) -> None:
    labels = {"x": "a", "le": "2.0"}
    bucket = SharedValue("histogram", "h", "h_bucket", names, [labels[name] for name in names], "Help.")
    bucket.inc(4)
    assert histogram._buckets[1].get() == 4
    assert mark(histogram) == 1


def test_inc_keeps_the_timestamp(shared: Path) -> None:
    cell = SharedValue("gauge", "g", "g", (), (), "Help.", "sum")
    cell.set(3, timestamp=42.0)
    cell.inc(1)
    assert list(read(shared)["gauge_sum_s0.db"].values()) == [(4, 42)]
    cell.set(5)
    assert list(read(shared)["gauge_sum_s0.db"].values()) == [(5, 0)]


def test_exemplars_are_ignored(histogram: Any) -> None:
    histogram.observe(1.5, {"trace": "1"})
    assert histogram._buckets[1].get_exemplar() is None
    histogram._buckets[1].set_exemplar(Exemplar({"trace": "1"}, 1.5))


def test_inc_with_no_number_releases_the_lock(shared: Path) -> None:
    cell: Any = SharedValue("counter", "c", "c_total", (), (), "Help.")
    with pytest.raises(TypeError):
        cell.inc("1")
    with pytest.raises(TypeError):
        cell.set(None)
    thread = threading.Thread(target=cell.inc, args=(1,))
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert cell.get() == 1


@pytest.fixture
def switching() -> Iterator[None]:
    """Have threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_threads_lose_no_value_while_files_grow(shared: Path, switching: None) -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "Help.", registry=registry)
    sets = Counter("l", "Help.", ["x"], registry=registry)
    duration = Histogram("h", "Help.", ["x"], buckets=(1, 2), registry=registry)
    failed: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for number in range(300):
                counter.inc()
                sets.labels(f"{number % 100}{'x' * 1000}").inc()
                duration.labels(str(number % 10)).observe(1.5)
                if number % 50 == 0:
                    Gauge(f"g{name}_{number}", "Help.", registry=registry).set(1)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert (shared / "counter_s0.db").stat().st_size > INITIAL_BYTES
    families: Any = MultiProcessCollector.merge([str(path) for path in shared.glob("*.db")])  # type: ignore[no-untyped-call]
    totals: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    assert totals["c_total"] == totals["l_total"] == totals["h_count"] == 1200
    assert totals["h_sum"] == 1800


def test_value_that_is_used_while_another_is_created_loses_nothing(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a signal's handler, or by an object's end: they run in between the steps of the same thread."""
    known = SharedValue("counter", "known", "known_total", (), (), "Help.")
    made: list[SharedValue] = []
    reserve = os.posix_fallocate

    def interrupted(*arguments: int) -> None:
        if not made:  # the file grows for the outer value, which has its place already
            made.append(SharedValue("counter", "inner", "inner_total", (), (), "Help."))
            made[0].inc(3)
            known.inc(1)
        reserve(*arguments)

    monkeypatch.setattr(os, "posix_fallocate", interrupted)
    outer = SharedValue("counter", "outer", "outer_total", ["x"], ["x" * INITIAL_BYTES], "Help.")
    outer.inc(2)
    assert [cell.get() for cell in (known, made[0], outer)] == [1, 3, 2]
    found = {key.split('"')[1]: value for key, (value, _) in read(shared)["counter_s0.db"].items()}
    assert found == {"known": 1, "inner": 3, "outer": 2}


def test_log_handler_that_counts_does_not_loop(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs as a failure of ours is logged."""
    clock = [1000.0]
    monkeypatch.setattr(process_files, "monotonic", lambda: clock[0])

    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            SharedValue("counter", "logged", "logged_total", (), (), "Help.").inc(1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    handler = Counting()
    logging.getLogger("web_prom").addHandler(handler)
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        cell = SharedValue("counter", "c", "c_total", (), (), "Help.")
        cell.inc(2)
    logging.getLogger("web_prom").removeHandler(handler)
    clock[0] += 10
    cell.inc(1)
    found = {key.split('"')[1]: value for key, (value, _) in read(shared)["counter_s0.db"].items()}
    assert found == {"c": 3, "logged": 1}
