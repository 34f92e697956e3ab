"""Which naming the families of a scrape have, and which prefix, by their names and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from web_prom.metrics import conventions
from web_prom.metrics.conventions import NAMINGS, MetricSpec, Naming
from web_prom.metrics.labels import UNMATCHED

LabelsOf = Callable[[str], Collection[str] | None]
"""Returns the label names of a family of the scrape by its name; None without series."""

_ROUTE_ATTRIBUTES = ("route", "template", "view")

# Other exporters of a naming can leave out some labels. A metric of the service whose name ends like that of
# web-prom can have a method and a status.
_NEEDED = ("method", "status")
_NEEDED_AFTER_PREFIX = (*_NEEDED, *_ROUTE_ATTRIBUTES)

# Families that have the namespace of the service and the same name under each naming.
_COMMON = (
    conventions.FIRST_BYTE,
    conventions.QUEUE_TIME,
    conventions.WEBSOCKETS_IN_PROGRESS,
    conventions.WEBSOCKETS,
    conventions.WEBSOCKET_DURATION,
    conventions.WEBSOCKET_MESSAGES,
    conventions.DB_QUERIES,
    conventions.DB_SECONDS,
    conventions.DB_REPEATED_QUERIES,
)
# What a scrape can have before the first request.
_EARLY = (*{each.in_progress.name: each.in_progress for each in NAMINGS.values()}.values(), *_COMMON)


def _spellings(name: str) -> tuple[str, ...]:
    """Return the names that a family can have. In some namings, the name of a counter is without its end."""
    return (name,) if name.endswith("_total") else (name, f"{name}_total")


_ENDS = tuple(
    f"_{spelling}"
    for spec in (*_EARLY, *(naming.duration for naming in NAMINGS.values()))
    for spelling in _spellings(spec.name)
)


class _Rank(NamedTuple):
    """How well a naming and a prefix fit the families of a scrape, the most important first.

    Attributes:
        has_counter: The scrape has the counter of requests of the naming, if the naming has one.
        has_all_labels: No label of the naming is missing.
        families: How many other families of web-prom the scrape has with this prefix.
        is_default: The service has no namespace.
        order: Higher for a naming that comes earlier.
    """

    has_counter: bool
    has_all_labels: bool
    families: int
    is_default: bool
    order: int


class ScrapeNames:
    """The names of web-prom's families in one scrape: under its naming, and with its namespace.

    The names alone are not enough. The duration of one naming can look like that of another one with a
    namespace, and a service can have a metric of its own whose name ends in the same way. So the labels
    decide, then the number of families with one prefix.

    Args:
        names: The names of the families of the scrape. Those of counters end in ``_total``.
        labels_of: Returns the labels of a family.

    Attributes:
        naming: The naming; None if no request was measured.
        prefix: What is before the names: the namespace, or without one the prefix of the naming; may be "".
    """

    def __init__(self, names: Collection[str], labels_of: LabelsOf) -> None:
        self._names = names
        self._labels_of = labels_of
        self._ending = [name for name in names if name.endswith(_ENDS)]
        found = max(self._candidates(), key=lambda each: each[0], default=None)
        self.naming: Naming | None = None
        if found is not None:
            _, self.naming, self.prefix = found
            self._is_known = True
        else:
            seen = Counter(
                prefix for spec in _EARLY for prefix in self._prefixes(spec) if self._fits(prefix, spec)
            )
            self.prefix = max(seen, key=lambda prefix: (seen[prefix], not prefix), default="")
            self._is_known = bool(seen)

    def find(self, name: str) -> str:
        """Return the name that a family with the namespace of the service has in the scrape, or "".

        Args:
            name: The name without a prefix.
        """
        found = self.spelled(_joined(self.prefix, name)) or self.spelled(name)
        if found or self._is_known:
            return found
        ends = tuple(f"_{each}" for each in _spellings(name))
        return next((each for each in self._names if each.endswith(ends)), "")

    def spelled(self, name: str) -> str:
        """Return the whole name of a family as the scrape spells it, or ""."""
        return next((each for each in _spellings(name) if each in self._names), "")

    def of_requests(self) -> set[str]:
        """Return the names that the families of requests have in the scrape."""
        if self.naming is not None:
            return {self.spelled(_joined(self.prefix, spec.name)) for spec in _all_specs(self.naming)}
        # Before the first request, only the labels tell a family of web-prom from others.
        return {
            self.spelled(_joined(self.prefix or spec.prefix, spec.name))
            for naming in NAMINGS.values()
            for spec in _all_specs(naming)
            if self._fits(self.prefix or spec.prefix, spec)
        }

    def _candidates(self) -> Iterator[tuple[_Rank, Naming, str]]:
        """Yield the namings and prefixes that the scrape can have, each with its rank."""
        for order, naming in enumerate(NAMINGS.values()):
            duration, counter = naming.duration, naming.requests or naming.duration
            for prefix in self._prefixes(duration):
                labels = self._labels(prefix, duration)
                is_default = prefix == duration.prefix
                needed = _labels_with(duration, _NEEDED if is_default else _NEEDED_AFTER_PREFIX)
                if labels is None or not labels >= needed:
                    continue
                counted = self._labels(prefix, counter)
                rank = _Rank(
                    has_counter=counted is not None and counted >= _labels_with(counter, _NEEDED),
                    has_all_labels=self._fits(prefix, duration) and self._fits(prefix, counter),
                    families=self._count(prefix, naming),
                    is_default=is_default,
                    order=-order,
                )
                if is_default or rank.has_counter:
                    yield rank, naming, prefix

    def _prefixes(self, spec: MetricSpec) -> Iterator[str]:
        """Yield what is before the name of a family, for each family of the scrape that has its name."""
        if self.spelled(spec.name):
            yield ""
        for each in self._ending:
            for spelling in _spellings(spec.name):
                if each.endswith(f"_{spelling}"):
                    yield each.removesuffix(f"_{spelling}")
                    break

    def _labels(self, prefix: str, spec: MetricSpec) -> set[str] | None:
        name = self.spelled(_joined(prefix, spec.name))
        labels = self._labels_of(name) if name else None
        return None if labels is None else set(labels)

    def _fits(self, prefix: str, spec: MetricSpec) -> bool:
        """Return whether the scrape has a family with all its labels."""
        labels = self._labels(prefix, spec)
        return labels is not None and labels >= spec.labels.keys()

    def _count(self, prefix: str, naming: Naming) -> int:
        namespace = "" if prefix == naming.duration.prefix else prefix
        names = [_joined(prefix, spec.name) for spec in _specs(naming)]
        names += [_joined(namespace, spec.name) for spec in _COMMON]
        return sum(1 for name in names if self.spelled(name))


def route_reader(naming: Naming, spec: MetricSpec) -> Callable[[Mapping[str, str]], tuple[str, str]]:
    """Return a function that returns the method and the route of a series by its labels.

    The route is the route template, or under some namings the name of the view. It is ``_unmatched`` under
    each naming if no route matched.

    Args:
        naming: The naming.
        spec: A family of it.
    """
    method = label_of(spec, "method")
    routes = [label for attribute in _ROUTE_ATTRIBUTES if (label := label_of(spec, attribute))]

    def read(labels: Mapping[str, str]) -> tuple[str, str]:
        for label in routes:
            route = labels.get(label)
            if route and route != naming.unmatched:
                return labels.get(method, ""), route
        return labels.get(method, ""), UNMATCHED

    return read


def label_of(spec: MetricSpec, attribute: str) -> str:
    """Return the name of the label that has an attribute of the request, or ""."""
    return next((label for label, each in spec.labels.items() if each == attribute), "")


def status_counter(naming: Naming) -> MetricSpec | None:
    """Return the counter of requests by route and status; None if the count of the durations has these."""
    return None if "status" in naming.duration.labels.values() else naming.requests


def _specs(naming: Naming) -> Iterator[MetricSpec]:
    """Yield the families that a naming has in addition to the duration and the counter of requests."""
    yield from (naming.in_progress, naming.request_size, naming.response_size)
    yield from (spec for spec in (naming.exceptions, naming.info) if spec is not None)
    yield from naming.further_exceptions
    yield from (family.spec for family in naming.further)


def _all_specs(naming: Naming) -> Iterator[MetricSpec]:
    yield from (naming.duration, *([naming.requests] if naming.requests else []), *_specs(naming))


def _labels_with(spec: MetricSpec, attributes: Collection[str]) -> set[str]:
    return {label for label, attribute in spec.labels.items() if attribute in attributes}


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}_{name}" if prefix else name
