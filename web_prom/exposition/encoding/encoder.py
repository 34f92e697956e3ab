"""The type of prometheus_client's encoders, and the object that they encode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client.metrics_core import Metric


class MetricSource(Protocol):
    """A registry, or any other object with a ``collect`` method."""

    def collect(self) -> Iterable[Metric]:
        """Return the metric families."""


Encode = Callable[[MetricSource], bytes]
"""An encoder of prometheus_client: from a registry to text."""

EncodeFamilies = Callable[[Iterable[Metric]], bytes]
"""The same for some families. The result does not contain the ``# EOF`` of OpenMetrics."""


class Families:
    """Metric families with the ``collect`` method that an encoder calls."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        return self._families
