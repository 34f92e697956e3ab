"""The text of merged families, compared with the encoders of prometheus_client."""

from __future__ import annotations

import math

import pytest
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


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan, 1e6, 1.0])
def test_special_values_are_written_as_prometheus_client_does(worker: Worker, value: float) -> None:
    """The value is the only sample of a label set, or one of several."""
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


def test_samples_are_ordered_by_name_labels_and_bound(worker: Worker) -> None:
    """The order does not depend on the order in which the files were read."""
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


def test_update_texts_merges_only_changed_label_sets(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_label_values_that_are_not_unicode_do_not_make_the_scrape_fail(worker: Worker) -> None:
    """They come from a path whose bytes are not UTF-8. prometheus_client would fail in every scrape."""
    worker.inc("a", {"path": "/\udcff"})
    worker.observe("h", 1.0, {"path": "/\udcff\U0001f600"})
    collector = WorkersCollector(worker.directory, dict)
    for accept in ("", "application/openmetrics-text;version=1.0.0"):
        text = render(collector, *choose_encoder(accept)).decode()
        assert 'a_total{path="/?"} 1.0' in text
        assert 'h_count{path="/?\U0001f600"} 1.0' in text


def test_changed_help_text_is_written_in_every_format(worker: Worker) -> None:
    collector = WorkersCollector(worker.directory, dict)
    for documentation in ("Old.", "New.\nLine."):
        worker.observe("h", 1.0, documentation=documentation)
        for accept in ("", "application/openmetrics-text;version=1.0.0"):
            text = render(collector, *choose_encoder(accept)).decode()
            assert f"# HELP h {documentation.replace(chr(10), chr(92) + 'n')}\n" in text
        worker.remove("histogram")


def test_number_of_cached_formats_is_limited(worker: Worker) -> None:
    worker.inc("a")
    collector = WorkersCollector(worker.directory, dict)
    expected = render(collector, generate_latest, "text/plain")
    for version in range(100):
        assert render(collector, generate_latest, f"text/plain; version={version}") == expected
    assert len(collector._view()._formats) <= 16


def test_placeholders_in_label_values_are_escaped(worker: Worker) -> None:
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


def test_placeholders_in_names_are_escaped(worker: Worker) -> None:
    try:
        Metric("a_%d", "", "counter")
    except ValueError:
        pytest.skip("this version of prometheus_client has no such names")
    worker.file("counter").set(key_of("a_%d", "a_%d_total", {"50%": "x", "%s": "y"}), 1.0)
    collector = WorkersCollector(worker.directory, dict)
    assert samples(collector, "a_%d_total", "50%", "%s") == {("x", "y"): 1}
