"""A worker without free descriptors never answers a scrape with less than was counted."""

from __future__ import annotations

import contextlib
import http.client
import time

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.process import Gunicorn, Scratch

# Leaves the worker between zero and a few free descriptors, in turn.
HOG = """
import os
import resource
import threading
import time
from web_prom.gunicorn import child_exit, nworkers_changed, on_exit, on_starting, pre_exec

def hog(mine):
    while True:
        for free in range(12):
            try:
                while True:
                    mine.append(os.dup(0))
            except OSError:
                pass
            for _ in range(min(free, len(mine))):
                os.close(mine.pop())
            time.sleep(0.004)

def post_request(worker, request, environ, response):
    if not getattr(worker, "hog", None):
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        worker.hog = threading.Thread(target=hog, args=([],), daemon=True)
        worker.hog.start()
"""
_REQUESTS = 50
_SCRAPES = 400


def _values(families: list[Metric]) -> dict[str, float]:
    """Return the samples that can only grow: those of counters and histograms."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in families
        for sample in family.samples
        if family.type in ("counter", "histogram")
    }


def test_fault_67_scrape_with_status_200_never_shows_a_decrease(place: Scratch) -> None:
    """A gthread worker at RLIMIT_NOFILE is scraped while its descriptors run out and become free."""
    config = place.configuration(HOG)
    with (
        Gunicorn(place, "--keep-alive=60", config=config, workers=1, worker_class="gthread") as server,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as client,
    ):
        for number in range(_REQUESTS):
            client.request("GET", f"/items/{number + 1}")
            assert client.getresponse().read()
        last: dict[str, float] = {}
        names: set[str] = set()
        statuses: dict[int, int] = {}
        deadline = time.monotonic() + 30
        while sum(statuses.values()) < _SCRAPES or not {200, 500} <= statuses.keys():
            assert time.monotonic() < deadline, (statuses, server.log())
            client.request("GET", "/metrics")
            response = client.getresponse()
            body = response.read()
            statuses[response.status] = statuses.get(response.status, 0) + 1
            if response.status != 200:
                continue
            families = list(text_string_to_metric_families(body.decode()))
            now = _values(families)
            assert {
                name: (value, now.get(name)) for name, value in last.items() if now.get(name, -1) < value
            } == {}
            assert names <= {family.name for family in families}
            last, names = now, {family.name for family in families}
        assert {"process_cpu_seconds", "process_open_fds", "http_requests"} <= names
        total = "http_requests_total[('method', 'GET'), ('route', '/items/<int:number>'), ('status', '200')]"
        assert last[total] == _REQUESTS
