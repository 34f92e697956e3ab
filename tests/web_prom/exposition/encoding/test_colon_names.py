"""Metric names with colons: equal in headings and samples, in one process and with shared values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.web_prom.multiprocess.reading.value_files import Worker
from tests.web_prom.support import environ_of
from web_prom.exposition.http import Exposition
from web_prom.exposition.negotiation import encoder_for

OPENMETRICS = [
    "application/openmetrics-text",
    "application/openmetrics-text; version=1.0.0",
    "application/openmetrics-text; version=1.0.0; escaping=underscores",
    "application/openmetrics-text; version=0.0.1",
]
TEXT = ["", "text/plain; version=1.0.0", "text/plain; version=1.0.0; escaping=underscores"]
TRAP = 'a\n# TYPE vllm_requests gauge\nvllm_requests 1.0 {vllm_requests="'


class Custom:
    """A collector with a family whose labels look like lines of another family."""

    def collect(self) -> Any:
        family = GaugeMetricFamily("queue:depth", f"Help, {TRAP}", labels=["trap"])
        family.add_metric([TRAP], 3)
        yield family
        yield GaugeMetricFamily("queue_depth", "Another one.", value=7)


def registry_with(*, custom: bool) -> CollectorRegistry:
    """Return a registry with names with colons, and without."""
    registry = CollectorRegistry()
    Counter("vllm:requests", "Help.", ["trap"], registry=registry).labels(TRAP).inc()
    Counter("vllm_requests", "Help.", registry=registry).inc(2)
    Gauge("job:load:mean5m", "Help.", registry=registry).set(5)
    Histogram("vllm:seconds", "Help.", registry=registry, buckets=[1]).observe(0.5)
    Summary("vllm:size", "Help.", registry=registry).observe(1)
    if custom:
        Info("vllm:build", "Help.", registry=registry).info({"version": "1"})
        registry.register(Custom())
    return registry


def text_of(exposition: Exposition, accept: str) -> str:
    """Return the text of a scrape."""
    return exposition.respond(environ_of("/metrics", HTTP_ACCEPT=accept)).body.decode()


def values_in(text: str) -> dict[str, float]:
    """Return the value of each line without its labels."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.partition("{")[0].split(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.mark.parametrize("accept", [*OPENMETRICS, *TEXT])
def test_fault_57_names_keep_colons_in_one_process(accept: str) -> None:
    """In samples and headings, also with other names that differ only in the colons."""
    text = text_of(Exposition(registry_with(custom=True)), accept)
    values = values_in(text)
    assert values["vllm:requests_total"] == 1
    assert values["vllm_requests_total"] == 2
    assert values["job:load:mean5m"] == 5
    assert values["vllm:seconds_count"] == values["vllm:seconds_bucket"] == values["vllm:size_count"] == 1
    assert values["vllm:build_info"] == 1
    assert (values["queue:depth"], values["queue_depth"]) == (3, 7)
    if text.endswith("# EOF\n"):
        for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
            assert family.type != "unknown"
            assert all(sample.name.startswith(family.name) for sample in family.samples)


@pytest.mark.parametrize("accept", [*OPENMETRICS, *TEXT])
def test_fault_57_names_keep_colons_with_shared_values(tmp_path: Path, accept: str) -> None:
    """Both for cached lines and for lines from the encoder."""
    for slot in range(2):
        worker = Worker(tmp_path, f"s{slot}")
        worker.inc("vllm:requests", {"trap": TRAP})
        worker.inc("vllm_requests", amount=2)
        worker.observe("vllm:seconds", 0.5)
        worker.gauge("sum", "vllm:load", 1.0, {"odd.label": "x"})
        worker.close()
    exposition = Exposition(directory=str(tmp_path))
    for _ in range(2):
        values = values_in(text_of(exposition, accept))
        assert values["vllm:requests_total"] == values["vllm:seconds_count"] == values["vllm:load"] == 2
        assert values["vllm_requests_total"] == 4


@pytest.mark.parametrize(
    "accept", [*TEXT, "application/openmetrics-text; version=1.0.0; escaping=dots", OPENMETRICS[0]]
)
def test_fault_57_other_text_is_that_of_prometheus_client(accept: str) -> None:
    """For formats with correct colons, for other escaping schemes, and for names without colons."""
    registry = registry_with(custom=True)
    if accept in OPENMETRICS:
        registry = CollectorRegistry()
        Counter("vllm_requests", "Help.", ["trap"], registry=registry).labels(TRAP).inc()
    upstream, _ = choose_encoder(accept)
    ours, _ = encoder_for(accept)
    assert ours(registry) == upstream(registry)
