"""A load test of the advice on workers: real gunicorns under a known load, before and after the advice."""

from __future__ import annotations

import contextlib
import heapq
import http.client
import math
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.effort import Effort
from benchmarks.machine import describe
from web_prom.advice.advise import verdicts
from web_prom.advice.erlang import mean_wait
from web_prom.advice.scrapes import Window
from web_prom.advice.verdict import Verdict
from web_prom.cli.fetch import UnreadableScrapeError, fetch
from web_prom.live.advised_scrape import AdvisedScrape

ROOT = Path(__file__).resolve().parent.parent
APP = "benchmarks.loaded_app:app"
PATIENCE_SECONDS = 30.0

# In the table of Erlang C: the mean time of service, and the utilisation.
SERVICE_SECONDS, UTILISATION = 0.1, 0.7

EXPLANATION = """\
A gunicorn on loopback. Requests arrive at random (Poisson) at a fixed rate, whether or not earlier ones are
answered, for {seconds:g} s. Two scrapes of the exporter are given to the checks of web_prom.advise. Then the
server runs as the advice says, under the same load.
"""

ESTIMATE = """\
Erlang C and a gthread worker with 1 to 4 threads, for {seconds:g} s each: the mean wait in milliseconds. The
view waits for {service:g} ms on average, exponentially distributed, and {utilisation:.0%} of the threads are
in use. Simulated is one queue with exactly these requests: what the same load waits without any noise.
"""


class Shape(NamedTuple):
    """How many processes and threads a server has."""

    workers: int
    threads: int

    def __str__(self) -> str:
        return f"--workers {self.workers} --threads {self.threads}"


class Measured(NamedTuple):
    """What two scrapes say of a load, and what the clients saw."""

    verdict: Verdict | None
    window: Window
    latency: float
    """The mean of what the clients waited for an answer, in seconds."""

    @property
    def rate(self) -> float:
        """Requests finished in a second."""
        return self.window.rate(f"{self.window.duration}_count") or math.nan

    @property
    def busy(self) -> float:
        """The mean number of places in use."""
        return self.window.rate(f"{self.window.duration}_sum") or math.nan

    @property
    def queue_mean(self) -> float:
        """The mean of the queue time, in seconds."""
        name = "http_request_queue_seconds"
        count = self.window.increase(f"{name}_count")
        return (self.window.increase(f"{name}_sum") or 0.0) / count if count else math.nan


class Case(NamedTuple):
    """A view under a load, and the server that it has at first."""

    title: str
    path: str
    rate: float
    shape: Shape


CASES = (
    Case("I/O-bound view (waits for 100 ms), 18 requests/s", "/wait/100000", 18.0, Shape(2, 1)),
    Case("CPU-bound view (computes for 20 ms), 40 requests/s", "/compute/20000", 40.0, Shape(1, 4)),
)
ERLANG = "Erlang C and measured waits"


def run(effort: Effort) -> None:
    """Run the load tests, and print a table for each.

    Raises:
        NoCaseError: No title has the text that was asked for.
    """
    seconds = 1.5 if effort.quick else 20.0
    titles: dict[str, Callable[[], None]] = {case.title: _case(case, seconds) for case in CASES}
    titles[ERLANG] = lambda: _compare_with_erlang(seconds * 2)
    chosen = effort.choose(list(titles))
    print(describe("web-prom", "gunicorn", "flask"))
    print()
    print(EXPLANATION.format(seconds=seconds))
    for title in chosen:
        print(title)
        titles[title]()
        print(flush=True)


def _case(case: Case, seconds: float) -> Callable[[], None]:
    def compare() -> None:
        shape = case.shape
        print(f"  {'':28}{'used':>6}{'CPU':>7}{'CPU a worker':>14}{'queue p95':>12}{'queue mean':>12}")
        for _ in range(2):
            measured = measure(shape, [case.path], case.rate, seconds)
            _print_row(shape, measured)
            if measured.verdict is None:
                break
            print(f"    {measured.verdict.summary} {measured.verdict.remedy}".rstrip())
            shape = advised(shape, measured.verdict)

    return compare


def advised(shape: Shape, verdict: Verdict) -> Shape:
    """Return the server that a verdict proposes; the number of processes is at most that of the cores."""
    numbers = verdict.numbers
    if "more_processes_estimate" in numbers:
        workers = min(shape.workers + int(numbers["more_processes_estimate"]), os.cpu_count() or 1)
        return shape._replace(workers=max(workers, shape.workers))
    more = numbers.get("more_needed_estimate", 0.0)
    return shape._replace(threads=shape.threads + math.ceil(more / shape.workers))


def _print_row(shape: Shape, measured: Measured) -> None:
    window = measured.window
    cpu = window.rate("process_cpu_seconds_total") or 0.0
    capacity = window.after.total("http_server_worker_capacity") or math.nan
    p95 = window.quantile("http_request_queue_seconds", 0.95)
    print(
        f"  {shape!s:28}{measured.busy / capacity:6.0%}{cpu / measured.busy:7.0%}{cpu / shape.workers:14.0%}"
        f"{(p95 or 0.0) * 1e3:9.0f} ms{measured.queue_mean * 1e3:9.0f} ms"
    )


def _compare_with_erlang(seconds: float) -> None:
    print(ESTIMATE.format(seconds=seconds, service=SERVICE_SECONDS * 1e3, utilisation=UTILISATION))
    print("  places  requests/s   service   used   estimate   simulated   measured   clients")
    for places in range(1, 5):
        rate = UTILISATION * places / SERVICE_SECONDS
        randomly = random.Random(places)
        services = [randomly.expovariate(1 / SERVICE_SECONDS) for _ in _arrivals(rate, seconds)]
        paths = [f"/wait/{each * 1e6:.0f}" for each in services]
        measured = measure(Shape(1, places), paths, rate, seconds)
        service = measured.busy / measured.rate
        estimate = mean_wait(places, measured.busy, service)
        overhead = service - statistics.fmean(services)
        simulated = simulate(places, _arrivals(rate, seconds), [each + overhead for each in services])
        print(
            f"  {places:6}{measured.rate:12.1f}{service * 1e3:10.1f}{measured.busy / places:7.0%}"
            f"{estimate * 1e3:11.1f}{simulated * 1e3:12.1f}{measured.queue_mean * 1e3:11.1f}"
            f"{(measured.latency - service) * 1e3:10.1f}",
            flush=True,
        )


def simulate(places: int, arrivals: Sequence[float], services: Sequence[float]) -> float:
    """Return the mean wait of these requests for one of some places, in the order of their arrival."""
    free_at = [0.0] * places
    waits = []
    for arrival, service in zip(arrivals, services, strict=True):
        begun = max(arrival, heapq.heappop(free_at))
        waits.append(begun - arrival)
        heapq.heappush(free_at, begun + service)
    return statistics.fmean(waits)


def measure(shape: Shape, paths: Sequence[str], rate: float, seconds: float) -> Measured:
    """Send a load to a server of a shape; return what its metrics say."""
    with _serving(shape) as (port, metrics):
        url = f"http://127.0.0.1:{metrics}/metrics"
        send(port, [paths[0]] * 5, 20.0, 0.2)
        time.sleep(1.5)  # a process publishes its measurements once a second
        before = AdvisedScrape(fetch(url, {}, PATIENCE_SECONDS), time.time())
        latencies = send(port, paths, rate, seconds)
        time.sleep(1.5)
        # The rates are those of the time of the load.
        after = AdvisedScrape(fetch(url, {}, PATIENCE_SECONDS), before.at + seconds)
    window = Window(after, before)
    about_workers = [verdict for verdict in verdicts(window) if verdict.name.startswith("workers")]
    return Measured(about_workers[0] if about_workers else None, window, statistics.fmean(latencies))


def send(port: int, paths: Sequence[str], rate: float, seconds: float) -> list[float]:
    """Send requests at random times and wait for their answers; return the seconds that each took.

    The times are the same in each call with the same rate. The paths are taken in turn.
    """
    latencies: list[float] = []
    clients: list[threading.Thread] = []

    def ask(path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            begun = time.perf_counter()
            connection.request("GET", path)
            connection.getresponse().read()
            latencies.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    for number, arrival in enumerate(_arrivals(rate, seconds)):
        time.sleep(max(0.0, begun + arrival - time.perf_counter()))
        client = threading.Thread(target=ask, args=(paths[number % len(paths)],))
        client.start()
        clients.append(client)
    for client in clients:
        client.join()
    return latencies


def _arrivals(rate: float, seconds: float) -> list[float]:
    """Return the times at which requests arrive at random, at least one."""
    randomly = random.Random(1)
    times = [randomly.expovariate(rate)]
    while (arrival := times[-1] + randomly.expovariate(rate)) < seconds:
        times.append(arrival)
    return times


@contextlib.contextmanager
def _serving(shape: Shape) -> Iterator[tuple[int, int]]:
    """Run a gunicorn; yield its port and that of its exporter."""
    port, metrics = _free_port(), _free_port()
    options = ["--worker-class", "gthread", *str(shape).split(), "--bind", f"127.0.0.1:{port}"]
    command = [sys.executable, "-m", "gunicorn", "--config", "python:web_prom.gunicorn", *options, APP]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, tempfile.TemporaryFile() as log:
        environ = {**os.environ, "PROM_BIND": f"127.0.0.1:{metrics}", "TMPDIR": folder}
        server = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        try:
            _wait_for(port, server)
            _wait_for(metrics, server)
            yield port, metrics
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(PATIENCE_SECONDS)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while server.poll() is None and time.monotonic() < until:
        with contextlib.suppress(UnreadableScrapeError):
            fetch(f"http://127.0.0.1:{port}/metrics", {}, 5.0)
            return
        time.sleep(0.1)
    raise SystemExit("gunicorn does not answer")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
