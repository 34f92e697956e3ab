"""Compare what two libraries report of the same traffic, family by family."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "migrating.rst"

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]
"""The values by sample name and labels. Sums and buckets of durations have no value: 0."""


@dataclass
class Report:
    """What a library reports.

    Attributes:
        types: The types of the families.
        samples: Their samples.
        sums: The sums of durations.
    """

    types: dict[str, str] = field(default_factory=dict)
    samples: Samples = field(default_factory=dict)
    sums: dict[tuple[str, Labels], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """A documented difference.

    Attributes:
        name: The row of the page's table of differences that describes it.
        change: Returns what the other library would report without the difference, from what it reports and
            what web-prom reports.
    """

    name: str
    change: Callable[[Samples, Samples], Samples]


def read(source: CollectorRegistry | str) -> Report:
    """Read a registry or a text."""
    text = generate_latest(source).decode() if isinstance(source, CollectorRegistry) else source
    report = Report()
    for family in text_string_to_metric_families(text):
        if not family.name.endswith("_created") and not family.name.startswith(("process_", "python_")):
            _add(family, report)
    return report


def _add(family: Metric, report: Report) -> None:
    report.types[family.name] = family.type
    is_duration = "seconds" in family.name
    for sample in family.samples:
        key = (sample.name, frozenset(sample.labels.items()))
        if sample.name.endswith("_created"):
            continue
        if is_duration and sample.name.endswith("_sum"):
            report.sums[key] = sample.value
        is_time = is_duration and sample.name.endswith(("_sum", "_bucket"))
        report.samples[key] = 0.0 if is_time else sample.value


def assert_equal(
    theirs: Report, ours: Report, differences: Iterable[Difference], *, missing: Collection[str] = ()
) -> None:
    """Assert that web-prom reports the families of another library as that library does.

    Args:
        theirs: What the other library reports.
        ours: What web-prom reports.
        differences: The documented differences. One that changes nothing is out of date.
        missing: Families of theirs that web-prom does not have.
    """
    page = PAGE.read_text("utf-8")
    for name in missing:
        assert re.search(rf"``{name.removeprefix('shop_')}(_total)?``", page), f"the page has no {name}"
        assert name in theirs.types, f"{name} is out of date"
        assert name not in ours.types, f"{name} is out of date"
    types = {name: kind for name, kind in theirs.types.items() if name not in missing}
    types_of_ours = {name: (kind, ours.types.get(name)) for name, kind in types.items()}
    other_types = {name: kinds for name, kinds in types_of_ours.items() if len(set(kinds)) > 1}
    assert not other_types, f"other types: {other_types}"
    expected = _of_families(theirs.samples, types)
    actual = _of_families(ours.samples, types)
    undocumented = []
    for difference in differences:
        if f"* - {difference.name}\n" not in page:
            undocumented.append(difference.name)
        changed = difference.change(dict(expected), actual)
        assert changed != expected, f"{difference.name!r} is out of date"
        expected = changed
    lines = [f"theirs: {line}" for line in _minus(expected, actual)]
    lines += [f"ours:   {line}" for line in _minus(actual, expected)]
    assert not lines, "undocumented differences:\n" + "\n".join(lines)
    assert not undocumented, f"the page has no rows {undocumented}"


def rename(label: str, values: Mapping[str, str], *, only: Callable[[str], bool] = bool) -> Callable:  # type: ignore[type-arg]
    """Return a change: the values of a label get other names. Samples that become equal are added up."""

    def change(samples: Samples, _ours: Samples) -> Samples:
        changed: Samples = {}
        for (name, labels), value in samples.items():
            renamed = {
                key: values.get(old, old) if key == label and only(name) else old for key, old in labels
            }
            into = (name, frozenset(renamed.items()))
            changed[into] = changed.get(into, 0.0) + value
        return changed

    return change


def without(condition: Callable[[str, Mapping[str, str]], bool]) -> Callable[[Samples, Samples], Samples]:
    """Return a change: samples that meet a condition are not there."""
    return lambda samples, _ours: {
        key: value for key, value in samples.items() if not condition(key[0], dict(key[1]))
    }


def like_ours(
    condition: Callable[[str, Mapping[str, str]], bool],
) -> Callable[[Samples, Samples], Samples]:
    """Return a change: samples that meet a condition are as web-prom reports them."""

    def change(samples: Samples, ours: Samples) -> Samples:
        kept = {key: value for key, value in samples.items() if not condition(key[0], dict(key[1]))}
        taken = {key: value for key, value in ours.items() if condition(key[0], dict(key[1]))}
        return kept | taken

    return change


def zeros(samples: Samples, ours: Samples) -> Samples:
    """Change: counters that web-prom creates at 0 exist."""
    return {key: 0.0 for key, value in ours.items() if not value and key[0].endswith("_total")} | samples


def _of_families(samples: Samples, families: Collection[str]) -> Samples:
    suffixes = ("", "_total", "_bucket", "_sum", "_count", "_info")
    names = {f"{family}{suffix}" for family in families for suffix in suffixes}
    return {key: value for key, value in samples.items() if key[0] in names}


def _minus(samples: Samples, others: Samples) -> list[str]:
    return sorted(
        f"{name} {dict(sorted(labels))} {value}"
        for (name, labels), value in samples.items()
        if others.get((name, labels)) != value and not name.endswith("_bucket")
    ) + sorted(
        f"{name} {dict(sorted(labels))}"
        for (name, labels) in samples.keys() - others.keys()
        if name.endswith("_bucket")
    )
