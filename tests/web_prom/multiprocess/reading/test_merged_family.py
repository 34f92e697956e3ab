"""What many files come to, with prometheus_client as the oracle on the same files, while they grow and go."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator
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

# Few names, so that they meet: also in files of different kinds.
NAMES = ("a", "b", "a_b", "http_requests", "http:requests", "ünï.cöde", "a_created")


def is_allowed(name: str) -> bool:
    """Tell whether this version of prometheus_client allows a name; older ones know no UTF-8 names."""
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


@pytest.fixture(autouse=True)
def _files_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that vanishes is gone: no process is there to make it again."""
    monkeypatch.setattr("web_prom.multiprocess.reading.directory_view._MISSING_SECONDS", 0.0)


class Files(RuleBasedStateMachine):
    """Workers write, begin, die and are followed by others; between any two steps there may be a scrape."""

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
        # A label that is called pid is in the way where prometheus_client merges files of several kinds: it
        # shows two samples with the same labels then, which Prometheus would refuse.
        name = f"{mode}_pid" if "pid" in labels else name
        # The one difference to prometheus_client: of other modes no timestamps are kept, not even for this.
        if self.latest.setdefault(name, "recent" in mode) == ("recent" in mode):
            self.workers[owner].gauge(mode, name, value, labels, timestamp)

    # Names that only one kind has: where files of several kinds have one, its type depends on the first file.
    @rule(owner=st.sampled_from(("s0", "s1")), kind=st.sampled_from(REMOVABLE), amount=amounts)
    def use_what_is_removed_later(self, owner: str, kind: str, amount: float) -> None:
        worker, name, labels = self.workers[owner], f"r_{kind}", {"r": "x" if amount > 1e6 else "y"}
        if kind == "counter":
            worker.inc(name, labels, amount)
        elif kind == "summary":
            worker.summarize(name, amount, labels)
        elif kind == "histogram":
            worker.observe(name, amount, labels)
        else:
            worker.gauge(kind, name, amount, labels, amount % 3)

    @precondition(lambda self: self.removable())
    @rule(data=st.data())
    def remove_a_label_set(self, data: st.DataObject) -> None:
        file, labels = data.draw(st.sampled_from(self.removable()))
        file.remove([key for key in file.all_keys() if labels in key])

    @rule(slot=st.sampled_from((0, 1, 2, 10)))
    def take_or_leave_a_slot(self, slot: int) -> None:
        if self.held.pop(slot, None) is None:
            self.held[slot] = 100 + slot

    @precondition(lambda self: any(worker.files for worker in self.workers.values()))
    @rule(data=st.data())
    def remove_a_file(self, data: st.DataObject) -> None:
        every = [(owner, *kind) for owner, worker in self.workers.items() for kind in worker.files]
        owner, kind, mode = data.draw(st.sampled_from(every))
        self.workers[owner].remove(kind, mode)

    @invariant()
    def a_scrape_is_as_prometheus_client_has_it(self) -> None:
        with tempfile.TemporaryDirectory() as copies:
            files = [without_removed(Path(path), Path(copies)) for path in self.files()]
            expected = contents(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]
        metrics = list(self.collector.collect())
        found = contents(metrics)
        for family in found.keys() - expected.keys():
            assert family[0].startswith("r_")
            assert not found.pop(family), "all its label sets were removed"
        assert same(found, expected), (found, expected)
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
        """Return the label sets that can be removed: the file, and how the labels end in a key."""
        found: dict[tuple[WebPromFile, str], None] = {}
        for owner in ("s0", "s1"):
            for file in self.workers[owner].files.values():
                for key in file.all_keys() if isinstance(file, WebPromFile) else ():
                    if key.startswith('["r_'):
                        found[file, key[key.index('"r": ') : key.index("}")]] = None  # type: ignore[index]
        return list(found)

    def files(self) -> list[str]:
        """Return the files that count, in the order in which web-prom takes them."""
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
    """Copy a value file without the label sets that were removed, for prometheus_client to read."""
    every: Any = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    entries = [(*json.loads(key), key, value, timestamp) for key, value, timestamp, _ in every]
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


Contents = dict[tuple[str, str, str], list[tuple[str, list[tuple[str, str]], float]]]


def contents(metrics: Iterable[Metric]) -> Contents:
    """Return the samples of each family, in an order that does not depend on who merged them."""
    return {
        (metric.name, metric.type, metric.documentation): sorted(
            ((sample.name, sorted(sample.labels.items()), sample.value) for sample in metric.samples),
            key=repr,
        )
        for metric in metrics
    }


def same(found: Contents, expected: Contents) -> bool:
    """Compare integers exactly and other numbers within what rounding may differ."""
    return found.keys() == expected.keys() and all(
        len(samples) == len(expected[family])
        and all(_same_sample(mine, theirs) for mine, theirs in zip(samples, expected[family], strict=True))
        for family, samples in found.items()
    )


def _same_sample(mine: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    if mine[:2] != theirs[:2]:
        return False
    value, other = mine[2], theirs[2]
    if value == other or (math.isnan(value) and math.isnan(other)):
        return True
    return not (value.is_integer() and other.is_integer()) and math.isclose(value, other, rel_tol=1e-12)


Files.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
test_files_grow_and_go = Files.TestCase


@pytest.fixture
def held() -> dict[int, int]:
    """Return the slots that are held, for a test to change."""
    return {0: 100, 1: 101}


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    """Return two workers of web-prom."""
    both = Worker(tmp_path, "s0"), Worker(tmp_path, "s1")
    yield both
    for worker in both:
        worker.close()


@pytest.fixture
def collector(tmp_path: Path, held: dict[int, int]) -> WorkersCollector:
    """Return a collector of the directory."""
    return WorkersCollector(tmp_path, lambda: held)


@pytest.mark.parametrize("order", list(permutations(("s1", "s2", "17"))))
def test_fault_30_a_sum_never_falls_when_a_file_is_added(tmp_path: Path, order: tuple[str, ...]) -> None:
    """0.1 + 0.2 + 0.3 is an ulp more than 0.3 + 0.2 + 0.1: in another order the sum would fall."""
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


def test_sums_beyond_what_a_double_holds(workers: tuple[Worker, Worker], collector: WorkersCollector) -> None:
    """As prometheus_client adds: infinity, and no number."""
    for worker, amount in zip(workers, (1e308, 1.7e308), strict=True):
        worker.inc("large", amount=amount)
        worker.observe("h", amount)
    for worker, amount in zip(workers, (math.inf, -math.inf), strict=True):
        worker.inc("both", amount=amount)
        worker.observe("both_h", amount)
    assert samples(collector, "large_total") == samples(collector, "h_sum") == {(): math.inf}
    assert math.isnan(samples(collector, "both_total")[()])
    assert math.isnan(samples(collector, "both_h_sum")[()])


def test_a_changed_help_text_makes_another_entry_and_no_other_series(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """A slot goes from one release of an application to the next: what both counted adds up."""
    first, second = workers
    for documentation, amount in (("Old.", 1.0), ("New.", 2.0)):
        first.file("counter").set(key_of("a", "a_total", {"x": "y"}, documentation), amount)
        first.observe("h", 0.5, documentation=documentation)
        second.file("gauge", "mostrecent").set(key_of("g", "g", {}, documentation), amount, amount)
        second.file("gauge", "all").set(key_of("i", "i", {}, documentation), amount)
        assert collector.collect()
    assert samples(collector, "a_total", "x") == {("y",): 3}
    assert samples(collector, "h_bucket", "le") == {("0.1",): 0, ("1.0",): 2, ("+Inf",): 2}
    assert samples(collector, "g") == {(): 2}
    assert samples(collector, "i", "pid") == {("s1",): 2}
    assert {metric.documentation for metric in collector.collect()} == {"Old."}
    first.remove("counter")
    first.remove("histogram")
    assert {metric.name for metric in collector.collect()} == {"g", "i"}


def test_two_entries_of_one_sample_that_are_found_at_once_both_count(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """The collector begins after both releases have written."""
    first, _ = workers
    for documentation, amount in (("Old.", 1.0), ("New.", 2.0)):
        first.file("counter").set(key_of("a", "a_total", {"x": "y"}, documentation), amount)
        first.file("gauge", "min").set(key_of("g", "g", {}, documentation), amount)
    for _ in range(2):
        assert samples(collector, "a_total", "x") == {("y",): 3}
        assert samples(collector, "g") == {(): 1}


def test_the_latest_gauge_is_one_that_was_set(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """A timestamp of zero is of a gauge that was made and never set; of equal ones the first counts."""
    first, second = workers
    second.gauge("mostrecent", "g", 0.0)
    assert samples(collector, "g") == {}
    assert render(collector, *choose_encoder("")) == b"# HELP g Help.\n# TYPE g gauge\n"
    assert collector.series == 0
    first.gauge("mostrecent", "g", 1.0, timestamp=7.0)
    second.gauge("mostrecent", "g", 2.0, timestamp=7.0)
    assert samples(collector, "g") == {(): 1}
    second.gauge("mostrecent", "g", 2.0, timestamp=7.5)
    assert samples(collector, "g") == {(): 2}


def test_the_help_of_the_first_file_is_shown(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """In the order of the slots, whichever was there first."""
    first, second = workers
    second.file("counter").set(key_of("a", "a_total", {}, "Second."), 1)
    assert [metric.documentation for metric in collector.collect()] == ["Second."]
    first.file("counter").set(key_of("a", "a_total", {}, "First."), 1)
    assert [metric.documentation for metric in collector.collect()] == ["First."]
    first.remove("counter")
    assert [metric.documentation for metric in collector.collect()] == ["Second."]


def test_buckets_that_are_added_to_a_file(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """A slot is taken over by a process with other buckets: its sum goes on, its buckets come last."""
    first, second = workers
    for worker in workers:
        worker.observe("h", 0.5, {"x": "y"})
    assert samples(collector, "h_bucket", "le") == {("0.1",): 0, ("1.0",): 2, ("+Inf",): 2}
    first.observe("h", 0.2, {"x": "y"}, (0.1, 0.25, math.inf))
    assert samples(collector, "h_bucket", "le") == {("0.1",): 0, ("0.25",): 1, ("1.0",): 3, ("+Inf",): 3}
    first.observe("h", 0.2, {"x": "y"}, (0.1, 0.25, math.inf))
    second.observe("h", 5.0, {"x": "y"})
    assert samples(collector, "h_bucket", "le") == {("0.1",): 0, ("0.25",): 2, ("1.0",): 4, ("+Inf",): 5}
    first.remove("histogram")
    assert samples(collector, "h_bucket", "le") == {("0.1",): 0, ("1.0",): 1, ("+Inf",): 2}


def test_observations_in_old_buckets_after_others_were_added(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """Only the sum and a bucket that were there before change then; whether or not keys were foretold."""
    first, second = workers
    for path in ("/a", "/b"):
        for worker in (second, first):
            worker.observe("h", 0.5, {"path": path})
    assert samples(collector, "h_count", "path") == {("/a",): 2, ("/b",): 2}
    for path in ("/a", "/b"):
        first.observe("h", 0.2, {"path": path}, (0.1, 0.25, math.inf))
    assert samples(collector, "h_count", "path") == {("/a",): 3, ("/b",): 3}
    for path in ("/a", "/b"):
        first.observe("h", 5.0, {"path": path})
    assert samples(collector, "h_count", "path") == {("/a",): 4, ("/b",): 4}
    assert samples(collector, "h_bucket", "path", "le") == {
        (path, le): value
        for path in ("/a", "/b")
        for le, value in (("0.1", 0), ("0.25", 1), ("1.0", 3), ("+Inf", 4))
    }


def test_types_that_cannot_be_merged_do_not_fail_the_scrape(
    workers: tuple[Worker, Worker], collector: WorkersCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """A histogram in one file, and in another a gauge with a label that is no bound."""
    first, second = workers
    first.observe("a", 1.0)
    second.gauge("all", "a", 1.0, {"le": "no number"})
    second.inc("b")
    assert [metric.name for metric in collector.collect()] == ["b"]
    assert "the metric a has several types" in caplog.text


def test_buckets_that_are_added_to_several_label_sets_at_once(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """All of it between two scrapes, beside label sets that are new to this file and not to another."""
    first, second = workers
    other_bounds = (0.1, 0.25, math.inf)
    for path in ("/a", "/c", "/d"):
        second.observe("h", 0.5, {"path": path})
    for path in ("/a", "/b"):
        first.observe("h", 0.5, {"path": path})
    assert samples(collector, "h_count", "path") == {("/a",): 2, ("/b",): 1, ("/c",): 1, ("/d",): 1}
    for path in ("/a", "/c", "/d", "/b"):
        first.observe("h", 0.5, {"path": path})
        first.observe("h", 0.2, {"path": path}, other_bounds)
    assert samples(collector, "h_count", "path") == {("/a",): 4, ("/b",): 3, ("/c",): 3, ("/d",): 3}
    assert samples(collector, "h_bucket", "path", "le")["/c", "0.25"] == 1


def test_a_name_of_several_types_in_one_file_twice(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """As a gauge of mode all, a file's last entry counts; under another help text it is its own."""
    first, _ = workers
    first.gauge("all", "a", 5.0)
    first.observe("a", 0.0, documentation="Old.")
    first.observe("a", 1.0, documentation="New.")
    expected = contents(MultiProcessCollector.merge(sorted(map(str, first.directory.glob("*.db")))))  # type: ignore[no-untyped-call]
    assert contents(collector.collect()) == expected
    assert samples(collector, "a_sum") == {(): 1}
