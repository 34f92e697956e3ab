"""Work outside of requests: its queries are counted under the name of a task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from web_prom.database.activation import create_recorder, current_recorder
from web_prom.metrics.query_tally import open_tally


@contextmanager
def task(name: str) -> Iterator[None]:
    """Count the queries of a block under the method ``_task`` and the route ``name``.

    ::

        with web_prom.database.task("nightly report"):
            ...

    The families are those of requests: ``http_request_db_queries_total`` and the two others. They belong to
    the application that runs the request around the block, else to the one that was set up last. If no
    application has ``PROM_DATABASE`` on, nothing is counted. Threads and tasks that the block starts belong
    to it if they get its context. An exception of the block passes unchanged.

    Args:
        name: The task's name. It is cut to 128 characters. The number of names must be bounded;
            ``PROM_MAX_LABEL_SETS`` limits it.
    """
    recorder = current_recorder() or create_recorder()
    if recorder is None:
        yield
        return
    tally = open_tally(recorder)
    try:
        yield
    finally:
        recorder.count_task(name, tally)
