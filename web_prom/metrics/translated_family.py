"""Families of another library in the place of one family of the default naming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from web_prom.metrics.limited_metric import LimitedMetric
from web_prom.metrics.namings.model import Translation


class TranslatedFamily(LimitedMetric):
    """Writes to several families what is written to one of the default naming.

    It is used as the family that it replaces. Safe to share between threads.

    Args:
        name: The name of the family that it replaces.
        families: The families that are written, each with its translation.
    """

    def __init__(self, name: str, families: Sequence[tuple[Translation, LimitedMetric]]) -> None:
        self.name = name
        self._families = families

    def child_and_overflow(self, attributes: Mapping[str, str], others: tuple[str, ...]) -> tuple[Any, bool]:
        """Return what writes to the children of a label set, as :meth:`LimitedMetric.child_and_overflow`."""
        counters: list[Any] = []
        histograms: list[Any] = []
        folded = False
        for translation, family in self._families:
            if translation.applies(attributes):
                values = {key: translation.values.get(value, value) for key, value in attributes.items()}
                child, overflow = family.child_and_overflow(values, others)
                (histograms if translation.kind == "histogram" else counters).append(child)
                folded = folded or overflow
        return TranslatedChild(counters, histograms), folded


class TranslatedChild:
    """The children of several families, which are written together.

    Args:
        counters: Counters.
        histograms: Histograms.
    """

    __slots__ = ("_counters", "_histograms")

    def __init__(self, counters: Sequence[Any], histograms: Sequence[Any]) -> None:
        self._counters = tuple(counters)
        self._histograms = tuple(histograms)

    def inc(self, amount: float = 1) -> None:
        """Add to the counters."""
        for counter in self._counters:
            counter.inc(amount)

    def observe(self, value: float) -> None:
        """Observe a value in the histograms, and count it in the counters."""
        for histogram in self._histograms:
            histogram.observe(value)
        for counter in self._counters:
            counter.inc()
