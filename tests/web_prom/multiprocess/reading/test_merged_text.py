"""The text of a scrape, with prometheus_client's encoders as the oracle (test_merging has the rest)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from tests.web_prom.multiprocess.reading.value_files import Worker, key_of, render
from tests.web_prom.support import samples
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.reading.histograms import HistogramFamily
from web_prom.multiprocess.reading.merged_family import MergedFamily
from web_prom.multiprocess.reading.model import LabelSet
from web_prom.text_format import format_number


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """Return a worker of web-prom."""
    worker = Worker(tmp_path, "s0")
    yield worker
    worker.close()


@given(st.one_of(st.floats(), st.integers(-(2**60), 2**60).map(float)))
@example(1e6)
@example(999999.9999999999)
@example(-0.0)
@example(math.inf)
@example(-math.inf)
@example(math.nan)
def test_numbers_are_written_as_prometheus_client_does(value: float) -> None:
    assert format_number(value) == floatToGoString(value)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan, 1e6, 1.0])
def test_unusual_values_are_written_as_prometheus_client_does(worker: Worker, value: float) -> None:
    """As the only sample of a label set, and as one of several."""
    other = Worker(worker.directory, "s1")
    other.gauge("all", "several", 2.0)
    worker.gauge("all", "several", value)
    worker.gauge("sum", "single", value)
    rendered = render(WorkersCollector(worker.directory, dict), generate_latest, "text/plain").decode()
    text = floatToGoString(value)  # type: ignore[no-untyped-call]
    assert [line for line in rendered.splitlines() if line[0] != "#"] == [
        f'several{{pid="s0"}} {text}',
        'several{pid="s1"} 2.0',
        f"single {text}",
    ]
    other.close()


def test_the_order_is_that_of_names_labels_and_bounds(worker: Worker) -> None:
    """And the same in every scrape: byte for byte, whoever was there first."""
    other = Worker(worker.directory, "s1")
    for path in ("/b", "/a"):
        worker.observe("h", 0.5, {"path": path})
        other.observe("h", 0.5, {"path": path})
        other.inc("z", {"path": path})
        worker.summarize("s", 2.0, {"path": path})
    worker.gauge("all", "g", 1.0)
    other.gauge("all", "g", 2.0)
    collector = WorkersCollector(worker.directory, dict)
    text = render(collector, generate_latest, "text/plain")
    assert text.decode().splitlines() == [
        "# HELP g Help.",
        "# TYPE g gauge",
        'g{pid="s0"} 1.0',
        'g{pid="s1"} 2.0',
        "# HELP h Help.",
        "# TYPE h histogram",
        *(
            line
            for path in ("/a", "/b")
            for line in (
                f'h_bucket{{le="0.1",path="{path}"}} 0.0',
                f'h_bucket{{le="1.0",path="{path}"}} 2.0',
                f'h_bucket{{le="+Inf",path="{path}"}} 2.0',
                f'h_count{{path="{path}"}} 2.0',
                f'h_sum{{path="{path}"}} 1.0',
            )
        ),
        "# HELP s Help.",
        "# TYPE s summary",
        's_count{path="/a"} 1.0',
        's_sum{path="/a"} 2.0',
        's_count{path="/b"} 1.0',
        's_sum{path="/b"} 2.0',
        "# HELP z_total Help.",
        "# TYPE z_total counter",
        'z_total{path="/a"} 1.0',
        'z_total{path="/b"} 1.0',
    ]
    other.remove("histogram")
    other.remove("counter")
    other.inc("z", {"path": "/a"})
    other.observe("h", 0.5, {"path": "/b"})
    assert render(collector, generate_latest, "text/plain") == render(
        WorkersCollector(worker.directory, dict), generate_latest, "text/plain"
    )
    other.close()


def test_text_that_has_not_changed_is_kept(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the label sets with other values are merged and written again."""
    for path in ("/a", "/b", "/c"):
        worker.observe("h", 0.5, {"path": path})
        worker.inc("a", {"path": path})
    collector = WorkersCollector(worker.directory, dict)
    before = render(collector, generate_latest, "text/plain")
    merged: list[str] = []

    def merge(self: MergedFamily, label_set: LabelSet) -> tuple[float, ...]:
        merged.append(label_set.labels[0][1])
        return ()

    monkeypatch.setattr(MergedFamily, "merge", merge)
    monkeypatch.setattr(HistogramFamily, "merge", merge)
    assert render(collector, generate_latest, "text/plain") == before
    assert merged == []
    worker.observe("h", 0.5, {"path": "/b"})
    worker.inc("a", {"path": "/c"})
    render(collector, generate_latest, "text/plain")
    assert sorted(merged) == ["/b", "/c"]


def test_label_values_that_are_no_unicode_do_not_fail_the_scrape(worker: Worker) -> None:
    """A path in bytes that were no UTF-8: with prometheus_client every scrape fails from then on."""
    worker.inc("a", {"path": "/\udcff"})
    worker.observe("h", 1.0, {"path": "/\udcff\U0001f600"})
    collector = WorkersCollector(worker.directory, dict)
    for accept in ("", "application/openmetrics-text;version=1.0.0"):
        text = render(collector, *choose_encoder(accept)).decode()
        assert 'a_total{path="/?"} 1.0' in text
        assert 'h_count{path="/?\U0001f600"} 1.0' in text


def test_a_help_text_that_changes_is_shown_in_every_format(worker: Worker) -> None:
    collector = WorkersCollector(worker.directory, dict)
    for documentation in ("Old.", "New.\nLine."):
        worker.observe("h", 1.0, documentation=documentation)
        for accept in ("", "application/openmetrics-text;version=1.0.0"):
            text = render(collector, *choose_encoder(accept)).decode()
            assert f"# HELP h {documentation.replace(chr(10), chr(92) + 'n')}\n" in text
        worker.remove("histogram")


def test_content_types_are_a_clients_choice_and_do_not_pile_up(worker: Worker) -> None:
    worker.inc("a")
    collector = WorkersCollector(worker.directory, dict)
    expected = render(collector, generate_latest, "text/plain")
    for version in range(100):
        assert render(collector, generate_latest, f"text/plain; version={version}") == expected
    assert len(collector._view()._formats) <= 16


def test_labels_with_what_stands_for_a_place_in_a_template(worker: Worker) -> None:
    other = Worker(worker.directory, "s1")
    for value in ("%s", "100%", '%%"', "\\%d\n"):
        worker.inc("a", {"x": value})
        worker.observe("h", 1.0, {"x": value})
        other.observe("h", 1.0, {"x": value}, (0.5, math.inf))
        worker.gauge("all", "g", 1.0, {"x": value})
    collector = WorkersCollector(worker.directory, dict)
    for _ in range(2):
        text = render(collector, generate_latest, "text/plain").decode()
        for value in ("%s", "100%", '%%\\"', r"\\%d\n"):
            assert f'a_total{{x="{value}"}} ' in text
            assert f'h_bucket{{le="0.5",x="{value}"}} 0.0' in text
            assert f'h_count{{x="{value}"}} ' in text
            assert f'g{{pid="s0",x="{value}"}} 1.0' in text
        worker.inc("a", {"x": "%s"})
        other.remove("histogram")
        for value in ("%s", "100%", '%%"', "\\%d\n"):
            other.observe("h", 1.0, {"x": value}, (0.5, 1.0, math.inf))
    other.close()


def test_names_with_what_stands_for_a_place_in_a_template(worker: Worker) -> None:
    try:
        Metric("a_%d", "", "counter")
    except ValueError:
        pytest.skip("this version of prometheus_client has no such names")
    worker.file("counter").set(key_of("a_%d", "a_%d_total", {"50%": "x", "%s": "y"}), 1.0)
    collector = WorkersCollector(worker.directory, dict)
    assert samples(collector, "a_%d_total", "50%", "%s") == {("x", "y"): 1}


def test_the_order_of_labels_with_the_lowest_character(worker: Worker) -> None:
    """Names of labels that differ, and values with a zero in them, are ordered as tuples are."""
    values = [("x\0", "y"), ("x", "\0y"), ("x", ""), ("", "\0"), ("x\0", "\0")]
    for a, b in values:
        worker.inc("a", {"a": a, "b": b})
    collector = WorkersCollector(worker.directory, lambda: {0: 100})
    (metric,) = collector.collect()
    assert [(each.labels["a"], each.labels["b"]) for each in metric.samples] == sorted(values)
