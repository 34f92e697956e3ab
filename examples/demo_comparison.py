"""The comparison of the demo: the requests that were sent, beside the numbers that were measured."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from demo_load import CACHE_READS, IN_PROGRESS, LOAD, Answer, Row, count_sent, fetch
from demo_servers import DemoError, Server
from prometheus_client.parser import text_string_to_metric_families

SETTLE_SECONDS = 10.0

say = partial(print, flush=True)


@dataclass
class Measured:
    """The numbers of one scrape.

    Attributes:
        counts: The counters and the gauge of requests in progress.
        sums: The sum of the durations in seconds, by method and route.
        timed: The number of observed durations, by method and route.
        cache_misses: Reads of the cache that found nothing.
    """

    counts: dict[Row, int] = field(default_factory=dict)
    sums: dict[tuple[str, str], float] = field(default_factory=dict)
    timed: dict[tuple[str, str], int] = field(default_factory=dict)
    cache_misses: int = 0

    def mean_seconds(self, method: str, route: str) -> float:
        """Return the mean duration of a route's requests in seconds, or 0 if there are none."""
        request = (method, route)
        return self.sums[request] / self.timed[request] if self.timed.get(request) else 0.0


# The metrics of requests, and the label that a row shows with method and route. A query has no such label.
COUNTERS = {
    "http_requests_total": "status",
    "http_request_exceptions_total": "exception",
    "http_request_db_queries_total": "queries",
    "http_request_db_repeated_queries_total": "repeated",
}


def scrape(server: Server) -> Measured:
    """Scrape a shop, and return the numbers that the demo compares."""
    measured = Measured()
    status, text = fetch(server.port, "GET", "/metrics")
    for family in text_string_to_metric_families(text if status == 200 else ""):
        for sample in family.samples:
            add_sample(measured, sample.name, sample.labels, sample.value)
    return measured


def add_sample(measured: Measured, name: str, labels: dict[str, str], value: float) -> None:
    """Add one sample of a scrape, if the demo compares it."""
    method, route = labels.get("method", ""), labels.get("route", "")
    if name in COUNTERS and value and route != "_none":  # the worker's own queries, at its start
        detail = COUNTERS[name]
        measured.counts[method, route, labels.get(detail, detail)] = int(value)
    elif name == "http_request_duration_seconds_sum":
        measured.sums[method, route] = value
    elif name == "http_request_duration_seconds_count":
        measured.timed[method, route] = int(value)
    elif name == "http_requests_in_progress":
        measured.counts[IN_PROGRESS] = int(value)
    elif name == "shop_orders_total":
        measured.counts["", name, labels["payment"]] = int(value)
    elif name == "cache_operations_total" and labels["operation"] == "get":
        measured.counts[CACHE_READS] = measured.counts.get(CACHE_READS, 0) + int(value)
        if labels["result"] == "miss":
            measured.cache_misses += int(value)


def differences(answers: Sequence[Answer], measured: Measured) -> Iterator[str]:
    """Yield a message for each wrong answer, count or duration."""
    unexpected = Counter(
        (answer.hit, answer.status) for answer in answers if answer.status != answer.hit.status
    )
    for (hit, status), times in unexpected.items():
        seen = f"answered {status}" if status else "not answered"
        yield f"{hit.method} {hit.path} was {seen} {times} times, where {hit.status} is right"
    sent = count_sent(answers, measured.cache_misses)
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

    A client can have the last byte of a file before the server finishes the request.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        measured = scrape(server)
        if not any(differences(answers, measured)) or time.monotonic() > deadline:
            return measured
        time.sleep(0.1)


def print_table(sent: Counter[Row], measured: Measured) -> None:
    """Print a table of sent and measured requests, at most 80 columns wide."""
    say(f"  {'method':<8}{'route':<29}{'what':<15}{'sent':>6}{'measured':>10}{'mean ms':>10}")
    shown = set()
    # First the requests by route, then the metrics without method and route.
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
        DemoError: The numbers do not agree.
    """
    wrong = []
    for server in servers:
        own = [answer for answer in answers if answer.port == server.port]
        measured = scrape_settled(server, own)
        say(f"\n{server.shop}")
        print_table(count_sent(own, measured.cache_misses), measured)
        wrong += [f"  {server.shop}: {text}" for text in differences(own, measured)]
    if wrong:
        raise DemoError("\n".join(["These do not agree:", *wrong]))
    say("\nEvery row agrees. A mean is that of a method and route, over all statuses.")
    say("_OTHER: an unknown method. _unmatched: 40 paths without a route.")
    say("queries: of the database. repeated: more than twice in one request.")
    say("/reviews has them by intent: it queries the reviews of each product (N+1).")
