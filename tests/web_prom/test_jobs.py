"""Queries of jobs of Celery and RQ."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Retry
from prometheus_client import CollectorRegistry

from tests.web_prom.support import python
from web_prom import jobs
from web_prom.config import Config
from web_prom.database.activation import activate, default_recorder
from web_prom.database.recorder import DatabaseRecorder
from web_prom.errors import ConfigError
from web_prom.jobs import JobQueries, instrument_celery
from web_prom.metrics.query_tally import open_tally
from web_prom.metrics.recorder import Recorder


def query(number: int = 1) -> None:
    """Have the process run queries."""
    recorder = default_recorder()
    assert recorder is not None
    for _ in range(number):
        recorder.observe("sqlite", "main", "SELECT 1", 0.5)


@pytest.fixture(autouse=True)
def _no_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the applications of other tests."""
    monkeypatch.setattr("web_prom.database.activation._recorders", [])


@pytest.fixture
def database(registry: CollectorRegistry) -> Iterator[DatabaseRecorder]:
    """Return the database recorder of an application."""
    recorder = Recorder(Config(database=True), registry)
    yield activate(recorder)
    del recorder


@pytest.fixture
def app() -> Iterator[Celery]:
    """Return an application of Celery that runs its tasks at once."""
    app = Celery("shop", set_as_current=False)
    app.conf.task_always_eager = True
    yield app
    jobs.disconnect_celery()


def counts(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """Return the queries by method and route."""
    return {
        (sample.labels["method"], sample.labels["route"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "http_request_db_queries_total"
    }


def test_celery_task_has_its_queries(
    app: Celery, database: DatabaseRecorder, registry: CollectorRegistry
) -> None:
    instrument_celery(registry=registry)
    task = app.task(query, name="shop.query")
    task.delay(2)
    task.delay(3)
    assert counts(registry) == {("_task", "shop.query"): 5}
    repeated = {"method": "_task", "route": "shop.query"}
    assert registry.get_sample_value("http_request_db_repeated_queries_total", repeated) == 1


def test_celery_task_inside_of_a_request_and_of_a_task_has_its_own_name(
    app: Celery, database: DatabaseRecorder, registry: CollectorRegistry
) -> None:
    """Afterwards the queries belong to the request and the outer task again."""
    instrument_celery(registry=registry)
    inner = app.task(query, name="inner")

    def run() -> None:
        query()
        inner.delay(2)
        query()

    outer = app.task(run, name="outer")
    tally = open_tally(database)
    query()
    outer.delay()
    query()
    assert tally.close().queries == 2  # type: ignore[union-attr]
    assert counts(registry) == {("_task", "inner"): 2, ("_task", "outer"): 2}


def test_celery_task_that_fails_or_is_retried_has_its_queries(
    app: Celery, database: DatabaseRecorder, registry: CollectorRegistry
) -> None:
    """The error is that of the task."""
    instrument_celery(registry=registry)

    def fail(self: Any) -> None:
        query()
        raise KeyError("mine")

    def retry(self: Any) -> None:
        query()
        if self.request.retries < 2:
            raise self.retry(countdown=0)

    result = app.task(fail, name="fail", bind=True).apply()
    assert isinstance(result.result, KeyError)
    try:
        app.task(retry, name="retry", bind=True).apply()
    except Retry:
        pytest.fail("Celery runs the attempts at once")
    assert counts(registry) == {("_task", "fail"): 1, ("_task", "retry"): 3}


def test_celery_tasks_of_threads_are_apart(
    app: Celery, database: DatabaseRecorder, registry: CollectorRegistry
) -> None:
    instrument_celery(registry=registry)
    barrier = threading.Barrier(2)

    def run(number: int) -> None:
        barrier.wait(60)
        query(number)
        barrier.wait(60)

    tasks = [app.task(run, name=name) for name in ("one", "two")]
    threads = [threading.Thread(target=task.apply, args=([number],)) for number, task in enumerate(tasks, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts(registry) == {("_task", "one"): 1, ("_task", "two"): 2}


def test_celery_worker_without_an_application_creates_the_families(
    app: Celery, registry: CollectorRegistry
) -> None:
    """With the first task, so that a program that only sends tasks has no metrics."""
    instrument_celery(registry=registry, constant_labels={"site": "north"})
    assert not list(registry.collect())
    app.task(query, name="query").delay()
    labels = {"method": "_task", "route": "query", "site": "north"}
    assert registry.get_sample_value("http_request_db_queries_total", labels) == 1


def test_celery_setting_that_is_wrong_is_an_error_at_once() -> None:
    with pytest.raises(ConfigError, match="naming"):
        instrument_celery(naming="mine")


def test_celery_setup_that_fails_changes_no_task(
    app: Celery, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker runs without metrics, and the log says so once."""
    other = Recorder(Config(namespace="other"), registry)
    instrument_celery(registry=registry)

    def seven() -> int:
        return 7

    task = app.task(seven, name="seven")
    assert [task.delay().get(), task.delay().get()] == [7, 7]
    assert caplog.text.count("jobs are not measured") == 1
    del other


class Job:
    """A job of RQ."""

    func_name = "shop.jobs.query"


class BrokenJob:
    """A job of RQ whose message cannot be read."""

    @property
    def func_name(self) -> str:
        raise ValueError


class Worker:
    """A worker of RQ."""

    def perform_job(self, job: Any, queue: str) -> bool:
        query()
        return queue == "default"


class MeasuredWorker(JobQueries, Worker):
    """A worker whose queries are measured."""


def test_rq_job_has_its_queries(database: DatabaseRecorder, registry: CollectorRegistry) -> None:
    assert MeasuredWorker().perform_job(Job(), "default") is True
    assert MeasuredWorker().perform_job(BrokenJob(), "other") is False
    assert counts(registry) == {("_task", "shop.jobs.query"): 1, ("_task", "_unknown"): 1}


def test_rq_job_runs_if_nothing_is_measured() -> None:
    class Plain:
        def perform_job(self, job: Any) -> str:
            return str(job.func_name)

    class Measured(JobQueries, Plain):
        pass

    assert Measured().perform_job(Job()) == "shop.jobs.query"


@pytest.mark.slow
def test_jobs_import_neither_celery_nor_databases() -> None:
    code = """
        import sys
        from web_prom.jobs import JobQueries
        print([name for name in ("celery", "rq", "web_prom.database.activation") if name in sys.modules])
    """
    assert python(code).strip() == "[]"
