"""The reader of the text format: the same samples as prometheus_client's parser, and clear errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from web_prom.live.text_samples import MAX_BYTES, Scrape, TextFormatError, TextReader

Found = list[tuple[str, tuple[tuple[str, str], ...], float]]


def read(scrape: Scrape) -> Found:
    """Return the samples of a scrape in the order of the text. Values that are not finite are 0."""
    return [
        (series.name, tuple(sorted(series.labels.items())), scrape.values[series.at])
        for family in scrape.families.values()
        for series in family.series
    ]


def expected(text: str) -> Found:
    return [
        (
            sample.name,
            tuple(sorted(sample.labels.items())),
            sample.value if math.isfinite(sample.value) else 0.0,
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


values = some.floats() | some.integers(-10, 10).map(float)
labels = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    rows=some.lists(some.tuples(labels, labels, values, some.integers(0, 9)), max_size=8),
    later=some.lists(some.tuples(labels, labels, values, some.integers(0, 9)), max_size=8),
)
def test_read_agrees_with_the_parser_of_prometheus_client(rows: Any, later: Any) -> None:
    """Also for the second and the third scrape, which share what was parsed before."""
    registry = CollectorRegistry()
    gauge = Gauge("a", "A\nhelp \\ text.", ["one", "two"], registry=registry)
    counter = Counter("b", "", ["one"], registry=registry)
    histogram = Histogram("c_seconds", "", ["two"], buckets=(1, 2), registry=registry)
    Summary("d", "", registry=registry).observe(3)
    Info("e", "", registry=registry).info({"version": "1.0"})
    reader = TextReader()
    batches: tuple[Any, ...] = (rows, [], later)
    for batch in batches:
        for one, two, value, count in batch:
            gauge.labels(one, two).set(value)
            counter.labels(one).inc(count)
            histogram.labels(two).observe(count)
        text = generate_latest(registry)
        assert sorted(read(reader.read(text))) == sorted(expected(text.decode()))


def test_read_knows_types_and_help() -> None:
    registry = CollectorRegistry()
    Histogram("c_seconds", "Line\nbreak.", registry=registry)
    Counter("b", "B.", registry=registry)
    families = TextReader().read(generate_latest(registry)).families
    assert {(name, each.type, each.help) for name, each in families.items() if "created" not in name} == {
        ("c_seconds", "histogram", "Line\nbreak."),
        ("b_total", "counter", "B."),
    }


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_read_names_values_that_json_cannot_have(value: str) -> None:
    reader = TextReader()
    assert reader.read(f"a {value}\nb 1\n".encode()).not_finite == {0}
    assert reader.read(b"a 1\nb 1\n").not_finite == frozenset()
    scrape = reader.read(f"a 1\nb {value}\n".encode())
    assert (scrape.not_finite, list(scrape.values)) == (frozenset({1}), [1.0, 0.0])


def test_read_does_not_change_earlier_scrapes() -> None:
    reader = TextReader()
    first = reader.read(b"a 1\nb 2\n")
    second = reader.read(b"a 5\nb 2\n")
    assert (list(first.values), list(second.values)) == ([1, 2], [5, 2])
    assert first.families is second.families


@pytest.mark.parametrize("text", [b"a 1\nc 2\n", b"a 1\n", b"a 1\nb 2\nc 3\n", b"# TYPE a gauge\na 1\nb 2\n"])
def test_read_notices_other_series(text: bytes) -> None:
    reader = TextReader()
    reader.read(b"a 1\nb 2\n")
    assert sorted(read(reader.read(text))) == sorted(expected(text.decode()))


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ('{"a.b", x="1"} 4', {"x": "1"}),
        ('a{"x.y"="1",z="2",} 4', {"x.y": "1", "z": "2"}),
        ('a{ x = "}" , y = "a b" } 4', {"x": "}", "y": "a b"}),
        ('a{x="\\"\\\\\\n"} 4 1700000000000', {"x": '"\\\n'}),
        ("a 4", {}),
        ("a\t4", {}),
        ('a{x="1"}4', {"x": "1"}),
        ('a{x="1"}\t4', {"x": "1"}),
        ('a{x="\\\\"}4 # {y="z"} 1', {"x": "\\"}),
        ("  a 4", {}),
        ('\ta {x="1"}\t4\r', {"x": "1"}),
    ],
)
def test_read_accepts_all_spellings_of_a_series(line: str, labels: dict[str, str]) -> None:
    scrape = TextReader().read(line.encode())
    ((_name, found, value),) = read(scrape)
    assert (dict(found), value) == (labels, 4.0)


@pytest.mark.parametrize("end", [" 4", '"broken" 4'], ids=["good", "broken"])
def test_read_takes_a_time_in_proportion_to_the_line(end: str) -> None:
    """Copies of the rest of the line for each label would take hours."""
    labels = " , ".join(f'n{number}="1"' for number in range(100_000))
    line = f"a{{{labels}}}{end}"
    if end == " 4":
        assert len(read(TextReader().read(line.encode()))[0][1]) == 100_000
    else:
        with pytest.raises(TextFormatError):
            TextReader().read(line.encode())


@pytest.mark.parametrize(
    "text",
    [
        *("<!doctype html>", '{"a": 1}', "a", "a x", 'a{b="1} 2', "a{b=1} 2", "a{b} 2", "two words 2 3 x"),
        *('{""} 1', "{} 1", '{"a","b"} 1', 'a{"b"} 1', 'a{b="1" 2', "a} 1", 'a{b="1"}} 2'),
        *('a{b c="1"} 2', 'a{="1"} 2', 'a b{c="1"} 2'),
    ],
)
def test_read_says_which_line_is_wrong(text: str) -> None:
    reader = TextReader()
    with pytest.raises(TextFormatError) as caught:
        reader.read(f"good 1\n{text}\n".encode())
    assert repr(text) in str(caught.value)
    assert list(reader.read(b"good 2\n").values) == [2.0]


def test_read_refuses_more_than_50_mb() -> None:
    with pytest.raises(TextFormatError, match="50 MB"):
        TextReader().read(b"#" * (MAX_BYTES + 1))


def test_read_ignores_exemplars() -> None:
    lines = (b'a_bucket{le="1",path="x # {y"} 5 # {trace="t"} 0.5', b"a_total 3 # {} 0.25 1.5")
    scrape = TextReader().read(b"\n".join(lines))
    (bucket,), (total,) = (family.series for family in scrape.families.values())
    assert (bucket.labels, scrape.values[bucket.at]) == ({"le": "1", "path": "x # {y"}, 5)
    assert (total.labels, scrape.values[total.at]) == ({}, 3)


@pytest.mark.parametrize("start", ["a ", "a\t", "a  ", 'a{x="1"}', 'a{x="1"} ', 'a{x="1"}\t', 'a {x="1"} '])
def test_read_takes_the_whole_value_that_changed(start: str) -> None:
    reader = TextReader()
    for value in ("12", "13", "-1", "1e3", "7", "NaN", "120 1700000000000", "121 1700000000001", "5"):
        scrapes = reader.read(f"{start}{value}\n".encode()), TextReader().read(f"{start}{value}\n".encode())
        expected = [0.0 if value == "NaN" else float(value.split()[0])]
        assert [list(scrape.values) for scrape in scrapes] == [expected, expected]


def test_read_knows_series_that_begin_like_others() -> None:
    reader = TextReader()
    reader.read(b'a 1\na{x="1"}2\nab 3\n')
    assert read(reader.read(b'ab 6\na 4\na{x="1"}57\n')) == [
        ("ab", (), 6),
        ("a", (), 4),
        ("a", (("x", "1"),), 57),
    ]


@pytest.mark.parametrize("value", ["\\\\", '\\"', '\\\\\\"', "\\n # {", 'x\\" # {y', "\\\\\\\\"])
def test_read_finds_exemplars_after_values_with_escapes(value: str) -> None:
    line = f'a_total{{x="{value}"}} 5'
    with_exemplar = TextReader().read(f'{line} # {{trace="\\\\"}} 0.5'.encode())
    assert read(with_exemplar) == read(TextReader().read(line.encode()))
    assert list(with_exemplar.values) == [5]


@pytest.mark.parametrize("name", ["a b", "a.b", 'a"b', "a\\b", "a\nb", "a}b", "a # {b", "\u00e9", " a", "#"])
@pytest.mark.parametrize("labels", ["", ',x="1"', ' , "x"="1",'])
def test_read_accepts_each_name_in_quotation_marks(name: str, labels: str) -> None:
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    text = f"# HELP {quoted} Some  help.\n# TYPE {quoted} counter\n{{{quoted}{labels}}} 4\n"
    scrape = TextReader().read(text.encode())
    (family,) = scrape.families.values()
    assert (family.name, family.type, family.help) == (name, "counter", "Some  help.")
    assert read(scrape) == [(name, (("x", "1"),) if labels else (), 4)]


@pytest.mark.parametrize(
    ("comments", "kind", "help_text"),
    [
        ("# TYPE a counter\n# HELP a Help.", "counter", "Help."),
        ("#\tTYPE\ta\tcounter\r\n  # HELP  a  Some  help.", "counter", "Some  help."),
        ("# TYPE a\n# HELP a", "unknown", ""),
        ("# HELP a \n# TYPE a gauge", "gauge", ""),
        ("# type a counter\n#TYPE a counter\n# TYPES a counter\n#\n# TYPE", "unknown", ""),
        ('# TYPE "a counter', "unknown", ""),
    ],
)
def test_read_accepts_all_spellings_of_comments(comments: str, kind: str, help_text: str) -> None:
    family = TextReader().read(f"{comments}\na 1\n".encode()).families["a"]
    assert (family.type, family.help, len(family.series)) == (kind, help_text, 1)


@pytest.mark.parametrize("bound", ["", "x", "NaN", "-Inf", "1 s", "1,5"])
@pytest.mark.parametrize("kind", ["# TYPE a histogram\n", ""])
def test_read_refuses_buckets_whose_bound_is_no_number(bound: str, kind: str) -> None:
    """Those who read a histogram need no check of their own."""
    with pytest.raises(TextFormatError, match="a_bucket"):
        TextReader().read(f'{kind}a_bucket{{le="{bound}"}} 1\n'.encode())


pieces = some.sampled_from(
    [
        *("a", "a_bucket", "le", "0.5", "1e308", "NaN", "# TYPE ", "# HELP ", " histogram"),
        *'\n \t\r\x00{}"=,#\\\u00e9\ud800',
        *("a 1\n", 'a_bucket{le="1"} 2\n', ' # {x="1"} 2'),
    ]
)


@settings(max_examples=300, deadline=None)
@given(texts=some.lists(some.lists(pieces, max_size=24).map("".join), max_size=3))
def test_read_raises_nothing_but_its_error(texts: list[str]) -> None:
    """After an error, the reader reads the next scrape as a new one does."""
    reader = TextReader()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        try:
            found = read(reader.read(data))
        except TextFormatError:
            with pytest.raises(TextFormatError):
                TextReader().read(data)
        else:
            assert found == read(TextReader().read(data))
