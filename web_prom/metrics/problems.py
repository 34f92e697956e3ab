"""What an application counts and logs about its measurement: errors, and label sets over the limit."""

from __future__ import annotations

import logging

from web_prom.metrics.families import MetricFamilies

logger = logging.getLogger("web_prom")


class Problems:
    """Counts the errors of a measurement and its overflows, and logs the first one of each kind.

    Safe to share between threads.

    Args:
        families: The families of the registry.
        owner: The application's name, for messages.
        max_label_sets: The value of ``PROM_MAX_LABEL_SETS``, for messages.
    """

    def __init__(self, families: MetricFamilies, owner: str, max_label_sets: int) -> None:
        self._families = families
        self._owner = owner
        self._max_label_sets = max_label_sets
        self._warned: set[str] = set()

    def count_error(self, stage: str) -> None:
        """Count the exception that is handled now, and log the first one of each stage. Never raises."""
        try:
            self._families.errors.labels(stage).inc()
            if stage not in self._warned:
                self._warned.add(stage)
                logger.warning(
                    "error in stage '%s' of the measurement of %s; "
                    "counted in web_prom_instrumentation_errors_total",
                    stage,
                    self._owner,
                    exc_info=True,
                )
        except Exception:
            logger.debug("an instrumentation error could not be counted", exc_info=True)

    def count_overflow(self, family: str) -> None:
        """Count a label set that was replaced by the overflow label set, and log the first of each family."""
        self._families.overflow.labels(family).inc()
        if family not in self._warned:
            self._warned.add(family)
            logger.warning(
                "%s has %d label sets, as many as PROM_MAX_LABEL_SETS allows. Further label sets are "
                "counted under _overflow. The usual reason is a label with an unlimited number of values.",
                family,
                self._max_label_sets,
            )
