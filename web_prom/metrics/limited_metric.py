"""A metric family with a limit on its label sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from web_prom.metrics.labels import BOUNDED_ATTRIBUTES, LabelSetLimiter, sanitize_label_value
from web_prom.multiprocess.writing.slot_limiter import SlotLimiter, is_in_slots
from web_prom.upstream.children import family_of


class LimitedMetric:
    """One metric family of web-prom and the limit on its label sets. Safe to share between threads.

    If values are in shared files, the limit applies to the label sets in the slot of this process, whichever
    process wrote them. After a fork the child has its own slot, and label sets that its parent admitted do
    not count there.

    Args:
        metric: The metric of prometheus_client.
        limit: The maximum number of label sets.
        attributes: The attribute of a request for each of the first labels, in order. The labels after them
            are the extra labels and the constant labels.
        bounded: Attributes and labels with a bounded number of values, in addition to
            :data:`web_prom.metrics.labels.BOUNDED_ATTRIBUTES`.
        label_names: The names of all labels of the metric.
    """

    def __init__(
        self,
        metric: MetricWrapperBase,
        limit: int,
        attributes: Sequence[str],
        bounded: Iterable[str],
        label_names: Sequence[str],
    ) -> None:
        self.metric = metric
        self.name = family_of(metric).name
        self.attributes = tuple(attributes)
        labels = (*attributes, *label_names[len(attributes) :])
        all_bounded = BOUNDED_ATTRIBUTES.union(bounded)
        self._limiter = LabelSetLimiter(limit, [label in all_bounded for label in labels])
        self._slot_limiter = SlotLimiter(metric, label_names, limit, self._limiter.is_overflow)

    def child_and_overflow(self, attributes: Mapping[str, str], others: tuple[str, ...]) -> tuple[Any, bool]:
        """Return the child for a label set, and whether the label set was replaced by the overflow label set.

        Args:
            attributes: The attributes of a request; those that the family has no label for are ignored.
            others: The values of the extra labels and of the constant labels.
        """
        labels = (*map(attributes.__getitem__, self.attributes), *others)
        values = tuple(map(sanitize_label_value, labels))
        if is_in_slots():
            admitted = values if self._slot_limiter.admit(values) else self._limiter.fold(values)
        else:
            admitted = self._limiter.admit(values)
        child = self.metric.labels(*admitted) if admitted else self.metric
        return child, admitted != values
