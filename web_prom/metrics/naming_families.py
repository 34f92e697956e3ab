"""The families that only some namings have, and the values that a naming gives to labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from prometheus_client import Counter, Gauge, Histogram, Summary

import web_prom
from web_prom.config.settings import Config
from web_prom.metrics.limited_metric import LimitedMetric
from web_prom.metrics.namings.model import Kind, MetricSpec, Naming
from web_prom.metrics.writers import RequestWriter

_KINDS: Mapping[Kind, type[Any]] = {"counter": Counter, "histogram": Histogram, "summary": Summary}


class MakeFamily(Protocol):
    """Returns a family of a registry, and creates it if the registry has none."""

    def __call__(self, kind: type[Any], spec: MetricSpec, **options: Any) -> LimitedMetric:
        """Return the family.

        Args:
            kind: The class of prometheus_client.
            spec: Name, help and labels.
            **options: Arguments of the class.
        """


def size_family(spec: MetricSpec, config: Config, kind: Kind, make: MakeFamily) -> LimitedMetric:
    """Return a family of body sizes, of the naming's type."""
    return make(_KINDS[kind], spec, **_buckets(kind, config.size_buckets))


def further_families(naming: Naming, config: Config, make: MakeFamily) -> tuple[LimitedMetric, ...]:
    """Return the further families of a naming, in its order."""
    return tuple(
        make(
            _KINDS[family.kind],
            family.spec,
            **_buckets(family.kind, family.buckets or config.duration_buckets),
        )
        for family in naming.further
    )


def exception_counters(naming: Naming, make: MakeFamily) -> tuple[LimitedMetric, ...]:
    """Return the counters of exceptions of a naming."""
    specs = (*([naming.exceptions] if naming.exceptions else []), *naming.further_exceptions)
    return tuple(make(Counter, spec) for spec in specs)


def with_further(
    writer: RequestWriter,
    naming: Naming,
    families: tuple[LimitedMetric, ...],
    attributes: Mapping[str, str],
    child: Callable[[LimitedMetric], Any],
) -> RequestWriter:
    """Return a writer that also writes the further families of a naming, or the writer itself if it has none.

    Args:
        writer: Writes the other families of the requests.
        naming: The naming.
        families: Its further families, as :func:`further_families` returns them.
        attributes: The attributes of the requests.
        child: Returns the child of a family for the requests.
    """
    counters, histograms = [], []
    for family, metric in zip(naming.further, families, strict=True):
        if not family.condition or attributes[family.condition]:
            if family.kind == "counter":
                counters.append(child(metric).inc)
            else:
                histograms.append(child(metric).observe)
    return FurtherWriter(writer, counters, histograms) if counters or histograms else writer


class FurtherWriter:
    """A writer that also counts a request in further counters and observes it in further histograms."""

    __slots__ = ("_counters", "_histograms", "_writer")

    def __init__(
        self,
        writer: RequestWriter,
        counters: Sequence[Callable[[], None]],
        histograms: Sequence[Callable[[float], None]],
    ) -> None:
        self._writer = writer
        self._counters = tuple(counters)
        self._histograms = tuple(histograms)

    def write(self, duration: float, recording: Any) -> None:
        """Write one request."""
        self._writer.write(duration, recording)
        for count in self._counters:
            count()
        for observe in self._histograms:
            observe(duration)


def set_info(info: Gauge, constant_values: tuple[str, ...]) -> None:
    """Set the gauge with the version of web-prom to 1."""
    info.labels(web_prom.__version__, *constant_values).set(1)


def _buckets(kind: Kind, bounds: tuple[float, ...]) -> dict[str, Any]:
    return {"buckets": bounds} if kind == "histogram" else {}
