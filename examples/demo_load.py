"""The load of the demo: the requests to each shop, with the expected answers and metrics."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from threading import Event

THREADS = 12
PRODUCT = "/products/<int:number>"

Row = tuple[str, str, str]
"""The labels of a number: method, route, and a status, an exception, ``queries`` or ``repeated``.

Other metrics: "", name and label.
"""

IN_PROGRESS: Row = ("", "http_requests_in_progress", "")
CACHE_READS: Row = ("", "cache_operations_total", "get")


@dataclass(frozen=True)
class Hit:
    """A request and its expected result.

    Attributes:
        method, path, form: The request.
        route: The route template of the path.
        status: The status of the answer.
        times: How often it is sent to each shop.
        exception: The exception that the page raises.
        payment: The kind of payment, if the request is an order.
        seconds: The shortest duration of the answer, in seconds.
        queries: The database queries of the request.
        repeated: Those with the SQL of two earlier queries of the same request.
        cached: Whether the page is read from the cache first. A query follows if the cache does not have it.
    """

    method: str
    path: str
    route: str
    status: int
    times: int = 1
    form: str = ""
    exception: str = ""
    payment: str = ""
    seconds: float = 0.0
    queries: int = 0
    repeated: int = 0
    cached: bool = False

    @property
    def label(self) -> str:
        """The method as a label value."""
        return self.method if self.method in ("GET", "HEAD", "POST") else "_OTHER"


LOAD = (
    Hit("GET", "/", "/", 200, times=60),
    Hit("HEAD", "/", "/", 200, times=10),
    Hit("BREW", "/", "/", 405, times=5),  # an unknown method
    Hit("GET", "/products/1", PRODUCT, 200, times=40, cached=True),
    Hit("GET", "/products/2", PRODUCT, 200, times=20, cached=True),
    Hit("GET", "/products/77", PRODUCT, 404, times=10, cached=True),
    Hit("GET", "/reviews", "/reviews", 200, times=10, queries=11, repeated=8),  # a query for each product
    *(Hit("GET", f"/wp-{number}/login.php", "_unmatched", 404) for number in range(40)),
    Hit(
        "POST", "/orders", "/orders", 201, times=16, form="product=1&payment=card", payment="card", queries=1
    ),
    Hit(
        "POST",
        "/orders",
        "/orders",
        201,
        times=8,
        form="product=2&payment=invoice",
        payment="invoice",
        queries=1,
    ),
    Hit("POST", "/orders", "/orders", 400, times=4, form="product=1&payment=shells", queries=1),
    Hit(
        "POST", "/orders", "/orders", 409, times=6, form="product=3&payment=card", queries=1
    ),  # an error, handled
    Hit("GET", "/broken", "/broken", 500, times=6, exception="RuntimeError"),
    Hit("GET", "/catalogue.csv", "/catalogue.csv", 200, times=12),  # a file
    Hit("GET", "/search", "/search", 200, times=4, seconds=0.2),  # a slow page
    Hit("GET", "/report", "/report", 200, times=4, seconds=0.3),  # a stream
)


@dataclass(frozen=True)
class Answer:
    """The answer of one shop to one request."""

    port: int
    hit: Hit
    status: int
    """The status, or 0 without an answer."""


def fetch(port: int, method: str, path: str, form: str = "", timeout: float = 30.0) -> tuple[int, str]:
    """Send one request to a local port, and return status and body of the answer."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    with closing(HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
        connection.request(method, path, form or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def send_hit(port: int, hit: Hit, timeout: float = 30.0) -> int:
    """Send the request of a hit to a local port, and return the status of the answer."""
    return fetch(port, hit.method, hit.path, hit.form, timeout)[0]


def send_load(ports: Iterable[int], stop: Event) -> list[Answer]:
    """Send the load to all ports at once, in random order. Send nothing more when ``stop`` is set."""

    def send(job: tuple[int, Hit]) -> Answer:
        port, hit = job
        try:
            status = 0 if stop.is_set() else send_hit(port, hit)
        except (OSError, HTTPException):
            status = 0
        return Answer(port, hit, status)

    jobs = [(port, hit) for port in ports for hit in LOAD for _ in range(hit.times)]
    random.shuffle(jobs)
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(send, jobs))


def count_sent(answers: Iterable[Answer], cache_misses: int) -> Counter[Row]:
    """Return the expected metrics for the answers that the client got.

    Args:
        answers: The answers.
        cache_misses: The pages that the caches of the workers did not have. Each worker has its own cache.
    """
    sent: Counter[Row] = Counter({IN_PROGRESS: 0})
    if cache_misses:
        sent["GET", PRODUCT, "queries"] = cache_misses
    for answer in answers:
        hit = answer.hit
        sent[hit.label, hit.route, str(answer.status)] += 1
        if hit.exception:
            sent[hit.label, hit.route, hit.exception] += 1
        if hit.queries:
            sent[hit.label, hit.route, "queries"] += hit.queries
        if hit.repeated:
            sent[hit.label, hit.route, "repeated"] += hit.repeated
        if hit.cached:
            sent[CACHE_READS] += 1
        if hit.payment:
            sent["", "shop_orders_total", hit.payment] += 1
    return sent
