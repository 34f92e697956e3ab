"""Which naming the families of a scrape have, by their names and labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from web_prom.metrics.namings.model import MetricSpec, Naming

_NEEDED = ("method", "status")

LabelsOf = Callable[[str], Collection[str] | None]
"""Returns the label names of a family by its name, with or without a namespace; None without series."""


def recognise(namings: Iterable[Naming], labels_of: LabelsOf) -> Naming | None:
    """Return the naming of a scrape, or None if no request was measured.

    The names alone are not enough: the duration of one naming can look like that of another one with a
    namespace.

    Args:
        namings: All namings, in the order of preference.
        labels_of: Returns the labels of a family.
    """
    found = [naming for naming in namings if _has(naming.duration, labels_of)]
    complete = [naming for naming in found if naming.requests is None or _has(naming.requests, labels_of)]
    return next(iter(complete or found), None)


def _has(spec: MetricSpec, labels_of: LabelsOf) -> bool:
    labels = labels_of(spec.name)
    # Other exporters of a naming can leave out some labels.
    wanted = {label for label, attribute in spec.labels.items() if attribute in _NEEDED}
    return labels is not None and set(labels) >= wanted
