"""Starts the measurements of the project in a worker of Celery or RQ, which loads no middleware."""

from __future__ import annotations

import sys

from django_prom import conf
from web_prom import jobs


def install() -> None:
    """Measure the tasks of Celery, if the project has imported it, and prepare for those of RQ.

    Creates nothing: a process gets metrics with its first task. So commands of ``manage.py`` get none.
    """
    jobs.add_setup(start)
    if "celery" in sys.modules:
        jobs.connect_celery()


def uninstall() -> None:
    """Start nothing with the next task: the settings have changed."""
    jobs.remove_setup(start)


def start() -> None:
    """Start the measurements that the settings switch on."""
    conf.instrumentation()
