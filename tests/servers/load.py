"""A varied load from concurrent clients, and its counts by the clients, the access log and the metrics."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import Metric

from tests.servers.process import PATIENCE_SECONDS, Gunicorn, wait_until

Account = Counter[tuple[str, str, str]]
"""How many requests there were of each method, route and status."""

# Copies for comparison: the routes of the applications in tests/servers/apps, and the methods with a label.
ROUTES = {
    r"/items/\d+": "/items/<int:number>",
    r"/(orders|error|sold-out|slow|stream|long-stream|breaks-half-way|breaks-at-once|file|hold)?": None,
}
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}

# Each request has a number of its own, so that several loads can share one log.
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Kind:
    """One kind of request.

    Attributes:
        path: Where it goes; ``{}`` becomes the request's number.
        status: What a client that reads its answer gets.
        method: HTTP method.
        share: How many of a hundred requests or so are of this kind.
        leaves: Where the client hangs up: "at once", "in the answer", "in the question"; or "" for never.
    """

    path: str
    status: int
    method: str = "GET"
    share: int = 4
    leaves: str = ""


KINDS = (
    Kind("/", 200, share=15),
    Kind("/items/{}", 200, share=20),
    Kind("/items/0", 404),
    Kind("/items/{}", 200, "HEAD"),
    Kind("/no/such/page/{}", 404),
    Kind("/wp-login{}.php", 404, "POST"),
    Kind("/", 405, "BREW"),
    Kind("/items/{}", 405, "PROPFIND"),
    Kind("/orders", 201, "POST", share=10),
    Kind("/orders", 405, "GET"),
    Kind("/error", 500),
    Kind("/sold-out", 503),
    Kind("/slow", 200),
    Kind("/stream", 200),
    Kind("/long-stream", 200, share=2),
    Kind("/file", 200, share=2),
    Kind("/file", 200, "HEAD", share=2),
    Kind("/breaks-half-way", 200),
    Kind("/breaks-at-once", 500),
    Kind("/", 200, share=2, leaves="at once"),
    Kind("/slow", 200, share=2, leaves="at once"),
    Kind("/long-stream", 200, share=3, leaves="in the answer"),
    Kind("/file", 200, share=2, leaves="in the answer"),
    Kind("/orders", 201, "POST", share=2, leaves="in the question"),
)


@dataclass
class Load:
    """Clients that send requests all at once.

    A context manager, so that something can be done to the server meanwhile; it is left when all is sent.

    Args:
        server: Who gets it.
        requests: How many in all.
        clients: How many at once.
        kinds: What is sent.

    Attributes:
        answered: What the clients that stayed were answered.
        unanswered: How many of these got no answer, because a server that goes drops connections.
        errors: What was wrong with an answer.
    """

    server: Gunicorn
    requests: int
    clients: int = 8
    kinds: tuple[Kind, ...] = KINDS
    answered: Account = field(default_factory=Counter)
    unanswered: int = 0
    errors: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        plan = random.Random(7).choices(self.kinds, [kind.share for kind in self.kinds], k=self.requests)
        numbered = list(zip(_numbers, plan, strict=False))
        self._lock = threading.Lock()
        self._sent = 0
        self._threads = [
            threading.Thread(target=self._send, args=(numbered[start :: self.clients],))
            for start in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def wait_for(self, share: float) -> None:
        """Wait until a share of the requests is sent."""
        wait_until(lambda: self._sent >= share * self.requests, f"{share:.0%} of the requests")

    def _send(self, numbered: Iterable[tuple[int, Kind]]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            for number, kind in numbered:
                if kind.leaves:
                    _leave(self.server.port, kind, number)
                else:
                    self._ask(connection, kind, number)
                with self._lock:
                    self._sent += 1

    def _ask(self, connection: http.client.HTTPConnection, kind: Kind, number: int) -> None:
        path = kind.path.format(number)
        body = b"x" * 100 if kind.method == "POST" else None
        try:
            connection.request(kind.method, path, body, {"X-Request-Id": str(number)})
            response = connection.getresponse()
            self._read(response, connection, kind)
        except (OSError, http.client.HTTPException):
            connection.close()
            with self._lock:
                self.unanswered += 1
            return
        with self._lock:
            self.answered[_method(kind.method), _route(path), str(response.status)] += 1
            if response.status != kind.status:
                self.errors.append(f"{kind.method} {path} was answered {response.status}")

    def _read(
        self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection, kind: Kind
    ) -> None:
        try:
            response.read()
        except http.client.IncompleteRead:
            if kind.path != "/breaks-half-way":
                raise
            # The headers arrived, and then the connection was closed.
            connection.close()
        if kind.method == "HEAD":
            # Older gunicorn sends Django's body, and the next response would begin with it.
            connection.close()


def _leave(port: int, kind: Kind, number: int) -> None:
    """Send a request and disconnect, with FIN or with a reset."""
    path = kind.path.format(number)
    head = f"{kind.method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {number}\r\n"
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client,
    ):
        if number % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if kind.method == "POST":
            client.sendall(f"{head}Content-Length: 100\r\n\r\nhalf".encode())
        else:
            client.sendall(f"{head}\r\n".encode())
        if kind.leaves == "in the answer":
            client.recv(1000)


def _route(path: str) -> str:
    for pattern, template in ROUTES.items():
        if re.fullmatch(pattern, path):
            return template or path
    return "_unmatched"


def _method(name: str) -> str:
    return name if name in METHODS else "_OTHER"


def logged(access_log: Path) -> Account:
    """Return the counts of requests in the access log.

    A body that raises before its first chunk is logged twice: as the 200 that the application meant to
    send, and then as the 500 that the client got. The last line of a request is right.
    """
    last = {}
    for line in access_log.read_text().splitlines():
        number, method, status, path = line.split(" ", 3)
        if number != "-":
            last[number] = (_method(method), _route(path), status)
    return Counter(last.values())


def measured(families: dict[str, Metric]) -> Account:
    """Return the counts of requests in a scrape."""
    account: Account = Counter()
    for sample in families["http_requests"].samples if "http_requests" in families else ():
        if sample.name == "http_requests_total" and sample.value:
            labels = sample.labels
            account[labels["method"], labels["route"], labels["status"]] = int(sample.value)
    return account


@contextlib.contextmanager
def held(server: Gunicorn) -> Iterator[int]:
    """Have a worker serve a request that does not end; yield that worker's process id."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/hold", headers={"X-Request-Id": "held"})
        yield int(connection.getresponse().readline())


def agree(server: Gunicorn) -> Account:
    """Wait until metrics and log agree and nothing is in progress; fail with the difference."""

    def settled() -> bool:
        families = server.scrape()
        busy = sum(sample.value for sample in families["http_requests_in_progress"].samples)
        return busy == 0 and measured(families) == logged(server.access_log)

    with contextlib.suppress(AssertionError):
        wait_until(settled, "log and metrics to agree")
    families = server.scrape()
    seen, written = measured(families), logged(server.access_log)
    differ = {key: (seen[key], written[key]) for key in seen | written if seen[key] != written[key]}
    assert not differ, f"measured and logged: {differ}\n{server.log()}"
    assert [sample.value for sample in families["http_requests_in_progress"].samples] == [0]
    return written
