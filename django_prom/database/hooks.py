"""Finds the project's database connections, and hooks into each of them once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created

from django_prom.database.connection import MeasuredConnection
from django_prom.database.measuring import measuring, record_internal_error
from web_prom.database.activation import add_source
from web_prom.exposition.scrape_context import scrape_context
from web_prom.metrics.query_tally import current_tally

_UID = f"{__name__}.created"
_CREATE = "create_connection"


def install() -> None:
    """Measure the connections of all aliases and all threads. Further calls change nothing.

    A connection object of Django is hooked when it is created, before it connects to the database. One that
    exists already is hooked now if it belongs to this thread, otherwise when it connects the next time. The
    signal also finds connection objects that other code has created.
    """
    connection_created.connect(_on_connection_created, dispatch_uid=_UID)
    if not isinstance(vars(connections).get(_CREATE), _CreateConnection):
        setattr(connections, _CREATE, _CreateConnection(getattr(connections, _CREATE)))
    scrape_context(_outside_of_requests)
    add_source(measuring.create_recorder)
    for connection in connections.all(initialized_only=True):
        _hook(connection)


def uninstall() -> None:
    """Stop to measure. The connections of other threads keep hooks, which then do nothing."""
    connection_created.disconnect(dispatch_uid=_UID)
    if isinstance(vars(connections).get(_CREATE), _CreateConnection):
        delattr(connections, _CREATE)
    for connection in connections.all(initialized_only=True):
        MeasuredConnection.remove(connection)


class _CreateConnection:
    """Creates a connection object of an alias, as Django does, and hooks into it."""

    def __init__(self, create: Any) -> None:
        self._create = create

    def __call__(self, alias: str) -> Any:
        connection = self._create(alias)
        _hook(connection)
        return connection


def _on_connection_created(connection: Any, **_: Any) -> None:
    _hook(connection)


def _hook(connection: Any) -> None:
    try:
        MeasuredConnection.add(connection)
    except Exception:
        record_internal_error()


@contextmanager
def _outside_of_requests() -> Iterator[None]:
    """Let the queries of a scrape not count for a request, if a view or a test client scrapes."""
    token = current_tally.set(None)
    try:
        yield
    finally:
        current_tally.reset(token)
