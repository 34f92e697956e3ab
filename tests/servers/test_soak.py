"""Workers that restart all the time under load, and a real Prometheus that sees no reset.

About 5 seconds in the suite; SOAK_SECONDS in the environment makes it minutes.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from tests.programs import needs_program
from tests.servers.load import KINDS, Load, agree
from tests.servers.process import Gunicorn, Scratch, wait_until
from tests.servers.prometheus import Prometheus, scraping
from web_prom.multiprocess.file_format import FileName

SECONDS = float(os.environ.get("SOAK_SECONDS", "5"))
WORKERS = 4
# Clients that read the whole response: each request is then in the access log as the client saw it.
STEADY = tuple(kind for kind in KINDS if not kind.leaves)

TOTAL = "sum(last_over_time(http_requests_total[1d]))"
# process_* are values of one process and start again with the next one.
COUNTERS = re.compile("(http|shop|web_prom)_.*_(total|bucket|count|sum)")


@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "each imports"])
def test_faults_21_and_30_constant_restarts_leave_few_files_and_reset_no_counter(
    place: Scratch, preload: bool
) -> None:
    """With --max-requests 5 each worker takes a slot and releases it a moment later."""
    needs_program("prometheus", package="prometheus")
    options = ["--max-requests=5", *(["--preload"] if preload else [])]
    with (
        Gunicorn(place, *options, workers=WORKERS) as server,
        Prometheus(place.folder, scraping({"shop": server}, interval="1s")) as prometheus,
    ):
        until = time.monotonic() + SECONDS / 2
        while time.monotonic() < until:
            with Load(server, 40, clients=4, kinds=STEADY) as load:
                pass
            assert load.errors == []
        account = agree(server)
        # A scrape times out while all workers restart: the test uses the last successful one.
        wait_until(
            lambda: prometheus.number(TOTAL) == sum(account.values()), "all requests to be in Prometheus"
        )
        orders = prometheus.number("last_over_time(shop_orders_total[1d])")
        assert orders == account["POST", "/orders", "201"] > 0
        names = list(filter(COUNTERS.fullmatch, prometheus.ask("label/__name__/values")))
        assert len(names) >= 5
        for name in names:
            assert set(prometheus.query(f"resets({name}[1d])").values()) == {0}, name
        restarts = server.log().count("Booting worker") - WORKERS
        assert restarts >= sum(account.values()) / 5 - WORKERS
        assert _most_files_of_a_kind(*place.shared_directories()) <= WORKERS + preload


def _most_files_of_a_kind(directory: Path) -> int:
    names = [name for path in directory.iterdir() if (name := FileName.parse(path.name))]
    kinds = [(name.metric_type, name.mode) for name in names]
    return max(kinds.count(kind) for kind in kinds)
