"""What the tests of web_prom.gunicorn share."""

from __future__ import annotations

from tests.servers.load import Load, agree
from tests.servers.process import Gunicorn

# How many requests a check sends.
REQUESTS = 30

IMPORTED = "from web_prom.gunicorn import child_exit, nworkers_changed, on_exit, on_starting, pre_exec\n"


def check_all_workers_are_counted(server: Gunicorn) -> None:
    """Check that the metrics of a short load agree with the access log."""
    with Load(server, REQUESTS):
        pass
    assert sum(agree(server).values()) == REQUESTS
