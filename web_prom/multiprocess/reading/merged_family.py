"""Merging of the values of many files: sums, and families of which files have different types.

The rules are those of ``MultiProcessCollector`` in prometheus_client, sample for sample. The rules of
histograms and gauges are in ``histograms`` and ``gauges``. Sums are made with ``math.fsum``, which rounds
once. So the order of the files does not matter, and another file cannot decrease a sum by a rounding error,
which Prometheus would take for a restart.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from web_prom.multiprocess.reading.model import REMOVED_ENTRY, Family, LabelSet
from web_prom.upstream.registry import has_merging, merge_samples

logger = logging.getLogger("web_prom")


class MergedFamily(Family):
    """A family whose values are added: a counter or a summary. Base of histograms and gauges."""

    def merge(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the sum of the values."""
        return (exact_sum(label_set.values),)

    def metric(self) -> Metric:
        """Return the family as a metric of prometheus_client."""
        metric = Metric(self.name, self.documentation, self.columns.metric_type)
        metric.samples = [
            Sample(name, dict(labels), value)
            for label_set in self.ordered
            if label_set.is_visible
            for (name, labels), value in zip(
                self.series(label_set), self.merge(label_set), strict=False
            )  # without values there are no samples
        ]
        return metric

    def file_samples(self, column: int) -> Iterable[tuple[Any, ...]]:
        """Return the samples of one file before they are merged, as arguments of ``Metric.add_sample``."""
        for label_set in self.ordered:
            value = label_set.values[column]
            if value is not None and value is not REMOVED_ENTRY:
                yield label_set.name, label_set.labels, value


def exact_sum(values: Sequence[float | None]) -> float:
    """Add values and round once. None counts as zero."""
    try:
        return math.fsum(filter(None, values))
    except (OverflowError, ValueError):  # an intermediate sum is too large, or infinities of both signs
        return sum(filter(None, values))


def merge_conflicting_types(families: Sequence[MergedFamily]) -> Metric | None:
    """Merge families of one name that files of different types have, as prometheus_client does it.

    The type of the first file is the type of the metric. The mode of the last gauge file is the mode of the
    metric. The samples of all files are added. There is one difference: timestamps count only in files of the
    modes ``mostrecent`` and ``livemostrecent``, because the timestamps of other files are not kept.

    Returns:
        The metric. None if the families cannot be merged, which is logged.
    """
    files = sorted(
        (
            (family.columns.sort_key(column), column, family)
            for family in families
            for column in family.columns.order
        ),
        key=lambda file: file[:2],
    )
    column, first = next((column, family) for _, column, family in files if column in family.helps)
    metric: Any = Metric(first.name, first.helps[column], first.columns.metric_type)
    mode = ""
    for _, column, family in files:
        for arguments in family.file_samples(column):
            metric.add_sample(*arguments)
            if family.columns.metric_type == "gauge":
                mode = family.columns.mode
    if not has_merging():
        return None
    try:
        merged = merge_samples(metric, mode)
    except Exception:
        logger.exception("the metric %s has several types, which cannot be merged", first.name)
        return None
    merged.samples.sort(key=lambda sample: (sorted(sample.labels.items()), sample.name))
    return merged
