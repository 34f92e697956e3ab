"""Errors of value files: counted in the files themselves, and logged."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from time import monotonic

from web_prom.family_names import STORAGE_ERRORS
from web_prom.multiprocess.file_format import entry_key
from web_prom.multiprocess.writing.value_file import ValueFile

logger = logging.getLogger("web_prom")

_HELP = (
    "Failures to make, open or extend a value file, such as on a full disk, where values wait in memory "
    "meanwhile; damaged files that were put aside; and files that were removed while a process used them."
)
_KEY = entry_key(STORAGE_ERRORS.removesuffix("_total"), STORAGE_ERRORS, (), (), _HELP)
_LOG_SECONDS = 3600.0


class StorageErrors:
    """The errors of the value files of one process. The caller holds the lock of the storage."""

    def __init__(self) -> None:
        self._uncounted = 0.0
        self._unlogged: deque[BaseException] = deque()
        self._log_at: dict[str, float] = {}

    def add(self, error: BaseException, counters: ValueFile | None) -> None:
        """Count an error, and keep it for :meth:`log`.

        Args:
            error: The error.
            counters: The file of counters, if it is open.
        """
        self._unlogged.append(error)
        self._uncounted += 1.0
        self.write(counters)

    def write(self, counters: ValueFile | None) -> None:
        """Add the errors that are not counted yet to the file of counters, and create the metric there."""
        if counters is not None:
            with contextlib.suppress(OSError):
                position = counters.locate(_KEY)
                counters.view[position] += self._uncounted
                self._uncounted = 0.0

    def log(self) -> None:
        """Log each kind of error once an hour.

        The caller does not hold the lock of the storage, because a log handler may need it.
        """
        while self._unlogged:
            error = self._unlogged.popleft()
            kind, now = f"{type(error).__name__} {getattr(error, 'errno', '')}", monotonic()
            if now >= self._log_at.get(kind, now):
                self._log_at[kind] = now + _LOG_SECONDS
                logger.warning(
                    "the metrics of process %s: %s; counted in %s", os.getpid(), error, STORAGE_ERRORS
                )
