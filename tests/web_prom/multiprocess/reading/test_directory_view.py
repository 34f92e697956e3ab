"""The view of a directory: files that appear, vanish and return."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from tests.web_prom.multiprocess.reading.value_files import Worker, render
from tests.web_prom.support import samples
from web_prom.multiprocess.reading.collector import WorkersCollector


def test_label_sets_that_no_file_has_are_dropped_from_scrape_and_memory(worker: Worker) -> None:
    """Keys, label values, columns and families are dropped too."""
    other = Worker(worker.directory, "s1")
    worker.inc("a", {"x": "stays"})
    collector = WorkersCollector(worker.directory, dict)
    for number in range(3):
        other.inc("a", {"x": str(number)})
        other.observe("h", 1.0, {"x": str(number)})
        assert collector.collect()
        other.remove("counter")
        other.remove("histogram")
        assert samples(collector, "a_total", "x") == {("stays",): 1}
    groups = collector._view()._groups
    assert len(groups["counter", ""].label_sets) == 1
    assert not groups["counter", ""]._interned.keys() & set("012")
    assert len(groups["counter", ""].columns.order) == 1
    assert not groups["histogram", ""].predictions
    assert not groups["histogram", ""].families
    assert collector.series == 1
    assert render(collector, generate_latest, "text/plain").count(b"a_total{") == 1
    assert collector.series == 1, "counted as text as well"


def test_label_set_returns_with_a_new_file(worker: Worker) -> None:
    """The key is the same. There was a scrape without the file."""
    other = Worker(worker.directory, "s1")
    collector = WorkersCollector(worker.directory, dict)
    for x in ("stays", "goes"):
        worker.inc("a", {"x": x})
        worker.observe("h", 1.0, {"x": x})
    for number in range(3):
        if number:
            other.inc("a", {"x": "comes"}, number)
            other.observe("h", 1.0, {"x": "comes"})
        both = {("stays",): 1.0, ("goes",): 1.0}
        assert samples(collector, "a_total", "x") == both | ({("comes",): number} if number else {})
        assert samples(collector, "h_count", "x") == both | ({("comes",): 1} if number else {})
        if number:
            other.remove("counter")
            other.remove("histogram")
            assert samples(collector, "a_total", "x") == samples(collector, "h_count", "x") == both
            assert len(collector._view()._groups["histogram", ""].predictions) == 1


def test_several_new_files_are_read_in_one_scrape(worker: Worker) -> None:
    """They have known and new label sets."""
    collector = WorkersCollector(worker.directory, dict)
    workers = [worker, *(Worker(worker.directory, f"s{slot}") for slot in range(1, 9))]
    for count in (1, 4, 9):
        for slot, each in enumerate(workers[:count]):
            each.inc("a", {"x": "all"})
            each.inc("a", {"x": str(slot)})
            each.observe("h", 1.0, {"x": "all"})
        found = samples(collector, "a_total", "x")
        assert found.pop(("all",)) == samples(collector, "h_count", "x")["all",] == sum(found.values())
        assert found.keys() == {(str(slot),) for slot in range(count)}
    for each in workers[1:]:
        each.close()


def test_columns_of_removed_files_are_reused(worker: Worker) -> None:
    """Fifty workers, one after another, need two columns. No worker gets the label of another."""
    worker.gauge("all", "g", -1.0)
    collector = WorkersCollector(worker.directory, dict)
    for number in range(50):
        other = Worker(worker.directory, str(1000 + number))
        other.gauge("all", "g", number)
        other.inc("a")
        assert samples(collector, "g", "pid") == {("s0",): -1, (str(1000 + number),): number}
        other.remove("gauge", "all")
        other.remove("counter")
    assert len(collector._view()._groups["gauge", "all"].columns.owners) == 2


def test_file_that_is_removed_during_a_scrape_is_ignored(
    worker: Worker, collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is removed after the directory was listed and before it is opened."""
    worker.inc("a")
    worker.observe("h", 1.0)
    opened = os.open

    def vanishing(path: Any, *arguments: Any, **options: Any) -> int:
        if "histogram" in str(path):
            Path(path).unlink(missing_ok=True)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", vanishing)
    for _ in range(2):
        assert [metric.name for metric in collector.collect()] == ["a"]
        assert (collector.files, collector.corrupt_files) == (1, 0)
