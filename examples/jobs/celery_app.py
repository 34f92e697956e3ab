"""The shop's jobs under Celery, measured with Celery's signals.

From the repository's directory, with a Redis at its usual port::

    mkdir -p /tmp/jobs-metrics
    export PROMETHEUS_MULTIPROC_DIR=/tmp/jobs-metrics
    celery --workdir examples -A jobs.celery_app worker --concurrency 2
"""

from typing import Any

from celery import Celery, signals
from celery.exceptions import TimeLimitExceeded, WorkerLostError

from jobs import metrics, tasks
from jobs.settings import REDIS_URL

app = Celery("jobs", broker=REDIS_URL, backend=REDIS_URL)
app.conf.broker_connection_retry_on_startup = True

app.task(tasks.send_receipt, name="send_receipt")
app.task(tasks.charge, name="charge")
app.task(tasks.export, name="export")
app.task(
    tasks.fetch_rates,
    name="fetch_rates",
    autoretry_for=(ConnectionError,),
    max_retries=3,
    default_retry_delay=0,
)

_begun: dict[str, float] = {}


def serve(**_: Any) -> None:
    """Answer scrapes for all processes of this worker. Called in the parent, before it has children."""
    metrics.serve({"celery": "celery"})


def begin(task_id: str, **_: Any) -> None:
    """Start to measure a task, in the child process that runs it."""
    _begun[task_id] = metrics.begin()


def end(task_id: str, task: Any, state: str, **_: Any) -> None:
    """Count a task by its final state: success, failure, retry, ignored, rejected."""
    begun = _begun.pop(task_id, None)
    if begun is not None:
        metrics.end(task.name, state.lower(), begun)


def lose(sender: Any, exception: BaseException, **_: Any) -> None:
    """Count a task whose process was killed, for example by Celery at the hard time limit.

    Celery sends the signal of these two failures in the parent process, and that of any other in the child.
    """
    if isinstance(exception, WorkerLostError | TimeLimitExceeded):
        metrics.lose(sender.name)


signals.worker_init.connect(serve)
signals.task_prerun.connect(begin)
signals.task_postrun.connect(end)
signals.task_failure.connect(lose)
