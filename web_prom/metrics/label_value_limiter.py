"""The limit on the values of a label that clients can choose."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from threading import RLock
from time import monotonic
from typing import Any

from web_prom.config.client_labels import ClientLabel
from web_prom.hooks import ExtraLabel
from web_prom.metrics.families import MetricFamilies
from web_prom.metrics.labels import EMPTY, OVERFLOW
from web_prom.metrics.problems import Problems
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.writing.label_values import LabelValueFile
from web_prom.multiprocess.writing.slot_limiter import is_in_slots
from web_prom.posix import at_fork

logger = logging.getLogger("web_prom")

_RETRY_SECONDS = 1.0

_lock = RLock()
"""Held while a value gets a place: one lock for all labels, because few requests need it."""


class LabelValueLimiter:
    """Gives the first ``limit`` values of a label a place. Any other value is :data:`OVERFLOW`.

    Without shared values, the values of this process count. With shared values, those of all processes that
    use the directory count, also those of processes that have ended. Values that had a place before the
    switch to shared values keep it if the file has room for them. Safe to share between threads, and after a
    fork.

    Args:
        label: The name of the label.
        limit: The maximum number of values.
        on_error: Called with ``label NAME`` in the ``except`` block of an error of the file.
    """

    def __init__(self, label: str, limit: int, on_error: Callable[[str], None]) -> None:
        self._label = label
        self._limit = limit
        self._on_error = on_error
        self._directory = ""
        self._placed: frozenset[str] = frozenset()
        self._retry_at = 0.0

    def place(self, value: str) -> str:
        """Return a value that has or gets a place, else OVERFLOW. Never raises."""
        directory = os.environ.get(DIR_VARIABLE, "") if is_in_slots() else ""
        if directory == self._directory:
            if value in self._placed:
                return value
            if len(self._placed) >= self._limit:
                return OVERFLOW
        if value == OVERFLOW:
            return OVERFLOW
        with _lock:
            if directory != self._directory:
                if self._directory:  # the values of another directory
                    self._placed = frozenset()
                self._directory = directory
                self._retry_at = 0.0
            if directory:
                self._update_from_file(directory, value)
            elif len(self._placed) < self._limit:
                self._placed |= {value}
        return value if value in self._placed else OVERFLOW

    def _update_from_file(self, directory: str, value: str) -> None:
        if monotonic() < self._retry_at:
            return
        try:
            # If a person removed the file, this process writes its values again.
            values = [*sorted(self._placed), value]
            self._placed = frozenset(LabelValueFile(directory, self._label).add(values, self._limit))
        except OSError:
            self._retry_at = monotonic() + _RETRY_SECONDS
            self._on_error(f"label {self._label}")


def limiter_of(families: MetricFamilies, label: str, limit: int) -> LabelValueLimiter:
    """Return the limiter of a label, which all applications on a registry share.

    It refers to no application, so that it keeps none alive. The families count its errors.
    """
    limiter = families.label_limiters.get((label, limit))
    if limiter is None:
        problems = Problems(families, families.owner, families.config.max_label_sets)
        limiter = LabelValueLimiter(label, limit, problems.count_error)
    found: LabelValueLimiter = families.label_limiters.setdefault((label, limit), limiter)
    return found


def limit_values(extra_labels: Mapping[str, ExtraLabel], families: MetricFamilies) -> dict[str, ExtraLabel]:
    """Return the functions of extra labels, with the limits that some of them have.

    Args:
        extra_labels: The functions by label.
        families: The families of the registry, which count the values that are replaced by OVERFLOW, and the
            errors of :class:`LabelValueLimiter`.
    """
    return {
        name: _limit(name, function, families)
        if isinstance(function, ClientLabel) and function.allowed is None
        else function
        for name, function in extra_labels.items()
    }


def _limit(name: str, function: ClientLabel, families: MetricFamilies) -> ExtraLabel:
    limiter = limiter_of(families, name, function.limit)
    warned = False

    def compute(request: Any, response: Any, /) -> str:
        nonlocal warned
        value = function(request, response)
        if value == EMPTY:
            return value
        placed = limiter.place(value)
        if placed == OVERFLOW:
            families.overflow.labels(f"label {name}").inc()
            if not warned:
                warned = True
                logger.warning(
                    "label %s has %d values, as many as its limit allows. Further values are counted under "
                    "_overflow.",
                    name,
                    function.limit,
                )
        return placed

    return compute


at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]
