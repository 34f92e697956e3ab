"""The text builder: the text of all parts is that of prometheus_client's encoder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from web_prom.errors import ConflictError
from web_prom.exposition.encoding.text_builder import TextBuilder
from web_prom.exposition.negotiation import encoder_for
from web_prom.multiprocess.reading.merged_text import FamilyText

TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
FORMATS = [
    TEXT,
    "text/plain; version=1.0.0; escaping=underscores",
    "text/plain; version=1.0.0; escaping=allow-utf-8",
    "text/plain; version=1.0.0; escaping=dots",
    "text/plain; version=1.0.0; escaping=values",
    OPENMETRICS,
    f"{OPENMETRICS}; escaping=allow-utf-8",
    f"{OPENMETRICS}; escaping=dots",
]
SPECIAL_TEXT = '# TYPE x gauge\n# "\\ #EOF'


def _utf_8_name() -> str:
    """Return a name that requires UTF-8, or one with a colon for versions without UTF-8 names."""
    try:
        return Metric("odd.name", "", "gauge").name
    except ValueError:
        return "odd:name"


UTF_8_NAME = _utf_8_name()


class Merged:
    """A stand-in for the collector of all workers."""

    def __init__(self, *families: Metric) -> None:
        self.families = families

    @property
    def series(self) -> int:
        return sum(len(family.samples) for family in self.families)

    def collect(self) -> Iterable[Metric]:
        return self.families

    def render_families(
        self,
        encode: Callable[[Any], bytes],
        content_type: str,
        names: set[str] | None,
        units: Mapping[str, str],
    ) -> list[FamilyText]:
        assert (
            names is None or {sample.name for family in self.families for sample in family.samples} <= names
        )
        texts = []
        for family in self.families:
            heading = Metric(family.name, family.documentation, family.type, units.get(family.name, ""))
            whole = Metric(family.name, family.documentation, family.type, heading.unit)
            whole.samples = family.samples
            first, text = (encode(Merged(each)).removesuffix(b"# EOF\n") for each in (heading, whole))
            assert text.startswith(first)
            texts.append(FamilyText(first, [text[len(first) :]]))
        return texts


def text_for(accept: str, names: set[str] | None = None) -> TextBuilder:
    encode, content_type = encoder_for(accept)
    return TextBuilder(encode, content_type, names)


def gauge(name: str, value: float = 1, unit: str = "") -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, f"Help of {name}, {SPECIAL_TEXT}", labels=["label"], unit=unit)
    family.add_metric([SPECIAL_TEXT], value)
    return family


def counter(name: str, unit: str = "") -> CounterMetricFamily:
    return CounterMetricFamily(name, "Help.", 3, unit=unit)


def histogram(name: str, unit: str = "") -> HistogramMetricFamily:
    return HistogramMetricFamily(name, "Help.", buckets=[("1.0", 1), ("+Inf", 2)], sum_value=3, unit=unit)


def without_units(families: Iterable[Metric]) -> list[Metric]:
    """Return families as they are in value files, without units."""
    bare = []
    for family in families:
        bare.append(Metric(family.name, family.documentation, family.type))
        bare[-1].samples = family.samples
    return bare


@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("named", [False, True])
def test_text_of_all_parts_is_that_of_prometheus_client(accept: str, named: bool) -> None:
    """For any text in labels and help."""
    merged = [
        gauge("a"),
        gauge("b_seconds", unit="seconds"),
        counter("c_bytes", unit="bytes"),
        histogram("d_seconds", unit="seconds"),
        gauge("e"),
        gauge("z_bytes", unit="bytes"),
    ]
    rest = [
        gauge("own_seconds", unit="seconds"),
        InfoMetricFamily("build", "Help.", {"version": SPECIAL_TEXT}),
    ]
    everything = Merged(*merged, *rest)
    units = {family.name: family.unit for family in merged if family.unit}
    names = {sample.name for family in everything.collect() for sample in family.samples}
    text = text_for(accept, names if named else None)
    text.add_merged(Merged(*without_units(merged)), {**units, "absent_seconds": "seconds"})  # type: ignore[arg-type]
    for family in rest[:1]:
        text.add_unique(family)
    text.add(rest[1:])
    encode, _ = encoder_for(accept)
    assert text.finish() == encode(everything)
    assert text.series == everything.series


@pytest.mark.parametrize("accept", FORMATS)
def test_utf_8_names_are_written_and_marked_as_used(accept: str) -> None:
    odd = gauge(f"{UTF_8_NAME}_seconds", unit="seconds")
    text = text_for(accept)
    text.add_merged(Merged(*without_units([gauge("a"), odd])), {odd.name: "seconds"})  # type: ignore[arg-type]
    encode, _ = encoder_for(accept)
    assert text.finish() == encode(Merged(gauge("a"), odd))
    with pytest.raises(ConflictError):
        text.add_unique(odd)


def test_add_unique_refuses_sample_names_of_a_quoted_family() -> None:
    text = text_for("text/plain; version=1.0.0; escaping=allow-utf-8")
    text.add_unique(histogram(UTF_8_NAME))
    with pytest.raises(ConflictError):
        text.add_unique(gauge(f"{UTF_8_NAME}_sum"))


@pytest.mark.parametrize("accept", FORMATS)
def test_finish_without_families_returns_the_end_of_the_format(accept: str) -> None:
    encode, _ = encoder_for(accept)
    assert text_for(accept).finish() == encode(Merged())


@pytest.mark.parametrize("accept", [TEXT, OPENMETRICS])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("there", "coming"),
    [
        (gauge("a"), gauge("a")),
        (counter("a"), counter("a")),
        (histogram("a"), gauge("a_sum")),
        (gauge("a_bucket"), histogram("a")),
        (SummaryMetricFamily("a", "Help.", 1, 2), gauge("a_count")),
        (InfoMetricFamily("a", "Help.", {"b": "c"}), gauge("a_info")),
        (counter("a"), gauge("a_total")),
    ],
)
def test_add_unique_refuses_a_used_name_and_adds_nothing(
    accept: str, named: bool, there: Metric, coming: Metric
) -> None:
    """For families of value files and for others."""
    names = {sample.name for family in (there, coming) for sample in family.samples} if named else None
    for put in ("add_merged", "add_unique"):
        text = text_for(accept, names)
        if put == "add_merged":
            text.add_merged(Merged(there), {})  # type: ignore[arg-type]
        else:
            text.add_unique(there)
        with pytest.raises(ConflictError, match=coming.name):
            text.add_unique(coming)
        text.add_unique(gauge("b"))
        encode, _ = encoder_for(accept)
        assert text.finish() == encode(Merged(there, *([] if named else [gauge("b")])))
        assert text.series == len(there.samples) + (not named)


def test_gauge_and_counter_of_equal_name_conflict_in_openmetrics_only() -> None:
    """In the text format the name of the counter ends with ``_total``. In OpenMetrics it does not."""
    for accept, fits in ((TEXT, True), (OPENMETRICS, False)):
        text = text_for(accept)
        text.add_unique(gauge("a"))
        with contextlib.nullcontext() if fits else pytest.raises(ConflictError):
            text.add_unique(counter("a"))


def test_label_that_looks_like_a_heading_uses_no_name() -> None:
    text = text_for(TEXT)
    text.add_merged(Merged(gauge("a")), {})  # type: ignore[arg-type]
    assert SPECIAL_TEXT.startswith("# TYPE x ")
    text.add_unique(gauge("x"))


def test_family_that_cannot_be_encoded_adds_nothing() -> None:
    broken = GaugeMetricFamily("broken", "Help.")
    broken.add_sample("broken", {"label": 7}, 1)  # type: ignore[dict-item]
    text = text_for(TEXT)
    with pytest.raises(AttributeError):
        text.add_unique(broken)
    with pytest.raises(AttributeError):
        text.add([gauge("a"), broken])
    assert (text.finish(), text.series) == (b"", 0)
