"""Handwritten code for prometheus_client continues to work with web-prom and several workers."""

from __future__ import annotations

import http.client
import signal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.process import Gunicorn, Scratch, wait_until

# As it is found in many repositories, without web-prom's hooks.
CONFIGURATION = """
    from prometheus_client import multiprocess

    def child_exit(server, worker):
        multiprocess.mark_process_dead(worker.pid)
"""

SCRAPES = ("/metrics", "/upstream", "/written-by-hand")


def value(server: Gunicorn, path: str, name: str, **labels: str) -> float:
    """Return the sum of a name's samples in one of the application's scrapes."""
    status, _, body = server.get(path)
    assert status == 200, server.log()
    return sum(
        sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_metrics_endpoint_and_hooks_written_by_hand(place: Scratch, tmp_path: Path) -> None:
    """They count what web-prom counts, and neither ``mark_process_dead`` nor a killed worker loses counts."""
    config = place.configuration(CONFIGURATION)
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with Gunicorn(place, config=config, app="tests.servers.apps.by_hand:app", environ=environ) as server:
        worked = 0

        def work(times: int) -> None:
            nonlocal worked
            for _ in range(times):
                assert server.get("/work")[0] == 200
            worked += times

        def agree() -> None:
            for path in SCRAPES:
                assert value(server, path, "http_requests_total", route="/work") == worked, path
            # The last one is a page of the application and is counted at its end.
            answers = value(server, "/metrics", "http_requests_total")
            assert value(server, "/upstream", "own_answers_total") == answers
            assert value(server, "/upstream", "own_seconds_count") == answers

        def succeeded() -> bool:
            work(1)
            return value(server, "/upstream", "own_running") == 0

        work(20)
        agree()
        with pytest.raises((http.client.HTTPException, OSError)):
            server.get("/die")
        server.wait_for_boots(3)
        for name in ("http_requests_in_progress", "own_running"):
            assert value(server, "/metrics", name) == 0
        # prometheus_client's collector cannot see which processes live; the new worker takes over the slot.
        wait_until(succeeded, "the successor to work")
        agree()
        server.signal(signal.SIGHUP)
        server.wait_for_boots(5)
        work(20)
        agree()
        assert "Traceback" not in server.log()
