"""Merging of gauges."""

from __future__ import annotations

from prometheus_client.exposition import choose_encoder

from tests.web_prom.multiprocess.reading.value_files import Worker, render
from tests.web_prom.support import samples
from web_prom.multiprocess.reading.collector import WorkersCollector


def test_most_recent_gauge_ignores_values_that_were_never_set(
    workers: tuple[Worker, Worker], collector: WorkersCollector
) -> None:
    """Their timestamp is zero. Of equal timestamps the first file counts."""
    first, second = workers
    second.gauge("mostrecent", "g", 0.0)
    assert samples(collector, "g") == {}
    assert render(collector, *choose_encoder("")) == b"# HELP g Help.\n# TYPE g gauge\n"
    assert collector.series == 0
    first.gauge("mostrecent", "g", 1.0, timestamp=7.0)
    second.gauge("mostrecent", "g", 2.0, timestamp=7.0)
    assert samples(collector, "g") == {(): 1}
    second.gauge("mostrecent", "g", 2.0, timestamp=7.5)
    assert samples(collector, "g") == {(): 2}
