"""The index of a file of histograms: predictions, revisions, entries in several pieces."""

from __future__ import annotations

from pathlib import Path

from tests.web_prom.multiprocess.reading.value_files import BOUNDS, Worker, key_of, web_prom_file
from tests.web_prom.support import samples
from web_prom.multiprocess.file_format import pack_entry
from web_prom.multiprocess.reading.collector import WorkersCollector


def test_predicted_entries_count_when_all_of_them_are_in_use(
    worker: Worker, collector: WorkersCollector
) -> None:
    """They are in the file before the count of bytes in use includes them. They count once."""
    other = Worker(worker.directory, "s1")
    worker.observe("h", 0.5)
    assert samples(collector, "h_count") == {(): 1}
    other.observe("h", 5.0)
    file = web_prom_file(other, "histogram")
    file.claim(file.used - len(pack_entry(key_of("h", "h_bucket", {"le": "+Inf"}).encode())))
    assert samples(collector, "h_count") == {(): 1}
    file.claim(file.used)
    for _ in range(2):
        assert samples(collector, "h_count") == {(): 2}
        assert samples(collector, "h_bucket", "le") == {("0.1",): 0, ("1.0",): 1, ("+Inf",): 2}
    assert collector.corrupt_files == 0
    other.close()


def test_fault_25_bucket_bound_that_is_not_a_number_is_corrupt(
    worker: Worker, collector: WorkersCollector
) -> None:
    """The same label set counts in another file."""
    worker.observe("h", 0.5)
    other = Worker(worker.directory, "s1")
    other.observe("h", 0.5)
    other.file("histogram").set(key_of("h", "h_bucket", {"le": "five"}), 1.0)
    other.file("histogram").set(key_of("h", "h_bucket", {"le": "NaN"}), 1.0)
    assert samples(collector, "h_count") == {(): 1}
    assert collector.corrupt_files == 1
    other.close()


def test_revision_shows_that_a_bucket_has_changed(worker: Worker, collector: WorkersCollector) -> None:
    """The sum alone would not show it: an observation of zero does not change the sum."""
    worker.observe("h", 0.0)
    assert samples(collector, "h_bucket", "le")["0.1",] == 1
    worker.observe("h", 0.0)
    assert samples(collector, "h_bucket", "le")["0.1",] == 2
    file = worker.file("histogram")
    bucket, sum_key = key_of("h", "h_bucket", {"le": "0.1"}), key_of("h", "h_sum", {})
    file.set(bucket, 7.0)
    assert samples(collector, "h_bucket", "le")["0.1",] == 2, "the revision says that nothing was written"
    value, revision = file.get(sum_key)
    file.set(sum_key, value, revision + 1)
    assert samples(collector, "h_bucket", "le")["0.1",] == 7
    file.set(sum_key, value + 1, revision + 1)
    assert samples(collector, "h_sum") == {(): value + 1}


def test_every_bucket_is_compared_in_files_without_revisions(
    tmp_path: Path, collector: WorkersCollector
) -> None:
    """Timestamps in files of prometheus_client are always zero."""
    worker = Worker(tmp_path, "17")
    for count in (1, 2):
        worker.observe("h", 0.0)
        assert samples(collector, "h_bucket", "le")["0.1",] == count
    worker.close()


def test_entries_of_a_label_set_may_be_in_several_pieces(worker: Worker, collector: WorkersCollector) -> None:
    """Two threads may create two histograms at the same time, and a scrape may happen between the entries."""
    file = worker.file("histogram")
    for sample, le in [("sum", ""), *(("bucket", le) for le in ("0.1", "1.0", "+Inf"))]:
        for path in ("/a", "/b"):
            labels = {"path": path} | ({"le": le} if le else {})
            file.set(key_of("h", f"h_{sample}", labels), 1.0, 3.0)
            assert samples(collector, "h_sum", "path")[path,] == 1
    assert samples(collector, "h_count", "path") == {("/a",): 3, ("/b",): 3}
    worker.observe("h", 0.5, {"path": "/a"}, BOUNDS)
    worker.observe("h", 0.5, {"path": "/c"}, BOUNDS)
    assert samples(collector, "h_count", "path") == {("/a",): 4, ("/b",): 3, ("/c",): 1}
