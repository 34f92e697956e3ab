"""MongoDB: the commands of PyMongo's clients, by a listener that PyMongo calls.

PyMongo is imported when the listener is created.
"""

from __future__ import annotations

from typing import Any

from web_prom.database.activation import current_recorder
from web_prom.metrics.labels import EMPTY, OTHER, OVERFLOW

SYSTEM = "mongodb"
"""The value of the label ``db_system_name``."""

COMMANDS = frozenset({
    "abortTransaction", "aggregate", "bulkWrite", "collMod", "commitTransaction", "count", "create",
    "createIndexes", "delete", "distinct", "drop", "dropDatabase", "dropIndexes", "endSessions", "explain",
    "find", "findAndModify", "getMore", "insert", "killCursors", "listCollections", "listDatabases",
    "listIndexes", "mapReduce", "ping", "renameCollection", "update",
})  # fmt: skip
"""The values of the label ``db_operation_name``. Any other command is ``_OTHER``."""

MAX_DATABASES = 100
"""How many names of databases a listener keeps apart. Further ones are ``_overflow``."""


def mongo_listener() -> Any:
    """Return a ``pymongo.monitoring.CommandListener`` that measures the commands of a client of PyMongo.

    ::

        MongoClient(event_listeners=[mongo_listener()])

    It is for clients with and without asyncio. A command belongs to the application with ``PROM_DATABASE``
    whose request sends it, outside of requests to the application that was set up last. Without such an
    application it is not measured. One listener may serve several clients, in all threads, and in forked
    workers.

    The duration is the one that PyMongo measures: from the message to the reply. A cursor sends further
    ``getMore`` commands. Monitoring, authentication and handshakes are not commands for PyMongo's listeners.

    Raises:
        ImportError: PyMongo is not installed.
    """
    from pymongo.monitoring import CommandListener

    class Listener(_Commands, CommandListener):  # type: ignore[misc]
        """A listener, as PyMongo knows it."""

    return Listener()


class _Commands:
    """Records the commands that have ended."""

    def __init__(self) -> None:
        self._namespaces: set[str] = set()

    def started(self, event: Any) -> None:
        """Do nothing: a command is observed when it ends."""

    def succeeded(self, event: Any) -> None:
        """Observe a command."""
        self._observe(event, EMPTY)

    def failed(self, event: Any) -> None:
        """Observe a command, with the name of its error."""
        self._observe(event, _error_name(event))

    def _observe(self, event: Any, error: str) -> None:
        recorder = current_recorder()
        if recorder is None:
            return
        try:
            name = event.command_name if event.command_name in COMMANDS else OTHER
            database = recorder.database(SYSTEM, self._namespace_of(event))
            database.observe_command(name, event.duration_micros / 1e6, error)
        except Exception:
            recorder.recorder.record_internal_error("database")

    def _namespace_of(self, event: Any) -> str:
        name: str = getattr(event, "database_name", EMPTY)  # old releases of PyMongo do not have it
        if name not in self._namespaces:
            if len(self._namespaces) >= MAX_DATABASES:
                return OVERFLOW
            self._namespaces.add(name)
        return name


def _error_name(event: Any) -> str:
    """Return the name of the exception that PyMongo raises.

    PyMongo gives the name if there was no reply. Otherwise the reply has the error of the server.
    """
    failure = event.failure
    return str(failure.get("errtype") or "OperationFailure") if isinstance(failure, dict) else "PyMongoError"
