"""The database recorder that the hooks of connections write to."""

from __future__ import annotations

import logging
from typing import Any

from django_prom import conf
from web_prom.database.activation import activate
from web_prom.database.recorder import DatabaseRecorder
from web_prom.errors import WebPromError

logger = logging.getLogger("web_prom")


class Measuring:
    """What the hooks of all connections share.

    Attributes:
        recorder: The database recorder of the project, or None if it is not known yet or nothing is measured.
    """

    def __init__(self) -> None:
        self.recorder: DatabaseRecorder | None = None
        self._is_settled = False

    def find_recorder(self) -> DatabaseRecorder | None:
        """Return the database recorder, or None if databases are not measured. Never raises.

        The middleware creates the recorder. A process without a middleware, for example a worker for
        tasks, creates it here. If there is a shared directory, only a process that writes to it already
        does so: a management command must not leave files there, because another user may run it.
        """
        return self.recorder or self._find_safely()

    def create_recorder(self) -> DatabaseRecorder | None:
        """Return the database recorder, also in a process that does not write to the shared directory yet."""
        return self.find_recorder() or self._find_safely(create=True)

    def reset(self) -> None:
        """Look up the recorder again."""
        self.recorder = None
        self._is_settled = False

    def _find_safely(self, *, create: bool = False) -> DatabaseRecorder | None:
        if not self._is_settled:
            try:
                self._find(create=create)
            except WebPromError:
                self._is_settled = True
                logger.debug("databases are not measured", exc_info=True)
            except Exception:
                self._is_settled = True
                logger.warning("databases are not measured", exc_info=True)
        return self.recorder

    def _find(self, *, create: bool) -> None:
        if not conf.is_on("database"):
            self._is_settled = True
            return
        exists = conf.instrumentation.cache_info().currsize
        if not (exists or create or conf.may_create_instrumentation()):
            return
        instrumentation = conf.instrumentation()
        if instrumentation is not None:
            self.recorder = activate(instrumentation.recorder)
        self._is_settled = True


_SYSTEMS = {"oracle": "oracle.db", "microsoft": "microsoft.sql_server"}

measuring = Measuring()
"""All connections and threads of this process share it. A forked child continues to use it."""


def record_internal_error() -> None:
    """Count an error of the hooks. Never raises."""
    recorder = measuring.recorder
    if recorder is not None:
        recorder.recorder.record_internal_error("database")
    else:
        logger.debug("error in the measurement of a database", exc_info=True)


def reset() -> None:
    """Look up the recorder again: the settings have changed."""
    measuring.reset()


def system_name(vendor: str, driver_connection: Any) -> str:
    """Return the name of a database system in OpenTelemetry's spelling.

    The version that the server sends to a new connection says whether it is MariaDB or MySQL.

    Args:
        vendor: Django's name of the system.
        driver_connection: The connection of the database driver, or None if there is none yet.
    """
    if vendor == "mysql" and driver_connection is not None:
        try:
            if "mariadb" in str(driver_connection.get_server_info()).lower():
                return "mariadb"
        except Exception:
            logger.debug("the version of a MySQL server is not known", exc_info=True)
    return _SYSTEMS.get(vendor, vendor)
