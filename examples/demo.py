"""Serve the example shops under gunicorn, send them requests, and compare these with what was measured.

``make demo`` runs it. It serves until Ctrl-C; DEMO_SECONDS=n ends it by itself, n seconds after the
comparison. The exit code is 0 if all numbers agreed.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event

from demo_load import IN_PROGRESS, LOAD, Answer, Row, count_sent, fetch, send_load
from demo_servers import WORKERS, DemoError, Server, stop_all
from prometheus_client.parser import text_string_to_metric_families

SHOPS = {"Flask": "flask_shop:app", "Django": "django_shop.wsgi"}
SETTLE_SECONDS = 10.0

say = partial(print, flush=True)


@dataclass
class Measured:
    """What one scrape says.

    Attributes:
        counts: What is counted, in progress or not.
        sums: How long requests took together, in seconds, by method and route.
        timed: How many requests these were.
    """

    counts: dict[Row, int] = field(default_factory=dict)
    sums: dict[tuple[str, str], float] = field(default_factory=dict)
    timed: dict[tuple[str, str], int] = field(default_factory=dict)

    def mean_seconds(self, method: str, route: str) -> float:
        """Return the mean duration of a route's requests, which is 0 if none was timed."""
        request = (method, route)
        return self.sums[request] / self.timed[request] if self.timed.get(request) else 0.0


def scrape(server: Server) -> Measured:
    """Read a shop's /metrics, as Prometheus would, and pick what the demo compares."""
    measured = Measured()
    status, text = fetch(server.port, "GET", "/metrics")
    for family in text_string_to_metric_families(text if status == 200 else ""):
        for sample in family.samples:
            name, labels, value = sample.name, sample.labels, sample.value
            method, route = labels.get("method", ""), labels.get("route", "")
            if name == "http_requests_total":
                measured.counts[method, route, labels["status"]] = int(value)
            elif name == "http_request_exceptions_total":
                measured.counts[method, route, labels["exception"]] = int(value)
            elif name == "http_request_duration_seconds_sum":
                measured.sums[method, route] = value
            elif name == "http_request_duration_seconds_count":
                measured.timed[method, route] = int(value)
            elif name == "http_requests_in_progress":
                measured.counts[IN_PROGRESS] = int(value)
            elif name == "shop_orders_total":
                measured.counts["", name, labels["payment"]] = int(value)
    return measured


def disagreements(answers: Sequence[Answer], measured: Measured) -> Iterator[str]:
    """Yield, in words, what was not answered, not counted or not timed as it should have been."""
    strange = Counter((answer.hit, answer.status) for answer in answers if answer.status != answer.hit.status)
    for (hit, status), times in strange.items():
        seen = f"answered {status}" if status else "not answered"
        yield f"{hit.method} {hit.path} was {seen} {times} times, where {hit.status} is right"
    sent = count_sent(answers)
    for row in sorted(sent.keys() | measured.counts.keys()):
        counted = measured.counts.get(row, "none")
        if counted != sent[row]:
            yield f"{' '.join(row).strip()}: {sent[row]} sent, {counted} measured"
    requests = Counter((answer.hit.label, answer.hit.route) for answer in answers)
    for request in sorted(requests.keys() | measured.timed.keys()):
        timed = measured.timed.get(request, "none")
        if timed != requests[request]:
            yield f"{' '.join(request)}: {requests[request]} sent, {timed} timed"
    for hit in LOAD:
        mean = measured.mean_seconds(hit.label, hit.route)
        if mean < hit.seconds:
            yield f"{hit.method} {hit.route} takes {hit.seconds} s at least, but {mean:.6f} s were measured"


def scrape_settled(server: Server, answers: Sequence[Answer]) -> Measured:
    """Scrape until the numbers agree, or for ten seconds.

    A client may have the last byte of a file a moment before the server is done with the request.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        measured = scrape(server)
        if not any(disagreements(answers, measured)) or time.monotonic() > deadline:
            return measured
        time.sleep(0.1)


def print_table(sent: Counter[Row], measured: Measured) -> None:
    """Print what was measured beside what was sent, at most 80 columns wide."""
    say(f"  {'method':<8}{'route':<29}{'status, error':<15}{'sent':>6}{'measured':>10}{'mean ms':>10}")
    shown = set()
    # Requests by route, and then the metrics that have neither method nor route.
    for row in sorted(sent.keys() | measured.counts.keys(), key=lambda row: (row[0] == "", row[1], row)):
        method, route, detail = row
        mean = ""
        if method and (method, route) not in shown:
            shown.add((method, route))
            mean = f"{measured.mean_seconds(method, route) * 1000:.1f}"
        counted = measured.counts.get(row, "none")
        mark = " " if counted == sent[row] else "!"
        say(f"{mark} {method or '-':<8}{route:<29}{detail:<15}{sent[row]:>6}{counted:>10}{mean:>10}".rstrip())


def compare(servers: Sequence[Server], answers: Sequence[Answer]) -> None:
    """Scrape each shop and print its table.

    Raises:
        DemoError: Something does not agree.
    """
    wrong = []
    for server in servers:
        own = [answer for answer in answers if answer.port == server.port]
        measured = scrape_settled(server, own)
        say(f"\n{server.name}")
        print_table(count_sent(own), measured)
        wrong += [f"  {server.name}: {text}" for text in disagreements(own, measured)]
    if wrong:
        raise DemoError("\n".join(["These do not agree:", *wrong]))
    say("\nEvery row agrees. A mean is that of a method and route, over all statuses.")
    say("_OTHER: a method that was invented. _unmatched: 40 paths that no route knows.")


def serve(servers: Sequence[Server], seconds: float, stop: Event) -> None:
    """Keep serving for so many seconds, or until ``stop`` is set.

    Raises:
        DemoError: A server ended by itself.
    """
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not stop.wait(min(left, 0.5)):
        for server in servers:
            server.check()


def run(servers: Sequence[Server], seconds: float, stop: Event) -> None:
    """Go through the steps of the demo with servers that are starting.

    Raises:
        DemoError: A step failed, or ``stop`` was set before the comparison.
    """
    for server in servers:
        server.wait_until_ready(stop)
        go_on(stop)
        say(f"   {server.name:<7} {server.url}")
    times = sum(hit.times for hit in LOAD)
    say(f"2. Sending {times} requests to each: pages, orders, errors, a stream, nonsense ...")
    begun = time.monotonic()
    answers = send_load([server.port for server in servers], stop)
    go_on(stop)
    say(f"   all done after {time.monotonic() - begun:.1f} s")
    say("3. Scraping /metrics of each and comparing ...")
    compare(servers, answers)
    if seconds:
        say("\nBoth are still serving. Have a look, and end them with Ctrl-C:")
        for server in servers:
            say(f"   {server.name:<7} {server.url}   {server.url}/metrics")
        serve(servers, seconds, stop)


def go_on(stop: Event) -> None:
    """Raise DemoError if somebody wants the demo to end."""
    if stop.is_set():
        raise DemoError("Stopped before there was anything to compare.")


def serving_seconds() -> float:
    """Return how long to serve after the comparison: DEMO_SECONDS, or for ever.

    Raises:
        DemoError: It is not a number of seconds.
    """
    given = os.environ.get("DEMO_SECONDS", "inf")
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise DemoError(f"DEMO_SECONDS is {given!r}; allowed: a number of seconds, such as 0 or 60")
    return seconds


def demonstrate(stop: Event) -> None:
    """Run the whole demo, and leave no process and no file behind.

    Raises:
        DemoError: As :func:`run` and :func:`serving_seconds`.
    """
    seconds = serving_seconds()
    say(f"1. Starting the example shops under gunicorn, each with {WORKERS} workers ...")
    with tempfile.TemporaryDirectory(prefix="web-prom-demo-") as folder:
        servers: list[Server] = []
        try:
            for name, app in SHOPS.items():
                servers.append(Server(name, app, Path(folder, name)))
            run(servers, seconds, stop)
        finally:
            stop_all(servers)


def main() -> int:
    """Run the demo until it is done or a signal ends it; return its exit code."""
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        demonstrate(stop)
    except DemoError as error:
        say(f"\n{error}")
        return 1
    except BrokenPipeError:  # nobody reads on, as in `make demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    say("\nBoth servers have ended.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
