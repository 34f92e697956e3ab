"""The recorder of outgoing requests: the only code that observes them."""

from __future__ import annotations

import logging
from typing import Any

from prometheus_client import Histogram

from web_prom.errors import ConfigError
from web_prom.http_client import conventions
from web_prom.http_client.labels import address_label, outcome_labels
from web_prom.metrics.label_value_limiter import limiter_of
from web_prom.metrics.labels import EMPTY, OTHER, OVERFLOW, known_methods
from web_prom.metrics.operation_recorder import OperationRecorder, Write
from web_prom.metrics.recorder import Recorder

logger = logging.getLogger("web_prom")

CallKey = tuple[Any, Any, Any]
"""Method and host as the library has them, and the outcome: a status, or the name of an exception."""


class CallRecorder(OperationRecorder):
    """Records the outgoing requests in the registry of one application, with its constant labels.

    The family is created when the first request ends. Safe to share between threads. After a fork the child
    uses the same object, and needs no call for that.

    Args:
        recorder: The recorder of the application.

    Raises:
        ConfigError: A constant label has the name of a label of the family.
    """

    def __init__(self, recorder: Recorder) -> None:
        for label in recorder.config.constant_labels:
            if label in conventions.DURATION.labels:
                raise ConfigError(
                    f"label {label!r} in PROM_CONSTANT_LABELS is a label of {conventions.DURATION.name}; "
                    "use another name"
                )
        self._methods = known_methods(recorder.config.extra_methods)
        self._limiter = limiter_of(recorder.families, conventions.ADDRESS_LABEL, conventions.MAX_ADDRESSES)
        self._has_warned = False
        super().__init__(recorder)

    def drop_writers(self) -> None:
        """Drop all children and writers. The next requests look them up again."""
        self._writes: dict[CallKey, Write] = {}

    def record(self, method: Any, host: Any, outcome: int | str, seconds: float) -> None:
        """Observe one request. Never raises.

        Args:
            method: The method of the request.
            host: The host of its URL.
            outcome: The status of the response, or the name of the exception that was raised instead.
            seconds: The time until the headers of the response, or until the exception.
        """
        key = method, host, outcome
        try:
            try:
                write = self._writes[key]
            except KeyError:
                write = self._write_for(key)
            write(seconds, None)
        except Exception:
            self.recorder.record_internal_error("http_client")

    def _write_for(self, key: CallKey) -> Write:
        method, host, outcome = key
        writes = self._writes
        buckets = conventions.DURATION_BUCKETS
        family = self.families.limited_family(Histogram, conventions.DURATION, buckets=buckets)
        address = address_label(host)
        if address not in (EMPTY, OTHER):
            address = self._limiter.place(address)
            if address == OVERFLOW:
                self._count_overflow(family.name)
        status, error = outcome_labels(outcome)
        attributes = {
            "method": self._methods.get(method, OTHER),
            "address": address,
            "status": status,
            "error": error,
        }
        write, may_keep = self.histogram_write(family, attributes, buckets)
        # Values that the application can invent without a limit are not kept as keys.
        if may_keep and address != OVERFLOW and OTHER not in attributes.values():
            writes[key] = write
        return write

    def _count_overflow(self, family: str) -> None:
        self.families.overflow.labels(family).inc()
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s has %d values of %s, which is the limit. Requests to further servers are counted under "
                "_overflow.",
                family,
                conventions.MAX_ADDRESSES,
                conventions.ADDRESS_LABEL,
            )
