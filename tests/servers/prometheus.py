"""Prometheus as a real process, with a configuration and PromQL queries."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.servers.listening import ListeningProgram
from tests.servers.process import PATIENCE_SECONDS, Gunicorn, wait_until


def scraping(targets: Mapping[str, Gunicorn], *, interval: str = "2s") -> str:
    """Return the configuration of a Prometheus that scrapes servers, each as a job of its own.

    Args:
        targets: The servers by job.
        interval: Between two scrapes, and how long one may take.
    """
    jobs = "".join(
        f"  - {{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]}}\n"
        for name, server in targets.items()
    )
    return f"global: {{scrape_interval: {interval}}}\nscrape_configs:\n{jobs}"


class Prometheus(ListeningProgram):
    """A running Prometheus, as a context manager: ready at the start of the block, ended after it.

    Args:
        folder: Where its files are; each has one of its own.
        configuration: The text of its prometheus.yml. Files that it names relatively are in the folder.
        options: More of its command line.

    Attributes:
        at: The time for which it is asked, in seconds since the epoch; None for now.
    """

    at: float | None = None

    def __init__(self, folder: Path, configuration: str, *options: str) -> None:
        files = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": folder / "data"}
        super().__init__("prometheus", *options, package="prometheus", folder=folder, options=files)
        (folder / "prometheus.yml").write_text(configuration)

    def _is_ready(self) -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == http.client.OK

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data that its HTTP API answers with."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        with closing(connection):
            connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
            answer = json.loads(connection.getresponse().read())
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str, *, at: float | None = None) -> dict[frozenset[tuple[str, str]], float]:
        """Return the value of each label set of an expression."""
        moment = at or self.at or time.time()
        found = self.ask("query", query=expression, time=str(moment))["result"]
        return {frozenset(item["metric"].items()): float(item["value"][1]) for item in found}

    def number(self, expression: str) -> float:
        """Return the one value of an expression; 0 if there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return next(iter(found.values()), 0.0)

    def scrapes(self, job: str) -> float:
        """Return how often Prometheus scraped a job with success: the smallest number of its targets."""
        return self.number(f'min(sum_over_time(up{{job="{job}"}}[1h]))')

    def wait_for_scrapes(self, jobs: Iterable[str], more: int) -> None:
        """Wait until it has scraped each job so many times more with success."""
        for job, goal in {job: self.scrapes(job) + more for job in jobs}.items():
            wait_until(lambda job=job, goal=goal: self.scrapes(job) >= goal, f"a scrape of {job}")  # type: ignore[misc]


def by_bound(found: dict[frozenset[tuple[str, str]], float]) -> list[tuple[float, float]]:
    """Return the upper bounds of buckets with their counts, in order."""
    return sorted((float(dict(labels)["le"]), value) for labels, value in found.items())


def interpolated(quantile: float, buckets: list[tuple[float, float]]) -> float:
    """Return the quantile as https://prometheus.io/docs/prometheus/latest/querying/functions/ defines it."""
    rank = quantile * buckets[-1][1]
    lower, below = 0.0, 0.0
    for upper, count in buckets:
        if count >= rank:
            share = (rank - below) / (count - below)
            return lower if upper == float("inf") else lower + (upper - lower) * share
        lower, below = upper, count
    raise AssertionError(buckets)
