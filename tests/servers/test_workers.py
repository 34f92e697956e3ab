"""``web_prom_workers`` counts processes that serve requests, without the master."""

from __future__ import annotations

import pytest

from tests.servers.exporting import Exporting
from tests.servers.process import Gunicorn, Scratch, wait_until

pytestmark = pytest.mark.versions


def workers_seen(server: Gunicorn, count: int) -> None:
    """Send requests until each worker has answered with its process id."""
    seen: set[bytes] = set()

    def all_seen() -> bool:
        seen.add(server.get("/")[2])
        return len(seen) == count

    wait_until(all_seen, f"{count} workers", shown=server.log)


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["loaded late", "preloaded"])
def test_fault_85_master_is_not_counted_as_a_worker(place: Scratch, options: list[str]) -> None:
    with Exporting(place, *options, workers=2) as server:
        workers_seen(server, 2)
        assert server.value("web_prom_workers") == 2
        assert server.total("web_prom_workers") == 2, "the exporter tells the same"
