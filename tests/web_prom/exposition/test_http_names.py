"""``name[]``: samples are selected before they are encoded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.metrics_core import Metric

from tests.web_prom.multiprocess.reading.value_files import Worker, render
from tests.web_prom.support import environ_of
from web_prom.exposition.http import Exposition
from web_prom.exposition.negotiation import encoder_for
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.reading.merged_family import MergedFamily

ACCEPTS = [
    "",
    "application/openmetrics-text; version=1.0.0",
    "text/plain; version=1.0.0; escaping=allow-utf-8",
    "text/plain; version=1.0.0; escaping=dots",
]
ODD = 'a\r\x0b\x0c\u2028\x85\nh_count{x="1"} 7\n# TYPE h_sum gauge\nh_sum 5'
NAMES = [
    *("a_total", "h_bucket", "h_count", "h_sum", "s_count", "s_sum", "all", "some:thing", "nothing"),
    *("h", "mixed", "mixed_total", "never", "odd_sum"),
]


class Restricted:
    """The oracle: the wanted samples of all collected families."""

    def __init__(self, metrics: Any, names: set[str]) -> None:
        self._metrics = metrics
        self._names = names

    def collect(self) -> Iterator[Metric]:
        for metric in self._metrics:
            samples = [sample for sample in metric.samples if sample.name in self._names]
            if samples:
                kept = Metric(metric.name, metric.documentation, metric.type)
                kept.samples = samples
                yield kept


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with the files of two workers and all types of families."""
    for slot in range(2):
        worker = Worker(tmp_path, f"s{slot}")
        for value in ("1", ODD):
            worker.inc("a", {"x": value})
            worker.observe("h", 0.5, {"x": value})
            worker.summarize("s", 2.0, {"x": value})
            worker.gauge("all", "all", 2.0, {"x": value})
        worker.observe("different", 0.5, bounds=(1.0, 2.0, float("inf"))[slot:])
        worker.observe("odd.name" if slot else "odd", 0.5)
        worker.gauge("sum", "some:thing", 1.0)
        worker.gauge("mostrecent", "never", 1.0)
        worker.gauge("max", "mixed", 1.0)
        worker.inc("mixed")
        worker.close()
    return tmp_path


@pytest.mark.parametrize("accept", ACCEPTS)
def test_fault_70_merged_families_restricted_by_name_are_those_of_prometheus_client(
    directory: Path, accept: str
) -> None:
    """For any samples of a family."""
    collector = WorkersCollector(directory, dict)
    encode, content_type = encoder_for(accept)
    for count in (0, 1, 2, len(NAMES)):
        for names in map(set, combinations(NAMES, count)):
            expected = encode(Restricted(collector.collect(), names)).removesuffix(b"# EOF\n")
            assert render(collector, encode, content_type, frozenset(names)) == expected, names
            lines = [line for line in expected.split(b"\n") if line and not line.startswith(b"#")]
            assert collector.series == len(lines)


def test_fault_70_restricting_cached_families_creates_no_samples(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Creating samples took fourteen times as long as the whole scrape."""
    collector = WorkersCollector(directory, dict)
    encode, content_type = encoder_for("")
    whole = render(collector, encode, content_type)

    def made(family: MergedFamily) -> Metric:
        raise AssertionError(f"samples were made of {family.name}")

    monkeypatch.setattr(MergedFamily, "metric", made)
    for name in ("a_total", "h_bucket", "h_count", "s_sum", "all", "nothing"):
        text = render(collector, encode, content_type, {name})
        assert set(text.split(b"\n")) <= set(whole.split(b"\n"))


@pytest.mark.parametrize("accept", ACCEPTS[:2])
def test_fault_70_scrapes_with_many_names_do_not_displace_cached_templates(
    accept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The templates of the full scrape stay cached."""
    registry = CollectorRegistry()
    for value in ("1", ODD):
        Counter(f"a{len(value)}", "Help.", ["x"], registry=registry).labels(value).inc()
        Histogram(f"h{len(value)}", "Help.", ["x"], registry=registry).labels(value).observe(0.5)
        Summary(f"s{len(value)}", "Help.", ["x"], registry=registry).labels(value).observe(0.5)
        Gauge(f"g{len(value)}", "Help.", ["x"], registry=registry).labels(value).set(0.5)
    exposition = Exposition(registry)
    encode, _ = encoder_for(accept)
    metrics = list(registry.collect())
    samples = sorted({sample.name for metric in metrics for sample in metric.samples})
    before = exposition.respond(environ_of("/metrics", HTTP_ACCEPT=accept)).body

    def anew(*arguments: object) -> None:
        raise AssertionError("lines were made anew")

    monkeypatch.setattr("web_prom.exposition.encoding.line_templates.TemplateSection.template", anew)
    monkeypatch.setattr("web_prom.exposition.encoding.line_templates.FamilyTemplate.from_encoder", anew)
    for names in (*combinations(samples, 1), *combinations(samples, 2)):
        query = "&".join(f"name[]={name}" for name in names)
        response = exposition.respond(environ_of("/metrics", HTTP_ACCEPT=accept, QUERY_STRING=query))
        assert response.body == encode(Restricted(metrics, set(names))), names
    after = exposition.respond(environ_of("/metrics", HTTP_ACCEPT=accept)).body
    assert after.partition(b"web_prom_")[0] == before.partition(b"web_prom_")[0]
