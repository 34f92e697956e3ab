"""Database connections of the threads that answer scrapes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections

_thread = threading.local()


@contextmanager
def scrape_connections() -> Iterator[None]:
    """Close old connections before and after a scrape, as Django does before and after a request.

    Callbacks of gauges and custom collectors can use the database. A connection that they open is closed
    after CONN_MAX_AGE, or at once if that is 0. A connection with an error is closed if it is no longer
    usable. This context manager is entered in each thread that answers a scrape or runs a collector.

    A connection that is in a transaction before the scrape is not closed. It belongs to the code that called
    for the scrape, for example to a test in a TestCase.
    """
    if getattr(_thread, "is_managed", False):
        yield
        return
    in_use = {id(each) for each in connections.all(initialized_only=True) if _is_in_transaction(each)}
    with managed_by_django():
        _close_old(in_use)
        try:
            yield
        finally:
            _close_old(in_use)


@contextmanager
def managed_by_django() -> Iterator[None]:
    """Let scrapes in this thread not close connections, because Django closes them after the request.

    Django's test clients do not close connections.
    """
    before = getattr(_thread, "is_managed", False)
    _thread.is_managed = True
    try:
        yield
    finally:
        _thread.is_managed = before


def _close_old(in_use: set[int]) -> None:
    with ExitStack() as stack:  # if one close raises, the other connections are still closed
        for each in connections.all(initialized_only=True):
            if id(each) not in in_use:
                stack.callback(each.close_if_unusable_or_obsolete)


def _is_in_transaction(connection: Any) -> bool:
    if connection.connection is None:
        return False
    # get_autocommit() would open a connection.
    return bool(connection.in_atomic_block or connection.autocommit != connection.settings_dict["AUTOCOMMIT"])
