"""The live page of real servers with several workers: one history, and the numbers of /metrics."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.servers.exporting import Exporting, ask
from tests.servers.process import DJANGO_APP, FLASK_APP, Gunicorn, Scratch, wait_until
from tests.web_prom.live.support import valid
from web_prom.live import take_snapshot

pytestmark = pytest.mark.packages

ENVIRON = {"PROM_LIVE": "1", "PROM_ALLOWED_NETWORKS": "127.0.0.1"}


def read(server: Gunicorn, name: str) -> Any:
    status, headers, body = server.get(f"/live/{name}")
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    return json.loads(body)


def measured(snapshot: dict[str, Any]) -> dict[tuple[str, str], dict[str, float]]:
    return {(row["method"], row["route"]): row["statuses"] for row in snapshot["requests"]["routes"]}


def show_numbers_of_the_metrics(server: Gunicorn) -> dict[str, Any]:
    """Check that the page shows 30 requests of all workers, and return the snapshot."""
    for _ in range(30):
        assert server.get("/items/1")[0] == 200

    def all_counted() -> dict[tuple[str, str], dict[str, float]] | None:
        # A client can have its response before the request is counted.
        found = measured(take_snapshot(server.get("/metrics")[2]))
        return found if sum(sum(statuses.values()) for statuses in found.values()) == 30 else None

    expected = wait_until(all_counted, "all requests to be counted", shown=server.log)

    def agrees() -> bool:
        snapshot = read(server, "snapshot.json")
        return measured(snapshot) == expected and len(snapshot["workers"]) == 2

    wait_until(agrees, "the numbers", shown=server.log)
    snapshot = valid(read(server, "snapshot.json"))
    assert len({read(server, "snapshot.json")["checks"][0]["summary"] for _ in range(9)}) == 1
    assert [check for check in snapshot["checks"] if not check["ok"]] == []
    assert "Traceback" not in server.log()
    return snapshot


@pytest.mark.parametrize(("app", "worker_class"), [(FLASK_APP, "gevent"), (DJANGO_APP, "gthread")])
def test_page_shows_all_workers_and_the_numbers_of_the_metrics(
    place: Scratch, app: str, worker_class: str
) -> None:
    with Gunicorn(place, app=app, worker_class=worker_class, environ=ENVIRON) as server:
        show_numbers_of_the_metrics(server)


def test_page_goes_on_after_the_death_of_all_workers(place: Scratch) -> None:
    """One of them took the snapshots."""
    with Gunicorn(place, environ=ENVIRON) as server:
        before = show_numbers_of_the_metrics(server)
        for pid in server.workers():
            server.signal(signal.SIGKILL, pid)
        server.wait_for_boots(4)
        assert server.get("/items/1")[0] == 200
        wait_until(
            lambda: read(server, "history.json")["points"][-1]["statuses"] == {"2xx": 31},
            "a point",
            shown=server.log,
        )
        points = read(server, "history.json")["points"]
        assert points[0]["time"] <= before["time"] < points[-1]["time"]
        assert server.value("http_requests_total") == 31


def test_exporter_shows_the_page_on_its_own_port(place: Scratch) -> None:
    with Exporting(place, environ=ENVIRON) as server:
        for _ in range(8):
            server.get("/items/1")
        status, body = ask(server.metrics_port, "/live/")
        assert (status, b"<!doctype html>" in body) == (200, True)
        assert ask(server.metrics_port, "/live/history.json")[0] == 200
        expected = measured(take_snapshot(ask(server.metrics_port)[1]))
        wait_until(
            lambda: measured(json.loads(ask(server.metrics_port, "/live/snapshot.json")[1])) == expected,
            "the numbers",
            shown=server.log,
        )
