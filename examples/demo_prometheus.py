"""The Prometheus of ``make demo-prometheus``: it scrapes the shops, and has rules and a history."""

from __future__ import annotations

import html
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from string import Template
from threading import Event
from urllib.parse import urlencode

from demo_history import HOURS, write_lines
from demo_load import fetch
from demo_servers import DemoError, Process, Server, clean_environment

SCRAPE_SECONDS = 2
PROGRAMS = ("prometheus", "promtool")
MISSING = """\
There is no program '{program}' on PATH. Debian has it in the package prometheus:
   apt-get install prometheus"""

CONFIGURATION = """\
global: {{scrape_interval: {seconds}s, scrape_timeout: {seconds}s, evaluation_interval: {seconds}s}}
rule_files: ["rules/*.yml"]
scrape_configs:
"""
JOB = "  - {{job_name: {job}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"

QUERIES = {
    "Requests in a second": "sum by (job) (rate(http_requests_total[5m]))",
    "Server errors in a second": 'sum by (job, route) (rate(http_requests_total{status=~"5.."}[5m]))',
    "95th percentile of the seconds": (
        "histogram_quantile(0.95, sum by (job, route, le) (rate(http_request_duration_seconds_bucket[5m])))"
    ),
    "Database queries of a request": (
        "sum by (job, route) (rate(http_request_db_queries_total[5m]))"
        " / sum by (job, route) (rate(http_requests_total[5m]))"
    ),
    "Orders in an hour": "sum by (job, payment) (increase(shop_orders_total[1h]))",
    "Alerts": 'ALERTS{alertstate="firing"}',
}
QUERIES_PAGE = "queries.html"
PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<title>Queries for the shops</title>
<h1>Queries for the shops</h1>
<ul>
$items</ul>
""")


def require_programs() -> None:
    """Raise DemoError if a program of Prometheus is missing. The message names Debian's package."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise DemoError(MISSING.format(program=program))


class Prometheus(Process):
    """A Prometheus that listens on a free port of loopback.

    Args:
        folder: Its directory, as :func:`prepare` filled it.
    """

    def __init__(self, folder: Path) -> None:
        self._consoles = folder / "consoles"
        options = {
            "config.file": folder / "prometheus.yml",
            "storage.tsdb.path": folder / "data",
            "web.listen-address": "127.0.0.1:0",
            "web.console.templates": self._consoles,
            "web.console.libraries": self._consoles,
        }
        super().__init__(
            "Prometheus",
            ["prometheus", *(f"--{name}={value}" for name, value in options.items())],
            folder / "log",
            clean_environment(folder),
        )

    def wait_until_ready(self, stop: Event) -> dict[str, str]:
        """Wait until Prometheus answers, and return the addresses of its pages, by name.

        The result is empty if ``stop`` is set.

        Raises:
            DemoError: It exited, or does not answer in time.
        """
        port = self.wait_until(self._port, stop)
        if port is None or not self.wait_until(lambda: _has_page(port, "/-/ready"), stop):
            return {}
        # Debian's Prometheus has the older pages, which are at another path.
        prefix = "/classic" if _has_page(port, "/classic/graph") else ""
        self._write_queries(prefix)
        url = f"http://127.0.0.1:{port}"
        paths = {
            "Prometheus": "/",
            "queries": f"/consoles/{QUERIES_PAGE}",
            "rules": f"{prefix}/rules",
            "alerts": f"{prefix}/alerts",
        }
        return {name: url + path for name, path in paths.items()}

    def _write_queries(self, prefix: str) -> None:
        """Write the page with links to the graphs of the queries over the whole history."""
        items = ""
        for name, expression in QUERIES.items():
            query = urlencode({"g0.expr": expression, "g0.tab": 0, "g0.range_input": f"{HOURS}h"})
            link = html.escape(f"{prefix}/graph?{query}")
            items += f'<li><a href="{link}">{html.escape(name)}</a>\n'
        Path(self._consoles, QUERIES_PAGE).write_text(PAGE.substitute(items=items))

    def _port(self) -> int | None:
        # The log is the only place that names the port which the system has chosen.
        found = re.search(r'Listening on"?.* address=127\.0\.0\.1:(\d+)', self.log())
        return int(found[1]) if found else None


def prepare(folder: Path, servers: Sequence[Server], stop: Event) -> None:
    """Write the configuration, the rules and the history of a Prometheus.

    Args:
        folder: A new directory for all files of Prometheus.
        servers: The shops that it scrapes.
        stop: Ends the preparation early.

    Raises:
        DemoError: ``web-prom rules`` or promtool failed.
    """
    for name in ("rules", "consoles"):
        Path(folder, name).mkdir(parents=True)
    command = [sys.executable, "-m", "web_prom", "rules"]
    Process("web-prom rules", command, folder / "rules" / "shops.yml", clean_environment(folder)).finish(stop)
    jobs = "".join(JOB.format(job=_job(server), port=server.port) for server in servers)
    Path(folder, "prometheus.yml").write_text(CONFIGURATION.format(seconds=SCRAPE_SECONDS) + jobs)
    _write_history(folder, servers, stop)


def _has_page(port: int, path: str) -> bool:
    return fetch(port, "GET", path, timeout=1)[0] == 200


def _write_history(folder: Path, servers: Sequence[Server], stop: Event) -> None:
    text = folder / "history.txt"
    end = int(time.time())
    with text.open("w") as lines:
        for server in servers:
            labels = {"job": _job(server), "instance": f"127.0.0.1:{server.port}"}
            scrape = fetch(server.port, "GET", "/metrics")[1]
            lines.writelines(write_lines(scrape, labels, end, stop))
        lines.write("# EOF\n")
    if not stop.is_set():
        # promtool reads the whole file again for each block. By default a block has two hours.
        options = ["--quiet", "--max-block-duration=24h"]
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", *options]
        Process(
            "promtool", [*command, text, folder / "data"], folder / "promtool.log", clean_environment(folder)
        ).finish(stop)
    text.unlink()


def _job(server: Server) -> str:
    return server.shop.lower()
