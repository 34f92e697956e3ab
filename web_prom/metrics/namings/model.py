"""What a naming is: the names, labels and buckets of the families that each request writes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from web_prom.metrics.labels import OTHER, UNMATCHED

START_ATTRIBUTES = ("method", "scheme", "protocol")
"""Attributes that are known when a request starts."""

Kind = Literal["counter", "histogram", "summary"]
"""The type of a metric family."""

_NONE: Mapping[str, Any] = MappingProxyType({})


class MetricSpec(NamedTuple):
    """Name, help and labels of one metric family.

    Attributes:
        name: The family's name, without the namespace.
        documentation: The help text.
        labels: The label names in order, each with the attribute of the request that is its value:
            ``method``, ``scheme`` and ``protocol`` are known when the request starts; ``route`` is the
            route template or ``_unmatched``; ``template`` is the route template or empty; ``status`` is the
            status code; ``error`` is the type of the error, and empty if there was none; ``exception`` is
            the type of the exception in a family that counts exceptions; ``view`` is the name of the view,
            or without a function for it the route template, and :attr:`Naming.unmatched` if there is none.
            Further attributes are those of :attr:`Naming.request_attributes`.
        prefix: The namespace of the family if ``PROM_NAMESPACE`` is empty.
    """

    name: str
    documentation: str
    labels: Mapping[str, str]
    prefix: str = ""


class FurtherFamily(NamedTuple):
    """A family that finished requests write in addition to :attr:`Naming.requests` and ``duration``.

    Attributes:
        spec: Name, help and labels.
        kind: Its type. A counter counts the requests. A histogram observes their durations, in seconds.
        buckets: The upper bounds of a histogram. Empty for ``PROM_DURATION_BUCKETS``.
        condition: Only requests that have a value of this attribute are written. Empty for all requests.
    """

    spec: MetricSpec
    kind: Literal["counter", "histogram"] = "counter"
    buckets: tuple[float, ...] = ()
    condition: str = ""


class Translation(NamedTuple):
    """A family that is written in the place of a family of the default naming.

    Attributes:
        spec: Name, help and labels.
        kind: Its type. A counter that replaces a histogram counts the observations.
        values: Other values of labels, by value.
        where: Only values whose attribute has one of these values are written.
        unless: Values whose attribute has one of these values are not written.
    """

    spec: MetricSpec
    kind: Literal["counter", "gauge", "histogram"] = "counter"
    values: Mapping[str, str] = _NONE
    where: Mapping[str, tuple[str, ...]] = _NONE
    unless: Mapping[str, tuple[str, ...]] = _NONE

    def applies(self, attributes: Mapping[str, str]) -> bool:
        """Return whether a value with these attributes is written."""
        return all(attributes[name] in allowed for name, allowed in self.where.items()) and not any(
            attributes[name] in refused for name, refused in self.unless.items()
        )


class Naming(NamedTuple):
    """The families of requests under one value of the setting ``PROM_NAMING``.

    Attributes:
        requests: The counter of requests. None if the count of the duration histogram replaces it.
        duration: The histogram of request durations, in seconds.
        duration_buckets: The upper bounds of ``duration``, if the user sets none.
        in_progress: The gauge of requests in progress. All its labels are attributes of the start.
        exceptions: The counters of exceptions. None if ``duration`` has a label for the error.
        request_size, response_size: The families of body sizes, in bytes.
        has_numeric_status: Whether the status label must be a number of three digits.
        size_kind: The type of the families of body sizes. A counter adds up the bytes.
        further: Families that each request writes too. The default naming has none, so that its requests
            take no longer.
        further_exceptions: Counters that count each exception too.
        counts_handled_exceptions: Whether exceptions of requests that end without a server error count too.
        info: A gauge that is always 1. Its labels are ``version``, the version of web-prom.
        unmatched: The value of ``view`` for a request that no route matched.
        other_method: The value of ``method`` for an unknown method.
        request_attributes: Further attributes of a request, which the adapter of a framework reads from its
            request and its response. Without such an adapter, ``view`` is the route, and the others are
            empty.
        translations: The families in the place of families of queries, caches, models and migrations, by the
            default name of these. A histogram has the buckets of ``PROM_DURATION_BUCKETS``.
        defaults: Defaults of settings, by field name, that differ from those of the default naming.
    """

    requests: MetricSpec | None
    duration: MetricSpec
    duration_buckets: tuple[float, ...]
    in_progress: MetricSpec
    exceptions: MetricSpec | None
    request_size: MetricSpec
    response_size: MetricSpec
    has_numeric_status: bool
    size_kind: Kind = "histogram"
    further: tuple[FurtherFamily, ...] = ()
    further_exceptions: tuple[MetricSpec, ...] = ()
    counts_handled_exceptions: bool = False
    info: MetricSpec | None = None
    unmatched: str = UNMATCHED
    other_method: str = OTHER
    request_attributes: tuple[str, ...] = ()
    translations: Mapping[str, tuple[Translation, ...]] = _NONE
    defaults: Mapping[str, object] = _NONE

    @property
    def start_attributes(self) -> tuple[str, ...]:
        """The attributes that must be read when a request starts."""
        attributes = self.duration.labels.values()
        return tuple(attribute for attribute in START_ATTRIBUTES if attribute in attributes)

    @property
    def has_error_label(self) -> bool:
        """Whether the families that are written for each request have a label for the error."""
        return "error" in self.duration.labels.values()

    @property
    def labels(self) -> frozenset[str]:
        """The label names of all families that finished requests write."""
        families = (self.requests, self.duration, self.in_progress, self.request_size, self.response_size)
        further = (family.spec for family in self.further)
        return frozenset(label for family in (*families, *further) if family for label in family.labels)

    @property
    def translated_labels(self) -> frozenset[str]:
        """The label names of all families in :attr:`translations`."""
        every = (translation for each in self.translations.values() for translation in each)
        return frozenset(label for translation in every for label in translation.spec.labels)


def same_names(*labels: str) -> dict[str, str]:
    """Return labels that have the names of their attributes."""
    return dict(zip(labels, labels, strict=True))
