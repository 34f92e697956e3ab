"""Prometheus as a real process, with a configuration and PromQL queries."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.programs import needs_program
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


class Prometheus:
    """A running Prometheus, as a context manager: ready at the start of the block, ended after it.

    Args:
        folder: Where its files are; each has one of its own.
        configuration: The text of its prometheus.yml. Files that it names relatively are in the folder.
        options: More of its command line.

    Attributes:
        port: Where it listens, on loopback.
        at: The time for which it is asked, in seconds since the epoch; None for now.
    """

    port: int
    at: float | None = None

    def __init__(self, folder: Path, configuration: str, *options: str) -> None:
        self._program = needs_program("prometheus", package="prometheus")
        self._folder = folder
        self._options = options
        (folder / "prometheus.yml").write_text(configuration)
        self._log = folder / "prometheus.txt"

    def __enter__(self) -> Prometheus:
        options = {
            "config.file": self._folder / "prometheus.yml",
            "storage.tsdb.path": self._folder / "data",
            "web.listen-address": "127.0.0.1:0",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, *(f"--{name}={value}" for name, value in options.items()), *self._options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )
        try:
            listening = wait_until(self._listening, "Prometheus", shown=self.log)
            self.port = int(listening[1])
            wait_until(self._is_ready, "Prometheus to be ready", shown=self.log)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def log(self) -> str:
        """Return what it wrote to stdout and stderr so far."""
        return self._log.read_text("utf-8", "replace")

    def _listening(self) -> re.Match[str] | None:
        assert self._process.poll() is None, self.log()
        return re.search(r'"Listening on".* address=127\.0\.0\.1:(\d+)', self.log())

    def _is_ready(self) -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == http.client.OK

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)

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
        """Return how often Prometheus scraped a job: the smallest number of its targets."""
        return self.number(f'min(count_over_time(up{{job="{job}"}}[1h]))')

    def wait_for_scrapes(self, jobs: Iterable[str], more: int) -> None:
        """Wait until it has scraped each job so many times more."""
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
