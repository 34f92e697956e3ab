"""The collector of a directory: which files count, whose it is, and as part of a registry."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
from prometheus_client.multiprocess import mark_process_dead
from prometheus_client.parser import text_string_to_metric_families

from tests.web_prom.multiprocess.reading.value_files import Worker, render
from tests.web_prom.support import samples, serve
from web_prom.multiprocess.reading.collector import WorkersCollector, collector_for


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """Return a worker of web-prom."""
    worker = Worker(tmp_path, "s0")
    yield worker
    worker.close()


def test_live_gauges_count_while_their_slot_is_held(worker: Worker) -> None:
    """Whatever else a dead worker left counts on; whoever takes the slot writes live gauges of its own."""
    held = {0: 100, 1: 101}
    other = Worker(worker.directory, "s1")
    for each in (worker, other):
        each.gauge("livesum", "live", 2.0)
        each.gauge("liveall", "live_by_worker", 2.0)
        each.gauge("sum", "lasting", 2.0)
        each.inc("a")
    collector = WorkersCollector(worker.directory, lambda: held)
    assert samples(collector, "live") == samples(collector, "lasting") == {(): 4}
    assert (collector.files, collector.workers) == (8, {0: 100, 1: 101})
    del held[1]
    assert samples(collector, "live") == {(): 2}
    assert samples(collector, "live_by_worker", "pid") == {("s0",): 2}
    assert samples(collector, "lasting") == {(): 4}
    assert samples(collector, "a_total") == {(): 2}
    assert (collector.files, collector.workers) == (6, {0: 100})
    other.remove("gauge", "livesum")
    held[1] = 102
    assert samples(collector, "live") == {(): 2}
    other.gauge("livesum", "live", 5.0)
    assert samples(collector, "live") == {(): 7}
    held.clear()
    assert samples(collector, "live") == {}
    other.close()


def test_live_gauges_of_prometheus_client_go_when_their_process_is_marked_dead(tmp_path: Path) -> None:
    """They have no slot that anybody could hold."""
    worker = Worker(tmp_path, "17")
    worker.gauge("livemax", "live", 2.0)
    worker.gauge("max", "lasting", 2.0)
    collector = WorkersCollector(tmp_path, dict)
    assert samples(collector, "live") == {(): 2}
    mark_process_dead(17, str(tmp_path))  # type: ignore[no-untyped-call]
    assert samples(collector, "live") == {}
    assert samples(collector, "lasting") == {(): 2}
    worker.close()


def test_a_label_set_that_no_file_has_leaves_the_scrape_and_the_memory(worker: Worker) -> None:
    """Names, keys and label sets: whatever is kept is of files that are there."""
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


def test_a_label_set_that_went_with_its_file_comes_again(worker: Worker) -> None:
    """Under the same key, after a scrape without it."""
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


def test_several_files_that_come_at_once(worker: Worker) -> None:
    """With label sets that are known and others that are new."""
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


def test_columns_are_used_again(worker: Worker) -> None:
    """A thousand workers one after another leave no trace, and get no other's label."""
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


def test_one_collector_for_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is named."""
    monkeypatch.chdir(tmp_path)
    assert collector_for(tmp_path / "a") is collector_for("a") is collector_for(f"{tmp_path}/b/../a")
    assert collector_for("a") is not collector_for("b")


def test_by_default_the_locks_in_the_directory_tell_who_lives(worker: Worker) -> None:
    """Nobody holds a slot here."""
    worker.gauge("livesum", "live", 2.0)
    worker.inc("a")
    collector = collector_for(worker.directory)
    assert samples(collector, "a_total") == {(): 1}
    assert samples(collector, "live") == {}
    assert collector.workers == {}


def test_prometheus_clients_own_application_serves_it(worker: Worker) -> None:
    """Registered as any other collector."""
    registry = CollectorRegistry()
    registry.register(WorkersCollector(worker.directory, dict))
    worker.inc("a", amount=3)
    assert "a_total 3.0" in serve(make_wsgi_app(registry)).decode()
    worker.inc("a")
    assert "a_total 4.0" in serve(make_wsgi_app(registry)).decode()
    assert registry.get_sample_value("a_total") == 4


def test_threads_take_turns(worker: Worker) -> None:
    """Every scrape is whole, and the last one has everything."""
    collector = WorkersCollector(worker.directory, dict)
    texts: list[bytes] = []
    failures: list[BaseException] = []

    def scrape() -> None:
        try:
            for _ in range(20):
                texts.append(render(collector, generate_latest, "text/plain"))
                collector.collect()
        except BaseException as error:
            failures.append(error)

    worker.observe("h", 0.5, {"x": "first"})
    threads = [threading.Thread(target=scrape) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(100):
        worker.observe("h", 0.5, {"x": str(number)})
    for thread in threads:
        thread.join()
    assert not failures
    for text in texts:
        (family,) = text_string_to_metric_families(text.decode())
        assert len({(sample.name, *sample.labels.items()) for sample in family.samples}) == len(
            family.samples
        )
    assert len(samples(collector, "h_count", "x")) == 101


def test_a_child_begins_anew(worker: Worker) -> None:
    """Its parent may have been in the midst of a scrape, in another thread, which the child does not have."""
    worker.inc("a")
    collector = WorkersCollector(worker.directory, dict)
    assert samples(collector, "a_total") == {(): 1}
    with collector._view().lock:
        child = os.fork()
        if not child:
            try:
                os._exit(0 if samples(collector, "a_total") == {(): 1} else 1)
            finally:
                os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert samples(collector, "a_total") == {(): 1}
