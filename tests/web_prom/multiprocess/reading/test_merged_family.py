"""Merging of many files, compared with prometheus_client on the same files."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from tests.web_prom.multiprocess.reading.value_files import BOUNDS, WebPromFile, Worker, key_of, render
from tests.web_prom.support import samples
from web_prom.multiprocess.file_format import FileName, removed_value
from web_prom.multiprocess.reading.collector import WorkersCollector

pytestmark = pytest.mark.usefixtures("removed_files_are_dropped_at_once")

ACCEPTS = (
    "",
    "text/plain;version=1.0.0",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "text/plain;version=1.0.0;escaping=dots",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
    "application/openmetrics-text;version=1.0.0;escaping=values",
)


MODES = (
    "all",
    "liveall",
    "min",
    "livemin",
    "max",
    "livemax",
    "sum",
    "livesum",
    "mostrecent",
    "livemostrecent",
)


REMOVABLE = ("counter", "summary", "histogram", "histogram", "all", "min", "livemax", "sum", "mostrecent")


OWNERS = ("s0", "s1", "s2", "s10", "17", "4711")


# Few names, so that files of different types often have the same name.
NAMES = ("a", "b", "a_b", "http_requests", "http:requests", "ünï.cöde", "a_created")


def is_allowed(name: str) -> bool:
    """Return whether this version of prometheus_client allows a name. Old versions have no UTF-8 names."""
    try:
        Metric(name, "", "gauge")
    except ValueError:
        return False
    return True


owners = st.sampled_from(OWNERS)


names = st.sampled_from([*filter(is_allowed, NAMES)])


values_of_labels = st.one_of(
    st.sampled_from(("", "GET", "/a/<int:b>", '"', "\\", "\n", "%s", "%", "{}", "\0", "x" * 300)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


labels = st.dictionaries(
    st.sampled_from(("method", "a", "z", "le_", "pid", "mit punkt.")), values_of_labels, max_size=3
)


integers = st.integers(0, 2**40).map(float)


amounts = st.one_of(integers, st.floats(0, 1e9))


bounds = st.sampled_from((BOUNDS, BOUNDS, BOUNDS, (0.5, 1.0, math.inf), (1.0,), (math.inf,)))


class Files(RuleBasedStateMachine):
    """Workers start, write and stop, and others take their slots. Every step is followed by a scrape."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.workers = {owner: Worker(self.directory, owner) for owner in OWNERS}
        self.held = {0: 100}
        self.latest: dict[str, bool] = {}
        self.collector = WorkersCollector(self.directory, lambda: self.held)

    @rule(owner=owners, name=names, labels=labels, amount=amounts)
    def count(self, owner: str, name: str, labels: dict[str, str], amount: float) -> None:
        self.workers[owner].inc(name, labels, amount)

    @rule(owner=owners, name=names, labels=labels, amount=amounts)
    def summarize(self, owner: str, name: str, labels: dict[str, str], amount: float) -> None:
        self.workers[owner].summarize(name, amount, labels)

    @rule(owner=owners, name=names, labels=labels, amount=amounts, bounds=bounds, help=st.sampled_from("HHI"))
    def observe(  # noqa: PLR0917 - hypothesis passes them by name
        self, owner: str, name: str, labels: dict[str, str], amount: float, bounds: Any, help: str
    ) -> None:
        self.workers[owner].observe(name, amount, labels, bounds, help)

    @rule(
        owner=owners,
        mode=st.sampled_from(MODES),
        name=names,
        labels=labels,
        value=st.floats(),
        timestamp=st.sampled_from((0.0, 1.0, 2.0, 2.5)),
    )
    def set_gauge(  # noqa: PLR0917
        self, owner: str, mode: str, name: str, labels: dict[str, str], value: float, timestamp: float
    ) -> None:
        # If files of different types have a family with a label pid, prometheus_client returns two samples
        # with the same labels. Prometheus would refuse them.
        name = f"{mode}_pid" if "pid" in labels else name
        # The only difference to prometheus_client: timestamps of other modes are not kept, and do not count
        # here.
        if self.latest.setdefault(name, "recent" in mode) == ("recent" in mode):
            self.workers[owner].gauge(mode, name, value, labels, timestamp)

    # Each type has its own names. If two types had a name, the first file would define the type.
    @rule(owner=st.sampled_from(("s0", "s1")), type_or_mode=st.sampled_from(REMOVABLE), amount=amounts)
    def use_removable_label_sets(self, owner: str, type_or_mode: str, amount: float) -> None:
        worker, name, labels = self.workers[owner], f"r_{type_or_mode}", {"r": "x" if amount > 1e6 else "y"}
        if type_or_mode == "counter":
            worker.inc(name, labels, amount)
        elif type_or_mode == "summary":
            worker.summarize(name, amount, labels)
        elif type_or_mode == "histogram":
            worker.observe(name, amount, labels)
        else:
            worker.gauge(type_or_mode, name, amount, labels, amount % 3)

    @precondition(lambda self: self.removable())
    @rule(data=st.data())
    def remove_a_label_set(self, data: st.DataObject) -> None:
        file, labels = data.draw(st.sampled_from(self.removable()))
        file.remove([key for key in file.all_keys() if labels in key])

    @rule(slot=st.sampled_from((0, 1, 2, 10)))
    def acquire_or_release_a_slot(self, slot: int) -> None:
        if self.held.pop(slot, None) is None:
            self.held[slot] = 100 + slot

    @precondition(lambda self: any(worker.files for worker in self.workers.values()))
    @rule(data=st.data())
    def remove_a_file(self, data: st.DataObject) -> None:
        files = [(owner, *group) for owner, worker in self.workers.items() for group in worker.files]
        owner, metric_type, mode = data.draw(st.sampled_from(files))
        self.workers[owner].remove(metric_type, mode)

    @invariant()
    def scrape_equals_that_of_prometheus_client(self) -> None:
        with tempfile.TemporaryDirectory() as copies:
            files = [without_removed(Path(path), Path(copies)) for path in self.files()]
            expected = samples_by_family(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]
        metrics = list(self.collector.collect())
        found = samples_by_family(metrics)
        for family in found.keys() - expected.keys():
            assert family[0].startswith("r_")
            assert not found.pop(family), "all its label sets were removed"
        assert equal(found, expected), (found, expected)
        assert [metric.name for metric in metrics] == sorted({metric.name for metric in metrics})
        fresh = WorkersCollector(self.directory, lambda: self.held)
        for accept in ACCEPTS:
            encode, content_type = choose_encoder(accept)
            text = render(self.collector, encode, content_type)
            assert text == encode(_Registry(metrics)).removesuffix(b"# EOF\n")
            assert text == render(fresh, encode, content_type)
        assert self.collector.series == sum(len(metric.samples) for metric in metrics)
        assert self.collector.corrupt_files == 0

    def removable(self) -> list[tuple[WebPromFile, str]]:
        """Return the label sets that can be removed: the file, and the end of the labels in a key."""
        found: dict[tuple[WebPromFile, str], None] = {}
        for owner in ("s0", "s1"):
            for file in self.workers[owner].files.values():
                for key in file.all_keys() if isinstance(file, WebPromFile) else ():
                    if key.startswith('["r_'):
                        found[file, key[key.index('"r": ') : key.index("}")]] = None  # type: ignore[index]
        return list(found)

    def files(self) -> list[str]:
        """Return the files whose values count, in the order of web-prom."""
        found = []
        for path in self.directory.glob("*.db"):
            name = FileName.parse(path.name)
            assert name is not None
            if not (name.is_live and name.slot is not None and name.slot not in self.held):
                found.append((name.slot is None, name.slot or 0, path.name))
        return [str(self.directory / name) for _, _, name in sorted(found)]

    def teardown(self) -> None:
        for worker in self.workers.values():
            worker.close()
        shutil.rmtree(self.directory)


class _Registry:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def without_removed(path: Path, copies: Path) -> str:
    """Copy a value file without the removed label sets. prometheus_client reads the copy."""
    all_values: Any = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    entries = [(*json.loads(key), key, value, timestamp) for key, value, timestamp, _ in all_values]
    name = FileName.parse(path.name)
    assert name is not None
    removed = {
        (family, str(labels))
        for family, _, labels, _, _, value, _ in entries
        if value == removed_value(name.mode)
    }
    copy: Any = MmapedDict(str(copies / path.name))  # type: ignore[no-untyped-call]
    for family, _, labels, _, key, value, timestamp in entries:
        labels.pop("le", None)
        if (family, str(labels)) not in removed:
            copy.write_value(key, value, timestamp)
    copy.close()
    return str(copies / path.name)


SamplesByFamily = dict[tuple[str, str, str], list[tuple[str, list[tuple[str, str]], float]]]


def samples_by_family(metrics: Iterable[Metric]) -> SamplesByFamily:
    """Return the sorted samples of each family."""
    return {
        (metric.name, metric.type, metric.documentation): sorted(
            ((sample.name, sorted(sample.labels.items()), sample.value) for sample in metric.samples),
            key=repr,
        )
        for metric in metrics
    }


def equal(found: SamplesByFamily, expected: SamplesByFamily) -> bool:
    """Compare integers exactly, and other numbers except for rounding errors."""
    return found.keys() == expected.keys() and all(
        len(samples) == len(expected[family])
        and all(_equal_sample(mine, theirs) for mine, theirs in zip(samples, expected[family], strict=True))
        for family, samples in found.items()
    )


def _equal_sample(mine: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    if mine[:2] != theirs[:2]:
        return False
    value, other = mine[2], theirs[2]
    if value == other or (math.isnan(value) and math.isnan(other)):
        return True
    return not (value.is_integer() and other.is_integer()) and math.isclose(value, other, rel_tol=1e-12)


Files.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


test_merged_values_are_those_of_prometheus_client = pytest.mark.slow(Files.TestCase)


@pytest.fixture
def held() -> dict[int, int]:
    """Return the slots that are held, for a test to change."""
    return {0: 100, 1: 101}


@pytest.fixture
def collector(tmp_path: Path, held: dict[int, int]) -> WorkersCollector:
    """Return a collector of the directory."""
    return WorkersCollector(tmp_path, lambda: held)


@pytest.mark.parametrize("order", list(permutations(("s1", "s2", "17"))))
def test_fault_30_sum_never_decreases_when_a_file_is_added(tmp_path: Path, order: tuple[str, ...]) -> None:
    """Because of rounding, 0.1 + 0.2 + 0.3 is larger than 0.3 + 0.2 + 0.1."""
    assert 0.1 + 0.2 + 0.3 > 0.3 + 0.2 + 0.1
    collector = WorkersCollector(tmp_path, dict)
    for owner, amount in (*zip(order, (0.1, 0.2, 0.3), strict=True), ("s0", 0.0)):
        worker = Worker(tmp_path, owner)
        worker.inc("a", amount=amount)
        worker.observe("h", amount)
        worker.summarize("s", amount)
        worker.gauge("sum", "g", amount)
        worker.close()
        if owner in (order[-1], "s0"):
            for name in ("a_total", "h_sum", "s_sum", "g"):
                assert samples(collector, name) == {(): 0.6}


def test_sums_with_infinite_results_are_those_of_prometheus_client(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """The results are infinity and NaN."""
    for worker, amount in zip(workers, (1e308, 1.7e308), strict=True):
        worker.inc("large", amount=amount)
        worker.observe("h", amount)
    for worker, amount in zip(workers, (math.inf, -math.inf), strict=True):
        worker.inc("both", amount=amount)
        worker.observe("both_h", amount)
    assert samples(collector, "large_total") == samples(collector, "h_sum") == {(): math.inf}
    assert math.isnan(samples(collector, "both_total")[()])
    assert math.isnan(samples(collector, "both_h_sum")[()])


def test_help_text_comes_from_the_first_file(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """Files are ordered by slot."""
    first, second = workers
    second.file("counter").set(key_of("a", "a_total", {}, "Second."), 1)
    assert [metric.documentation for metric in collector.collect()] == ["Second."]
    first.file("counter").set(key_of("a", "a_total", {}, "First."), 1)
    assert [metric.documentation for metric in collector.collect()] == ["First."]
    first.remove("counter")
    assert [metric.documentation for metric in collector.collect()] == ["Second."]


def test_types_that_cannot_be_merged_do_not_make_the_scrape_fail(
    workers: tuple[Worker, Worker], collector: WorkersCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """One file has a histogram, another one a gauge whose label le is not a number."""
    first, second = workers
    first.observe("a", 1.0)
    second.gauge("all", "a", 1.0, {"le": "no number"})
    second.inc("b")
    assert [metric.name for metric in collector.collect()] == ["b"]
    assert "the metric a has several types" in caplog.text


def test_conflicting_types_are_merged_if_one_file_has_two_entries(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """The last entry of a gauge of mode all counts. Entries with different help texts both count."""
    first, _ = workers
    first.gauge("all", "a", 5.0)
    first.observe("a", 0.0, documentation="Old.")
    first.observe("a", 1.0, documentation="New.")
    expected = samples_by_family(MultiProcessCollector.merge(sorted(map(str, first.directory.glob("*.db")))))  # type: ignore[no-untyped-call]
    assert samples_by_family(collector.collect()) == expected
    assert samples(collector, "a_sum") == {(): 1}


def test_label_sets_with_null_characters_are_ordered_as_tuples(worker: Worker) -> None:
    """Names of labels that differ, and values with a zero in them, are ordered as tuples are."""
    values = [("x\0", "y"), ("x", "\0y"), ("x", ""), ("", "\0"), ("x\0", "\0")]
    for a, b in values:
        worker.inc("a", {"a": a, "b": b})
    collector = WorkersCollector(worker.directory, lambda: {0: 100})
    (metric,) = collector.collect()
    assert [(each.labels["a"], each.labels["b"]) for each in metric.samples] == sorted(values)
