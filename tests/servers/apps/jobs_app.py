"""A Django project whose jobs run queries, for a worker of Celery and for a worker of RQ."""

from __future__ import annotations

import os
from typing import Any

import django
import rq
from celery import Celery, signals
from django.conf import settings
from django.db import connection

from web_prom import start_http_server
from web_prom.jobs import JobQueries

settings.configure(
    INSTALLED_APPS=["django_prom"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    SECRET_KEY="for tests",
    USE_TZ=True,
    PROM_DATABASE=True,
)
django.setup()

app = Celery("jobs", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.broker_connection_retry_on_startup = True


def report(queries: int) -> int:
    """Run so many queries."""
    with connection.cursor() as cursor:
        for _ in range(queries):
            cursor.execute("SELECT 1")
    return queries


def serve(**_: Any) -> None:
    """Answer scrapes for all processes of this worker."""
    start_http_server(int(os.environ["METRICS_PORT"]))


app.task(report, name="report")
signals.worker_init.connect(serve)


class Worker(JobQueries, rq.Worker):  # type: ignore[misc]
    """A worker that counts the queries of its jobs."""

    def work(self, *args: Any, **options: Any) -> bool:
        serve()
        return bool(super().work(*args, **options))
