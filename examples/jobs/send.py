"""Sends jobs, waits for them, and prints their outcomes.

From the repository's directory, beside a worker::

    PYTHONPATH=examples python -m jobs.send celery 10
"""

import sys
import time
from collections import Counter

from celery import Celery
from redis import Redis
from rq import Queue, Retry
from rq.job import JobStatus

from jobs.settings import REDIS_URL


def jobs(count: int) -> list[tuple[str, tuple[object, ...]]]:
    """Return receipts. Each fifth comes with a charge that fails, and rates that succeed after retries."""
    found: list[tuple[str, tuple[object, ...]]] = []
    run = time.time()
    for number in range(count):
        found.append(("send_receipt", (number,)))
        if number % 5 == 4:
            found.append(("charge", (-number,)))
            found.append(("fetch_rates", (f"{run}-{number}", 2)))
    return found


def with_celery(count: int) -> list[str]:
    """Send jobs to Celery by name, so that the functions need not be imported."""
    with Celery("sender", broker=REDIS_URL, backend=REDIS_URL) as app:
        results = [app.send_task(name, arguments) for name, arguments in jobs(count)]
        for result in results:
            result.get(propagate=False, timeout=120)
        return [str(result.state).lower() for result in results]


def with_rq(count: int) -> list[str]:
    """Send jobs to RQ."""
    with Redis.from_url(REDIS_URL) as redis:
        queue = Queue(connection=redis)
        retry = {"fetch_rates": Retry(max=3)}
        sent = [
            queue.enqueue(f"jobs.tasks.{name}", *arguments, retry=retry.get(name))
            for name, arguments in jobs(count)
        ]
        ends = {JobStatus.FINISHED: "success", JobStatus.FAILED: "failure"}
        while any(job.get_status() not in ends for job in sent):
            time.sleep(0.05)
        return [ends[job.get_status()] for job in sent]


if __name__ == "__main__":
    ended = {"celery": with_celery, "rq": with_rq}[sys.argv[1]](int(sys.argv[2]))
    print(", ".join(f"{number} {outcome}" for outcome, number in sorted(Counter(ended).items())))
