"""What the series of a scrape cost: how many each family has, and which labels they come from."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from web_prom.live.text_samples import Scrape

MAX_FAMILIES = 10


class FamilyCost(NamedTuple):
    """A family.

    Attributes:
        name: Its name.
        series: Its series. A histogram has one for each bucket, and two more.
        labels: The number of values of each label, the highest first.
    """

    name: str
    series: int
    labels: dict[str, int]


class Cardinality(NamedTuple):
    """The series of a scrape.

    Attributes:
        series: All series.
        families: The number of families.
        costly: The families with the most series, the most costly first.
    """

    series: int
    families: int
    costly: list[FamilyCost]

    def as_json(self) -> dict[str, Any]:
        """Return the same as what ``json.dumps`` takes."""
        return {**self._asdict(), "costly": [family._asdict() for family in self.costly]}


def cardinality(scrape: Scrape) -> Cardinality:
    """Return what the series of a scrape cost."""
    families = [family for family in scrape.families.values() if family.series]
    found = sorted(families, key=lambda family: (-len(family.series), family.name))[:MAX_FAMILIES]
    costly = []
    for family in found:
        values: dict[str, set[str]] = defaultdict(set)
        for series in family.series:
            for label, value in series.labels.items():
                values[label].add(value)
        counts = {label: len(each) for label, each in values.items()}
        labels = dict(sorted(counts.items(), key=lambda each: -each[1]))
        costly.append(FamilyCost(family.name, len(family.series), labels))
    return Cardinality(len(scrape.values), len(families), costly)
