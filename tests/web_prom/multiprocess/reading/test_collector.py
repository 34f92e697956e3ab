"""The collector of a directory: holders, registries, threads, forks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
from prometheus_client.parser import text_string_to_metric_families

from tests.web_prom.multiprocess.reading.value_files import Worker, render
from tests.web_prom.support import samples, serve
from web_prom.errors import DirectoryError
from web_prom.multiprocess.reading.collector import WorkersCollector, collector_for


def test_collector_for_returns_one_collector_for_each_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is found by its absolute path."""
    monkeypatch.chdir(tmp_path)
    assert collector_for(tmp_path / "a") is collector_for("a") is collector_for(f"{tmp_path}/b/../a")
    assert collector_for("a") is not collector_for("b")


def test_collector_for_refuses_an_empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be the working directory."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DirectoryError, match="its path is empty"):
        collector_for("")
    assert collector_for(".") is collector_for(tmp_path)


def test_collector_for_logs_once_that_a_directory_does_not_exist(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be created later."""
    directory = tmp_path / "shared"
    assert [list(collector_for(directory).collect()) for _ in range(3)] == [[], [], []]
    (record,) = caplog.records
    assert f"the directory {directory} does not exist" in record.getMessage()
    directory.mkdir()
    Worker(directory, "s0").inc("a")
    assert samples(collector_for(directory), "a_total") == {(): 1}
    assert len(caplog.records) == 1


def test_collector_reads_the_holders_from_the_locks_by_default(worker: Worker) -> None:
    """Here no slot is held."""
    worker.gauge("livesum", "live", 2.0)
    worker.inc("a")
    collector = collector_for(worker.directory)
    assert samples(collector, "a_total") == {(): 1}
    assert samples(collector, "live") == {}
    assert collector.workers == {}


def test_collector_works_in_a_registry_of_prometheus_client(worker: Worker) -> None:
    """The WSGI application of prometheus_client serves the registry."""
    registry = CollectorRegistry()
    registry.register(WorkersCollector(worker.directory, dict))
    worker.inc("a", amount=3)
    assert "a_total 3.0" in serve(make_wsgi_app(registry)).decode()
    worker.inc("a")
    assert "a_total 4.0" in serve(make_wsgi_app(registry)).decode()
    assert registry.get_sample_value("a_total") == 4


def test_collector_gives_complete_scrapes_to_several_threads(worker: Worker) -> None:
    """The last scrape has all label sets."""
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


def test_collector_starts_without_caches_in_a_forked_child(worker: Worker) -> None:
    """Another thread of the parent may hold the lock, and the child does not have this thread."""
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
