"""A test's client of a running server: its requests, and the counts in a scrape."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
from collections import Counter
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.process import PATIENCE_SECONDS, wait_until

Account = Counter[tuple[str, str, str]]


class Metrics:
    """The answer to one scrape. A family is parsed when it is asked for: most of the text is buckets.

    Args:
        text: The metrics.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def families(self, prefix: str = "") -> dict[str, Metric]:
        """Return the families whose names begin so, by name."""
        comments = (f"# HELP {prefix}", f"# TYPE {prefix}")
        lines = [line for line in self._text.split("\n") if line.startswith((prefix, *comments))]
        return {family.name: family for family in text_string_to_metric_families("\n".join(lines) + "\n")}

    def samples(self, family: str, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the samples of a name that are not zero, by some of their labels."""
        found = self.families(family).get(family)
        return {
            tuple(sample.labels[label] for label in labels): sample.value
            for sample in (found.samples if found else ())
            if sample.name == name and sample.value
        }

    def requests(self) -> Account:
        """Return the requests by method, route and status."""
        found = self.samples("http_requests", "http_requests_total", "method", "route", "status")
        return Counter({(key[0], key[1], key[2]): int(number) for key, number in found.items()})

    def gauge(self, name: str) -> float:
        """Return the value of a gauge."""
        return sum(self.samples(name, name).values())


class Client:
    """The clients of a server on loopback; the classes of running servers inherit from it.

    Attributes:
        port: Where the server listens.
    """

    port: int

    def log(self) -> str:
        """Return what the server wrote so far."""
        raise NotImplementedError

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        """Open a connection, which is kept alive."""
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        ) as opened:
            yield opened

    def get(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
        """Send one request on a connection of its own; return status and body."""
        with self.connection() as opened:
            opened.request(method, path, body)
            response = opened.getresponse()
            return response.status, response.read()

    def metrics(self) -> Metrics:
        """Return the answer to one scrape."""
        status, body = self.get("/metrics")
        assert status == 200, self.log()
        return Metrics(body.decode())

    def scrape(self) -> dict[str, Metric]:
        """Return the families of one scrape by name."""
        return self.metrics().families()

    def samples(self, family: str, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the samples of a name that are not zero, by some of their labels."""
        return self.metrics().samples(family, name, *labels)

    def requests(self) -> Account:
        """Return the requests by method, route and status."""
        return self.metrics().requests()

    def exceptions(self) -> dict[tuple[str, ...], float]:
        """Return the exceptions by route and type."""
        name = "http_request_exceptions"
        return self.samples(name, f"{name}_total", "route", "exception")

    def connections(self) -> dict[tuple[str, ...], float]:
        """Return the WebSockets by route and code."""
        name = "websocket_connections"
        return self.samples(name, f"{name}_total", "route", "code")

    def gauge(self, name: str) -> float:
        """Return the value of a gauge."""
        return self.metrics().gauge(name)

    def rest(self) -> Account:
        """Wait until no request is in progress, and return how many were counted.

        An answer may be there a moment before it is counted, and another worker may answer the scrape.
        """
        wait_until(lambda: not self.gauge("http_requests_in_progress"), "requests to finish", shown=self.log)
        return self.requests()

    def settle(self, expected: Account) -> None:
        """Wait until so many requests were counted and none is in progress; fail with the difference."""

        def settled() -> bool:
            metrics = self.metrics()
            return metrics.requests() == expected and not metrics.gauge("http_requests_in_progress")

        with contextlib.suppress(AssertionError):
            wait_until(settled, "requests to finish")
        metrics = self.metrics()
        counted, in_progress = metrics.requests(), metrics.gauge("http_requests_in_progress")
        assert counted == expected, f"{counted} instead of {expected}; {in_progress}; {self.log()}"
        assert in_progress == 0
        name = "web_prom_instrumentation_errors"
        assert metrics.samples(name, f"{name}_total", "stage") == {}

    def raw(self, text: str) -> socket.socket:
        """Send the head of a request on a plain socket, and return that."""
        opened = socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS)
        opened.sendall(text.replace("\n", "\r\n").encode())
        return opened


def reset(opened: socket.socket) -> None:
    """Reset the connection."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    opened.close()
