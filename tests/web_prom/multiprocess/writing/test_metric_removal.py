"""Label sets that ``remove()``, ``remove_by_labels()`` and ``clear()`` take out of a slot."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.values import MutexValue

from tests.web_prom.multiprocess.writing.label_sets import KINDS, MODES, Scrape, make, next_holder, use
from tests.web_prom.support import samples
from web_prom.multiprocess.file_format import REMOVED, REMOVING, removed_value
from web_prom.multiprocess.writing import current_storage, shared_value

has_remove_by_labels = pytest.mark.skipif(
    not hasattr(Gauge, "remove_by_labels"), reason="this prometheus_client has no remove_by_labels()"
)


# One process ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_fault_44_removed_label_set_starts_at_zero_when_it_is_used_again(scrape: Scrape, kind: str) -> None:
    """It goes from every sample of the family; no warning is issued."""
    instrument = make(kind)
    for x in "ab":
        use(instrument.labels(x, "1"), 7.0)
    assert scrape(kind) == {("a", "1"): 7, ("b", "1"): 7}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        instrument.remove("a", "1")
    assert scrape(kind) == {("b", "1"): 7}
    for labels in scrape.all_samples().values():
        assert all(("x", "b") in one for one in labels), labels
    again = instrument.labels("a", "1")
    if "mostrecent" not in kind:
        assert scrape(kind) == {("a", "1"): 0, ("b", "1"): 7}
    use(again, 2.0)
    assert scrape(kind) == {("a", "1"): 2, ("b", "1"): 7}
    instrument.remove("a", "1")
    instrument.remove("b", "1")
    assert scrape(kind) == {}
    assert scrape.all_samples() == {}


@pytest.mark.parametrize("kind", KINDS)
def test_fault_44_clear_removes_every_label_set(scrape: Scrape, kind: str) -> None:
    instrument = make(kind)
    other = Counter("mm", "Help.", ["x"], registry=CollectorRegistry())
    other.labels("a").inc()
    for x in "abc":
        use(instrument.labels(x, "1"))
    assert len(scrape(kind)) == 3
    instrument.clear()
    assert scrape(kind) == {}
    use(instrument.labels("b", "1"), 1.0)
    assert scrape(kind) == {("b", "1"): 1}
    assert scrape.all_samples()["mm_total"] == [(("x", "a"),)], "another metric stays"


@has_remove_by_labels
@pytest.mark.parametrize("kind", ["counter", "histogram", "summary", "livemax", "all"])
def test_fault_44_remove_by_labels_removes_matching_label_sets(scrape: Scrape, kind: str) -> None:
    instrument = make(kind)
    for x in ("a", 'b"', "c"):
        for y in ("1", 'x": "a'):
            use(instrument.labels(x, y))
    assert len(scrape(kind)) == 6
    instrument.remove_by_labels({"x": "a"})
    assert set(scrape(kind)) == {(x, y) for x in ('b"', "c") for y in ("1", 'x": "a')}
    instrument.remove_by_labels({"y": 'x": "a'})
    instrument.remove_by_labels({"x": 'b"', "y": "1"})
    assert set(scrape(kind)) == {("c", "1")}
    instrument.remove_by_labels({"x": "never used"})
    assert set(scrape(kind)) == {("c", "1")}


@pytest.mark.parametrize("kind", KINDS)
def test_fault_44_write_to_a_removed_child_is_not_in_scrapes(scrape: Scrape, kind: str) -> None:
    """As in one process: the child goes on with its own value, and the label set has another one."""
    instrument = make(kind)
    former = instrument.labels("a", "1")
    use(former)
    instrument.remove("a", "1")
    use(former, 4.0)
    assert scrape(kind) == {}
    use(instrument.labels("a", "1"), 1.0)
    use(former, 4.0)
    assert scrape(kind) == {("a", "1"): 1}
    instrument.clear()
    use(former, 4.0)
    assert scrape(kind) == {}


def test_removed_child_keeps_its_value_as_in_one_process(shared: Path) -> None:
    counter = make("counter")
    child = counter.labels("a", "1")
    child.inc(5)
    counter.remove("a", "1")
    child.inc()
    assert child._value.get() == 6
    histogram = make("histogram")
    child = histogram.labels("a", "1")
    child.observe(2)
    histogram.clear()
    child.observe(3)
    assert child._sum.get() == 5
    assert [bucket.get() for bucket in child._buckets] == [0, 2, 0]


def _refuse_on_full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


REMOVALS: dict[str, Callable[[Any], object]] = {
    "remove": lambda instrument: instrument.remove("a", "1"),
    "remove_by_labels": lambda instrument: instrument.remove_by_labels({"x": "a"}),
    "clear": lambda instrument: instrument.clear(),
}


@pytest.mark.parametrize("removal", [pytest.param(name, marks=has_remove_by_labels) for name in REMOVALS])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "mostrecent" not in kind])
def test_child_of_another_registry_starts_at_zero_after_a_removal(
    scrape: Scrape, kind: str, removal: str
) -> None:
    """Both registries write to the same entries of the slot."""
    first, second = make(kind), make(kind)
    write = getattr(second.labels("a", "1"), "observe", None) or second.labels("a", "1").inc
    first.labels("a", "1")
    write(7.0)
    REMOVALS[removal](first)
    assert scrape(kind) == {}
    write(0.5)
    assert scrape(kind) == {("a", "1"): 0.5}
    write(2.0)
    assert scrape(kind) == {("a", "1"): 2.5}
    REMOVALS[removal](second)
    assert scrape(kind) == {}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in MODES or kind.startswith("live")])
def test_gauge_of_another_registry_is_zero_after_a_removal(scrape: Scrape, kind: str) -> None:
    first, second = make(kind), make(kind)
    first.labels("a", "1").set(7)
    child = second.labels("a", "1")
    first.clear()
    assert child._value.get() == 0
    if "mostrecent" not in kind:
        child.dec(2)
        assert child._value.get() == -2
        assert scrape(kind) == {("a", "1"): -2}
    first.clear()
    child.set(4)
    assert scrape(kind) == {("a", "1"): 4}


@pytest.mark.parametrize("kind", ["min", "livemax"])
def test_removed_child_is_zero_if_another_registry_has_removed_its_label_set(
    scrape: Scrape, kind: str
) -> None:
    first, second = make(kind), make(kind)
    first.labels("a", "1").set(7)
    child = second.labels("a", "1")
    first.clear()
    second.clear()
    assert child._value.get() == 0
    child.inc(3)
    assert child._value.get() == 3
    assert scrape(kind) == {}


@pytest.mark.parametrize("kind", ["counter", "sum", "max", "livemin"])
def test_child_of_another_registry_starts_at_zero_while_values_are_pending(
    scrape: Scrape, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write goes through the storage then."""
    first, second = make(kind), make(kind)
    first.labels("a", "1").inc(7)
    child = second.labels("a", "1")
    monkeypatch.setattr("web_prom.multiprocess.writing.value_file.ValueFile._append", _refuse_on_full_disk)
    Counter("waiting", "Help.", registry=CollectorRegistry())
    first.clear()
    child.inc(2)
    assert scrape(kind) == {("a", "1"): 2}


def test_unregistered_metrics_lose_no_value(scrape: Scrape) -> None:
    """A test suite empties registries and collects instruments: only the three methods remove anything."""
    registry = CollectorRegistry()
    counter = make("counter", registry=registry)
    counter.labels("a", "1").inc()
    registry.unregister(counter)
    del counter
    make("counter").labels("a", "1").inc()
    assert scrape("counter") == {("a", "1"): 2}


def test_remove_with_wrong_arguments_raises_the_same_error_as_in_one_process(shared: Path) -> None:
    counter = make("counter")
    with (
        pytest.raises(ValueError, match="Incorrect label count"),
        pytest.warns(UserWarning, match="implemented"),
    ):
        counter.remove("a")
    with pytest.raises(ValueError, match="No label names"), pytest.warns(UserWarning, match="implemented"):
        Counter("c", "Help.", registry=CollectorRegistry()).remove()
    counter.remove("never", "used")
    assert not (shared / "gauge_all_s0.db").exists()
    make("all").clear()
    assert not (shared / "gauge_all_s0.db").exists(), "no file is made for what is not there"


@has_remove_by_labels
def test_remove_by_labels_with_wrong_labels_raises_the_same_error_as_in_one_process(shared: Path) -> None:
    counter = make("counter")
    counter.labels("a", "1").inc()
    with (
        pytest.raises(ValueError, match="Unknown label names"),
        pytest.warns(UserWarning, match="implemented"),
    ):
        counter.remove_by_labels({"z": "a"})
    with pytest.raises(TypeError), pytest.warns(UserWarning, match="implemented"):
        counter.remove_by_labels("a")
    with pytest.warns(UserWarning, match="implemented"):
        counter.remove_by_labels({})
    assert counter._metrics


def test_replaced_methods_call_the_former_ones_without_shared_values(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prometheus_client.values.ValueClass", MutexValue)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    registry = CollectorRegistry()
    counter = make("counter", registry=registry)
    counter.labels("a", "1").inc()
    counter.labels("b", "1").inc()
    counter.remove("a", "1")
    assert samples(registry, "m_total", "x") == {("b",): 1}
    counter.clear()
    assert samples(registry, "m_total", "x") == {}
    assert not list(shared.glob("*.db"))


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["use", "use", "remove", "clear", "next"]),
            st.sampled_from("ab"),
            st.integers(1, 9),
        ),
        max_size=25,
    ),
    kind=st.sampled_from(KINDS),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_removals_gives_the_scrape_of_one_process(
    tmp_path_factory: pytest.TempPathFactory,
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[tuple[str, str, int]],
    kind: str,
) -> None:
    """The oracle is a dictionary; the next holder of the slot goes on with it, but for live gauges."""
    directory = tmp_path_factory.mktemp("slots")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
    next_holder()
    scrape, instrument = Scrape(directory), make(kind)
    expected: dict[tuple[str, ...], float] = {}
    for step, x, amount in steps:
        key = (x, "1")
        if step == "use":
            use(instrument.labels(*key), amount)
            adds = kind in ("counter", "summary", "histogram")
            expected[key] = (expected.get(key, 0.0) if adds else 0.0) + amount
        elif step == "remove":
            instrument.remove(*key)
            expected.pop(key, None)
        elif step == "clear":
            instrument.clear()
            expected.clear()
        else:
            next_holder()
            instrument = make(kind)
            current_storage.process_storage().attach(
                shared_value.SharedValue("counter", "other", "other_total", (), (), "Help.")
            )
            if kind.startswith("live"):
                expected.clear()
        assert scrape(kind) == expected


# Threads, a full disk, and the marks -----------------------------------------------------------------


def test_remove_while_other_threads_write_loses_no_other_value(shared: Path) -> None:
    """Nothing is written to places that belong to others, and what is used afterwards begins at zero."""
    instrument = make("histogram")
    kept = Counter("kept", "Help.", ["x"], registry=CollectorRegistry())
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            instrument.labels("a", "1").observe(1)
            kept.labels("b").inc()

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(300):
            instrument.labels(str(number), "1").observe(1)
            instrument.remove("a", "1")
            instrument.remove(str(number), "1")
            if not number % 50:
                instrument.clear()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    instrument.clear()
    scrape = Scrape(shared)
    assert scrape("histogram") == {}
    instrument.labels("a", "1").observe(1)
    assert scrape("histogram") == {("a", "1"): 1}
    found = {
        s.labels["le"]: s.value
        for family in scrape.warm.collect()
        for s in family.samples
        if s.name == "m_bucket"
    }
    assert found == {"1.0": 1, "5.0": 1, "+Inf": 1}


def test_remove_includes_pending_values(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk: it is not written when there is room again."""
    counter = make("counter")
    counter.labels("a", "1").inc()
    with monkeypatch.context() as context:
        context.setattr("web_prom.multiprocess.writing.value_file.ValueFile._append", _refuse_on_full_disk)
        for x in "bc":
            counter.labels(x, "1").inc()
        counter.remove("b", "1")
        counter.remove("a", "1")
    current_storage.process_storage()._retry_at = 0.0
    counter.labels("d", "1").inc()
    assert Scrape(shared)("counter") == {("c", "1"): 1, ("d", "1"): 1}


def test_removed_values_differ_from_values_in_use() -> None:
    """They change no sum, are no least or greatest value, and are equal to themselves."""
    for mark in (REMOVED, REMOVING):
        assert 0 < mark < 1e-300
        assert 1.0 + mark == 1.0
    assert removed_value("min") == removed_value("livemin") > 1e308
    assert removed_value("max") == removed_value("livemax") < -1e308
