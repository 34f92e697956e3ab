"""Helpers for the tests of scrapes: a WSGI scrape, and a collector that fails."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import prometheus_client

from tests.web_prom.support import Server, environ_of


def scrape(app: Any, **environ: Any) -> tuple[str | None, dict[str, str], bytes]:
    server = Server()
    body = server.run(app, environ_of("/metrics", **environ))
    assert len({name.lower() for name, _ in server.headers}) == len(server.headers), "no header twice"
    return server.status, dict(server.headers), body


def without_scrape_metrics(body: bytes) -> bytes:
    """Return a body without the families about the scrape, which come last."""
    lines = body.splitlines(keepends=True)
    # Escaping with dots doubles underscores.
    return b"".join(line for line in lines if not re.search(rb"web_+prom_+scrape_", line))


class Broken:
    """A collector that fails."""

    def collect(self) -> Iterable[Any]:
        yield prometheus_client.metrics_core.GaugeMetricFamily("before", "Help.", 1)
        raise RuntimeError("hush: the password")
