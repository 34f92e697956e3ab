"""The rules of names: those of ``promtool check metrics``, and counters that go down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from web_prom.live.text_samples import Family, Scrape

_BASE_UNITS = {
    "amperes": (),
    "bytes": ("bits",),
    "celsius": ("fahrenheit", "rankine"),
    "grams": ("ounces", "pounds"),
    "joules": ("calories",),
    "meters": ("inches", "miles", "yards"),
    "seconds": ("minutes", "hours", "days", "weeks"),
    "volts": (),
}
_PREFIXES = (
    *("pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto"),
    *("kilo", "kibi", "mega", "mibi", "giga", "gibi", "tera", "tebi", "peta", "pebi"),
)
_ABBREVIATED = frozenset(["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"])
_TYPES = ("counter", "gauge", "histogram", "summary")
_CAMEL_CASE = re.compile(r"[a-z][A-Z]")


class Remark(NamedTuple):
    """What is wrong with a family.

    Attributes:
        family: Its name.
        text: The message of promtool.
    """

    family: str
    text: str


def lint(scrape: Scrape, earlier: Scrape | None = None) -> list[Remark]:
    """Return remarks on the families of a scrape, in the order of their names.

    Args:
        scrape: The scrape.
        earlier: One before it, to find counters that went down.
    """
    families = sorted((each for each in scrape.families.values() if each.series), key=lambda each: each.name)
    remarks = [Remark(family.name, text) for family in families for text in sorted(set(_texts(family)))]
    return remarks + list(_falling(scrape, earlier) if earlier is not None else ())


def _texts(family: Family) -> Iterator[str]:
    name = _name_of_samples(family)
    if not family.help:
        yield "no help text"
    if family.type not in ("unknown", "untyped"):  # such a family can be of each type
        yield from _of_type(family, name)
    for each in set(_TYPES).intersection(name.lower().split("_")[1:]):
        yield f"metric name should not include type '{each}'"
    if ":" in name:
        yield "metric names should not contain ':'"
    if _CAMEL_CASE.search(name):
        yield "metric names should be written in 'snake_case' not 'camelCase'"
    if any(_CAMEL_CASE.search(label) for series in family.series for label in series.labels):
        yield "label names should be written in 'snake_case' not 'camelCase'"
    yield from _of_units(name)


def _name_of_samples(family: Family) -> str:
    """Return the name of a family; of a counter of OpenMetrics with the suffix that only its samples have."""
    names = set(family.series.names) - {f"{family.name}_created"}
    total = f"{family.name}_total"
    return total if family.type == "counter" and names == {total} else family.name


def _of_type(family: Family, name: str) -> Iterator[str]:
    kind = family.type
    if kind == "counter" and not name.endswith("_total"):
        yield 'counter metrics should have "_total" suffix'
    labels = {label for series in family.series for label in series.labels}
    if kind not in ("histogram", "gaugehistogram"):
        if name.endswith("_bucket"):
            yield 'non-histogram metrics should not have "_bucket" suffix'
        if "le" in labels:
            yield 'non-histogram metrics should not have "le" label'
    if kind != "counter" and name.endswith("_total"):
        yield 'non-counter metrics should not have "_total" suffix'
    if kind not in ("histogram", "summary"):
        for suffix in ("_count", "_sum"):
            if name.endswith(suffix):
                yield f'non-histogram and non-summary metrics should not have "{suffix}" suffix'
    if kind != "summary" and "quantile" in labels:
        yield 'non-summary metrics should not have "quantile" label'


def _of_units(name: str) -> Iterator[str]:
    parts = name.split("_")
    if _ABBREVIATED.intersection(name.lower().split("_")[1:]):
        yield "metric names should not contain abbreviated units"
    for part in parts:
        for base, others in _BASE_UNITS.items():
            scaled = {f"{prefix}{unit}" for prefix in _PREFIXES for unit in (base, *others)}
            if part in scaled.union(others):
                yield f'use base unit "{base}" instead of "{part}"'
                return


def _falling(scrape: Scrape, earlier: Scrape) -> Iterator[Remark]:
    """Yield counters that went down although the others did not: they are gauges."""
    before = {
        (series.name, frozenset(series.labels.items())): earlier.values[series.at]
        for family in earlier.families.values()
        if family.type == "counter"
        for series in family.series
    }
    fell = {}
    for family in scrape.families.values():
        for series in family.series if family.type == "counter" else ():
            former = before.get((series.name, frozenset(series.labels.items())), 0.0)
            if scrape.values[series.at] < former:
                fell[family.name] = (former, scrape.values[series.at])
    counters = sum(family.type == "counter" for family in scrape.families.values())
    # After a restart, most counters are lower.
    if len(fell) * 2 < counters:
        for name, (former, value) in sorted(fell.items()):
            yield Remark(name, f"counter went down from {former:g} to {value:g}: use a gauge")
