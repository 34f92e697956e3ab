"""The index of a value file: entries, keys, help texts, blocks."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.web_prom.multiprocess.reading.value_files import BOUNDS, Worker, key_of
from tests.web_prom.support import samples
from web_prom.multiprocess.file_format import HEADER, pack_entry
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.reading.keys import decode_key


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the keys that are read from now on, one by one."""
    seen: list[bytes] = []

    def decode_and_note(key: bytes) -> Any:
        seen.append(key)
        return decode_key(key)

    monkeypatch.setattr("web_prom.multiprocess.reading.keys.decode_key", decode_and_note)
    monkeypatch.setattr("web_prom.multiprocess.reading.file_group.decode_key", decode_and_note)
    return seen


@pytest.mark.parametrize("missing", [8, 16, 24])
@pytest.mark.parametrize(("metric_type", "sample"), [("counter", "a_total"), ("histogram", "a_sum")])
def test_fault_25_entry_that_ends_after_the_bytes_in_use_is_corrupt(
    worker: Worker, collector: WorkersCollector, *, metric_type: str, sample: str, missing: int
) -> None:
    """The family is known from the entry before. The rest of the entry is in the file."""
    data = b"".join(pack_entry(key_of("a", sample, {"x": x}).encode(), 1.0) for x in "yz")
    path = worker.directory / f"{metric_type}_s1.db"
    path.write_bytes(HEADER.pack(HEADER.size + len(data) - missing, 1) + data)
    worker.inc("b")
    assert samples(collector, "b_total") == {(): 1}
    assert samples(collector, sample) == {}
    assert (collector.files, collector.corrupt_files) == (1, 1)
    path.write_bytes(HEADER.pack(HEADER.size + len(data), 1) + data)
    assert samples(collector, sample, "x") == {("y",): 1, ("z",): 1}


@pytest.mark.parametrize(("metric_type", "sample"), [("counter", "a_total"), ("histogram", "a_sum")])
def test_fault_25_negative_key_length_is_corrupt(
    worker: Worker, collector: WorkersCollector, *, metric_type: str, sample: str
) -> None:
    """Python would take a negative index as an offset from the end, and find a key there."""
    key = key_of("a", sample, {}).encode()
    data = pack_entry(key, 1.0)
    length = len(key) - len(data) + 4 - (HEADER.size + 4)  # from the end of the file
    path = worker.directory / f"{metric_type}_s1.db"
    path.write_bytes(HEADER.pack(HEADER.size + len(data), 1) + struct.pack("=i", length) + data[4:])
    assert samples(collector, sample) == {}
    assert (collector.files, collector.corrupt_files) == (0, 1)


def test_each_key_is_decoded_once(worker: Worker, collector: WorkersCollector, reads: list[bytes]) -> None:
    """Of histograms, only the keys of the first label set and the keys of sums are decoded."""
    other = Worker(worker.directory, "s1")
    for each in (worker, other):
        for path in ("/a", "/b", "/c"):
            each.inc("a", {"path": path})
            each.observe("h", 0.5, {"path": path})
    assert samples(collector, "h_count", "path") == {("/a",): 2, ("/b",): 2, ("/c",): 2}
    assert sum(b"_bucket" in key for key in reads) == len(BOUNDS)
    # In each file, the first key of a family is decoded again, because the documentation may differ. The
    # first sum is decoded again too, because nothing predicted its buckets.
    assert len(reads) <= len(set(reads)) + 2 + 2 + 1
    del reads[:]
    for each in (worker, other):
        each.observe("h", 0.5, {"path": "/b"})
        each.inc("a", {"path": "/b"})
    assert samples(collector, "h_count", "path") == {("/a",): 2, ("/b",): 4, ("/c",): 2}
    assert reads == []
    worker.inc("a", {"path": "/d"})
    assert samples(collector, "a_total", "path")["/d",] == 1
    assert len(reads) == 1
    other.close()


def test_blocks_are_joined_if_a_file_grows_at_every_scrape(
    worker: Worker, collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred additions are read with a few calls."""
    for number in range(100):
        worker.inc("a", {"x": str(number)})
        worker.observe("h", 0.5, {"x": str(number)})
        assert len(samples(collector, "a_total", "x")) == number + 1
    calls: list[int] = []
    monkeypatch.setattr(
        "web_prom.multiprocess.reading.value_blocks.ValueBlock.read",
        lambda self, *_: calls.append(len(self.owners)),
    )
    collector.collect()
    assert sum(calls) == 100 + 100
    assert len(calls) <= 2 * 8


@pytest.mark.usefixtures("removed_files_are_dropped_at_once")
def test_entries_that_differ_in_the_help_text_are_one_series(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """Two releases of an application use a slot one after another. The counts of both are added."""
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


def test_two_entries_of_one_sample_count_if_both_are_new(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """The first scrape happens after both releases have written."""
    first, _ = workers
    for documentation, amount in (("Old.", 1.0), ("New.", 2.0)):
        first.file("counter").set(key_of("a", "a_total", {"x": "y"}, documentation), amount)
        first.file("gauge", "min").set(key_of("g", "g", {}, documentation), amount)
    for _ in range(2):
        assert samples(collector, "a_total", "x") == {("y",): 3}
        assert samples(collector, "g") == {(): 1}
