"""Merging of histograms with different buckets."""

from __future__ import annotations

import math

import pytest

from tests.web_prom.multiprocess.reading.value_files import Worker
from tests.web_prom.support import samples
from web_prom.multiprocess.reading.collector import WorkersCollector

pytestmark = pytest.mark.usefixtures("removed_files_are_dropped_at_once")


def test_buckets_of_a_new_holder_of_the_slot_are_merged(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """The sum continues. The new buckets are the last entries of the file."""
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


def test_observations_in_existing_buckets_count_after_buckets_were_added(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """Only an existing sum and an existing bucket change. The entries of one file were predicted."""
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


def test_buckets_may_be_added_to_several_label_sets_between_scrapes(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """The file also gets label sets that only another file had."""
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
