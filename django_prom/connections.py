"""Database connections in the threads that answer scrapes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections

_thread = threading.local()


@contextmanager
def around_scrape() -> Iterator[None]:
    """Close old connections before and after a scrape, as Django does around a request.

    Callbacks of gauges and custom collectors can ask the database. A connection that they open is closed when
    CONN_MAX_AGE has passed, with 0 at once; one that failed is closed if it is no longer usable. Entered in
    each thread that answers a scrape or runs a collector.

    A connection that is in a transaction when the scrape begins is left as it is: it belongs to the code that
    asked for the scrape, for example to a test in a TestCase.
    """
    if getattr(_thread, "is_handled", False):
        yield
        return
    in_use = {id(each) for each in connections.all(initialized_only=True) if _is_in_transaction(each)}
    with handled_by_django():
        _close_old(in_use)
        try:
            yield
        finally:
            _close_old(in_use)


@contextmanager
def handled_by_django() -> Iterator[None]:
    """Leave the connections of this thread as they are: Django handles them around the request.

    Its test clients close none.
    """
    before = getattr(_thread, "is_handled", False)
    _thread.is_handled = True
    try:
        yield
    finally:
        _thread.is_handled = before


def _close_old(in_use: set[int]) -> None:
    with ExitStack() as stack:  # one that cannot be closed does not keep the others open
        for each in connections.all(initialized_only=True):
            if id(each) not in in_use:
                stack.callback(each.close_if_unusable_or_obsolete)


def _is_in_transaction(connection: Any) -> bool:
    if connection.connection is None:
        return False
    # Not get_autocommit(), which would connect.
    return bool(connection.in_atomic_block or connection.autocommit != connection.settings_dict["AUTOCOMMIT"])
