"""The shop's jobs under RQ, measured by subclasses of its workers, because RQ has no signals.

From the repository's directory, with a Redis at its usual port::

    mkdir -p /tmp/jobs-metrics
    export PROMETHEUS_MULTIPROC_DIR=/tmp/jobs-metrics
    rq worker --path examples --worker-class jobs.rq_worker.MeasuredWorker
"""

from typing import Any

from rq import SimpleWorker, Worker
from rq.job import Job

from jobs import metrics


class Measured:
    """Measures the jobs of a worker class."""

    def work(self, *args: Any, **options: Any) -> bool:
        """Answer scrapes for this worker and all work-horses that it forks, and then start to work."""
        metrics.serve({name: f"rq:queue:{name}" for name in self.queue_names()})  # type: ignore[attr-defined]
        return bool(super().work(*args, **options))  # type: ignore[misc]

    def perform_job(self, job: Job, *rest: Any) -> bool:
        """Run a job, in the work-horse, and count it."""
        may_retry = bool(job.retries_left)
        begun = metrics.begin()
        succeeded = bool(super().perform_job(job, *rest))  # type: ignore[misc]
        metrics.end(_name(job), "success" if succeeded else "retry" if may_retry else "failure", begun)
        return succeeded

    def handle_work_horse_killed(self, job: Job, *rest: Any) -> None:
        """Count a job whose work-horse was killed, in the worker."""
        metrics.lose(_name(job))
        super().handle_work_horse_killed(job, *rest)  # type: ignore[misc]


class MeasuredWorker(Measured, Worker):  # type: ignore[misc]
    """Forks a work-horse for each job."""


class MeasuredSimpleWorker(Measured, SimpleWorker):  # type: ignore[misc]
    """Runs the jobs itself."""


def _name(job: Job) -> str:
    return str(job.func_name).rpartition(".")[2]
