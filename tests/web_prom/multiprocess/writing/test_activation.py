"""What becomes of values that were there before: in a slot, in this process, in files of upstream's."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, values
from prometheus_client.mmap_dict import MmapedDict

from tests.web_prom.support import python
from web_prom.multiprocess.writing import current_storage
from web_prom.multiprocess.writing.activation import is_shared, share_values
from web_prom.multiprocess.writing.process_files import ProcessStorage
from web_prom.multiprocess.writing.shared_value import SharedValue


def gauge(mode: str) -> Any:
    options: Any = {"multiprocess_mode": mode, "registry": CollectorRegistry()}
    return Gauge("g", "Help.", **options)


def next_holder() -> None:
    current_storage.process_storage().close()
    current_storage._last = ProcessStorage()


def entries(path: Path) -> dict[str, tuple[float, float]]:
    """Return value and timestamp by the sample's name and the values of its labels."""
    read: Any = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    found = {}
    for key, value, timestamp, _ in read:
        name, labels = key.split('"')[3], key.partition("{")[2].partition("}")[0]
        found[f"{name}{{{labels}}}" if labels else name] = value, timestamp
    return found


# The table: what the next holder of a slot finds ----------------------------------------------------

TABLE: dict[str, tuple[Callable[[], Any], Callable[[Any], object], Callable[[Any], list[float]]]] = {
    "counter": (
        lambda: Counter("c", "Help.", registry=CollectorRegistry()),
        lambda counter: counter.inc(3),
        lambda counter: [counter._value.get()],
    ),
    "summary": (
        lambda: Summary("s", "Help.", registry=CollectorRegistry()),
        lambda summary: summary.observe(3),
        lambda summary: [summary._sum.get() / 3, summary._count.get() * 3],
    ),
    "histogram": (
        lambda: Histogram("h", "Help.", buckets=(1, 5), registry=CollectorRegistry()),
        lambda histogram: histogram.observe(3),
        lambda histogram: [
            histogram._sum.get(),
            histogram._buckets[1].get() * 3,
            histogram._sum.file.view[histogram._sum.position + 1] * 3,
        ],
    ),
}


@pytest.mark.parametrize("kind", ["counter", "summary", "histogram"])
def test_shared_value_of_next_slot_holder_continues_former_values(shared: Path, kind: str) -> None:
    make, write, read = TABLE[kind]
    expected = {"summary": [[1, 3], [2, 6]], "counter": [[3], [6]], "histogram": [[3, 3, 3], [6, 6, 6]]}[kind]
    write(make())
    next_holder()
    metric = make()
    assert read(metric) == expected[0]
    write(metric)
    assert read(metric) == expected[1]


@pytest.mark.parametrize("mode", ["all", "sum", "min", "max", "mostrecent"])
def test_shared_value_of_next_slot_holder_keeps_gauge_until_it_is_set(shared: Path, mode: str) -> None:
    """And with the value its time, so that nothing is more recent than it is."""
    first = gauge(mode)
    first.set(7)
    before = entries(shared / f"gauge_{mode}_s0.db")
    assert (before["g"][1] > 0) == (mode == "mostrecent")
    next_holder()
    second = gauge(mode)
    assert entries(shared / f"gauge_{mode}_s0.db") == before
    if mode != "mostrecent":  # which cannot be added to
        second.inc(2)
        assert entries(shared / f"gauge_{mode}_s0.db") == {"g": (9, 0)}
    second.set(3)
    assert entries(shared / f"gauge_{mode}_s0.db")["g"][0] == 3


@pytest.mark.parametrize("mode", ["liveall", "livesum", "livemin", "livemax", "livemostrecent"])
def test_shared_value_of_next_slot_holder_starts_live_gauge_at_zero(shared: Path, mode: str) -> None:
    gauge(mode).set(7)
    next_holder()
    assert (shared / f"gauge_{mode}_s0.db").exists()
    Counter("any", "Any value at all.", registry=CollectorRegistry())
    assert not (shared / f"gauge_{mode}_s0.db").exists()
    assert gauge(mode)._value.get() == 0


def test_slot_holder_tables_contain_every_gauge_mode() -> None:
    tested = {"all", "sum", "min", "max", "mostrecent"}
    assert tested | {f"live{mode}" for mode in tested} == set(Gauge._MULTIPROC_MODES)


# The switch ------------------------------------------------------------------------------------------


@pytest.fixture
def local(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have values be local, as they are before the switch; it is undone."""
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    return shared


def test_share_values_adds_former_counts_to_the_slot_and_sets_gauges(
    local: Path, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web_prom.multiprocess.writing.carry_over.time.time", lambda: 42.0)
    labelled: Any = {"registry": registry}

    def instruments() -> tuple[Any, ...]:
        return (
            Counter("c", "Help.", ["x"], **labelled).labels("1"),
            Summary("s", "Help.", **labelled),
            Histogram("h", "Help.", buckets=(1, 5), **labelled),
            Gauge("g", "Help.", multiprocess_mode="sum", **labelled),
            Gauge("unset", "Help.", multiprocess_mode="sum", **labelled),
            Gauge("recent", "Help.", multiprocess_mode="mostrecent", **labelled),
        )

    def use(made: tuple[Any, ...]) -> None:
        counter, summary, histogram, *gauges = made
        counter.inc(3)
        summary.observe(3)
        histogram.observe(3)
        for each in gauges:
            each.set(7)

    monkeypatch.setattr(values, "ValueClass", SharedValue)
    use(instruments())
    next_holder()
    for collector in list(registry._collector_to_names):
        registry.unregister(collector)
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    made = instruments()
    use((*made[:4],))
    made[5].set(1)
    assert share_values(registry)
    assert not share_values(registry)
    assert is_shared()
    assert entries(local / "counter_s0.db")['c_total{"x": "1"}'] == (6, 0)
    assert entries(local / "summary_s0.db") == {"s_count": (2, 0), "s_sum": (6, 0)}
    found = entries(local / "histogram_s0.db")
    assert found["h_sum"] == (6, 2)
    assert found['h_bucket{"le": "5.0"}'] == (2, 0)
    assert entries(local / "gauge_sum_s0.db") == {"g": (7, 42), "unset": (7, 0)}
    assert entries(local / "gauge_mostrecent_s0.db") == {"recent": (1, 42)}
    use(made)
    assert entries(local / "counter_s0.db")['c_total{"x": "1"}'] == (9, 0)


def test_share_values_keeps_a_shared_value_class_of_the_user(
    local: Path, monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry
) -> None:
    """Whoever keeps values in a database, say, knows why."""

    class Elsewhere(values.MutexValue):
        _multiprocess = True

    monkeypatch.setattr(values, "ValueClass", Elsewhere)
    assert not share_values(registry)
    assert values.ValueClass is Elsewhere
    assert not list(local.glob("*.db"))


# prometheus_client's own files -----------------------------------------------------------------------

PRELUDE = """
import os, sys
from pathlib import Path
directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, values
from prometheus_client.multiprocess import MultiProcessCollector
from web_prom.multiprocess.writing.activation import share_values

def scrape():
    return {
        sample.name + str(sorted(sample.labels.items()) or ""): sample.value
        for family in MultiProcessCollector.merge([str(path) for path in directory.glob("*.db")])
        for sample in family.samples
        if "web_prom" not in sample.name
    }

def names():
    return sorted(path.name for path in directory.glob("*.db"))
"""


def run(code: str, path: Path, *arguments: str) -> str:
    return python(PRELUDE + textwrap.dedent(code), *arguments, PROMETHEUS_MULTIPROC_DIR=str(path))


@pytest.mark.slow
def test_share_values_imports_files_of_prometheus_client(tmp_path: Path) -> None:
    """The variable was set at the import. The metrics of a registry that was not passed are among them."""
    printed = run(
        """
        own = CollectorRegistry()
        counters = Counter("c", "Help."), Counter("d", "Help.", ["x"], registry=own).labels('"1"')
        duration, summary = Histogram("h", "Help.", buckets=(1, 2)), Summary("s", "Help.", registry=own)
        gauges = [Gauge(mode, "Help.", multiprocess_mode=mode) for mode in ("sum", "livesum", "mostrecent")]
        unset = Gauge("unset", "Help.", multiprocess_mode="sum")
        kept = counters[1]._value.get  # bound before the switch
        def use():
            for counter in counters:
                counter.inc(3)
            duration.observe(1.5)
            summary.observe(5)
            for gauge in gauges:
                gauge.set(7)
        use()
        before = scrape()
        assert names()[0] == f"counter_{os.getpid()}.db"
        assert share_values()
        assert not share_values()
        after = scrape()
        assert after == before, (before, after)
        assert {name.rpartition("_")[2] for name in names()} == {"s0.db"}
        assert before["c_total"] == before["d_total[('x', '\\"1\\"')]"] == 3 and before["mostrecent"] == 7
        use()
        assert kept() == 3
        assert counters[1]._value.get() == counters[0]._value.get() == 6
        twice = scrape()
        assert twice["c_total"] == twice["d_total[('x', '\\"1\\"')]"] == 6
        assert twice["h_count"] == twice["s_count"] == 2 and twice["s_sum"] == 10
        Counter("late", "Help.").inc()
        assert {name.rpartition("_")[2] for name in names()} == {"s0.db"}
        print("done")
        """,
        tmp_path,
    )
    assert printed == "done\n"


@pytest.mark.slow
def test_share_values_adds_imported_files_to_values_of_the_former_slot_holder(tmp_path: Path) -> None:
    code = """
        counter, unset = Counter("c", "Help."), Gauge("unset", "Help.", multiprocess_mode="sum")
        duration = Histogram("h", "Help.", buckets=(1, 2))
        counter.inc(3)
        duration.observe(1.5)
        if sys.argv[1] == "first":
            unset.set(7)
        share_values()
        found = scrape()
        print(found["c_total"], found["h_sum"], found["h_count"], found["unset"], len(names()))
    """
    assert run(code, tmp_path, "first").split() == ["3.0", "1.5", "1.0", "7.0", "3"]
    assert run(code, tmp_path, "second").split() == ["6.0", "3.0", "2.0", "7.0", "3"]


@pytest.mark.slow
def test_share_values_keeps_files_of_other_processes(tmp_path: Path) -> None:
    printed = run(
        """
        counter = Counter("c", "Help.")
        pid = os.fork()
        if not pid:
            counter.inc(5)
            os._exit(0)
        os.waitpid(pid, 0)
        counter.inc(3)
        share_values()
        assert names() == sorted([f"counter_{pid}.db", "counter_s0.db"])
        pid = os.fork()
        if not pid:
            counter.inc(10)
            os._exit(0)
        os.waitpid(pid, 0)
        print(scrape()["c_total"], len(names()))
        """,
        tmp_path,
    )
    assert printed.split() == ["18.0", "3"]


@pytest.mark.slow
def test_share_values_in_a_fork_keeps_files_of_the_parent(tmp_path: Path) -> None:
    """It absorbs what it wrote itself, and its parent goes on."""
    printed = run(
        """
        counter = Counter("c", "Help.")
        counter.inc(100)
        pid = os.fork()
        if not pid:
            counter.inc(1)
            share_values()
            counter.inc(1)
            assert names() == sorted([f"counter_{os.getppid()}.db", "counter_s0.db"])
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        counter.inc(100)
        print(scrape()["c_total"])
        """,
        tmp_path,
    )
    assert printed.split() == ["202.0"]


@pytest.mark.slow
def test_share_values_keeps_a_corrupt_file_and_imports_the_others(tmp_path: Path) -> None:
    printed = run(
        """
        import logging
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        counter, gauge = Counter("c", "Help."), Gauge("g", "Help.", multiprocess_mode="sum")
        counter.inc(3)
        gauge.set(7)
        damaged = directory / f"gauge_sum_{os.getpid()}.db"
        with damaged.open("r+b") as file:
            file.write(b"\\xff\\xff\\xff\\x7f")
        share_values()
        assert damaged.exists()
        assert counter._value.get() == 3
        """,
        tmp_path,
    )
    assert "gauge_sum_" in printed


@pytest.mark.slow
@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
def test_share_values_in_a_fork_does_not_wait_for_a_thread_of_the_parent(tmp_path: Path, fork: str) -> None:
    """With at-fork hooks and without."""
    printed = run(
        f"""
        import ctypes, threading
        from web_prom.multiprocess.writing import activation
        counter = Counter("c", "Help.")
        begun, end = threading.Event(), threading.Event()
        def wait(path, usable=activation.ensure_writable):
            begun.set()
            end.wait()
            return usable(path)
        activation.ensure_writable = wait
        thread = threading.Thread(target=share_values)
        thread.start()
        begun.wait()
        pid = {fork}()
        if not pid:
            activation.ensure_writable = lambda path: path
            print(share_values(), flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        end.set()
        thread.join()
        print(share_values())
        """,
        tmp_path,
    )
    assert printed.split() == ["True", "False"]
