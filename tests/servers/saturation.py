"""Servers whose saturation is measured: how they are started, and their clients."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, NamedTuple

from prometheus_client import Metric

from tests.certificates import make, trusting
from tests.servers.exporting import Exporting
from tests.servers.process import PATIENCE_SECONDS, Scratch, scratch, wait_until

APP = "tests.servers.apps.saturated_app:app"
ASGI_APP = "tests.servers.apps.saturated_asgi_app:app"

QUEUE = "http_request_queue_seconds"
CAPACITY = "http_server_worker_capacity"

# Releases of gunicorn differ in the classes of their workers.
HAS_EVENTLET = find_spec("gunicorn.workers.geventlet") is not None
HAS_ASGI = find_spec("gunicorn.workers.gasgi") is not None


class Setup(NamedTuple):
    """How a server that tests share is started.

    Attributes:
        worker_class: The kind of its workers.
        capacity: What each worker has to show.
        arguments: More of its command line; ``{folder}`` stands for the folder of its files.
        options: More for Exporting.
        tls: Whether it speaks TLS.
    """

    worker_class: str
    capacity: int
    arguments: tuple[str, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})
    tls: bool = False


SETUPS = {
    "sync": Setup("sync", 1, ("--bind=unix:{folder}/app.sock", "--backlog=64")),
    "sync, https": Setup("sync", 7, options={"environ": {"PROM_WORKER_CAPACITY": "7"}}, tls=True),
    "two workers": Setup("sync", 1, options={"workers": 2, "environ": {"PROM_RUNTIME": "1"}}),
    "gthread": Setup("gthread", 4),
    # The server's process, which then has values, is no worker.
    "gthread, preloaded, https": Setup("gthread", 4, ("--preload",), tls=True),
    "gevent": Setup("gevent", 50, ("--worker-connections=50",)),
    "gevent, https": Setup("gevent", 51, ("--worker-connections=51",), tls=True),
}
if HAS_EVENTLET:
    SETUPS["eventlet"] = Setup("eventlet", 60, ("--worker-connections=60",))
    SETUPS["eventlet, https"] = Setup("eventlet", 61, ("--worker-connections=61",), tls=True)
if HAS_ASGI:
    SETUPS["asgi"] = Setup("asgi", 70, ("--worker-connections=70",), {"app": ASGI_APP})


class Shared(Exporting):
    """A server that tests share, and its clients.

    Attributes:
        setup: How it was started.
        folder: Where its files are.
        first_capacities: What each worker showed before the first request.
    """

    first_capacities: list[float]

    def __init__(self, place: Scratch, setup: Setup) -> None:
        self.setup = setup
        self.folder = place.folder
        self._context: ssl.SSLContext | None = None
        arguments = ["--keep-alive=5", *(each.format(folder=place.folder) for each in setup.arguments)]
        if setup.tls:
            certificate, key = make(place.folder, "server")
            key.chmod(0o644)
            arguments += [f"--certfile={certificate}", f"--keyfile={key}"]
            self._context = trusting(certificate)
        options = {"app": APP, "workers": 1, "worker_class": setup.worker_class, **setup.options}
        super().__init__(place, *arguments, **options)

    def log(self) -> str:
        """Return its log, which has another scheme with TLS."""
        return super().log().replace("Listening at: https:", "Listening at: http:")

    def waited(self) -> tuple[float, float]:
        """Return how many queue times were counted, and their sum."""
        found = self.exported().get(QUEUE)
        every = [(sample.name, sample.value) for sample in found.samples] if found else []
        count, total = (
            sum(value for name, value in every if name == f"{QUEUE}_{part}") for part in ("count", "sum")
        )
        return count, total

    def load(self, path: str, *, clients: int, requests: int) -> tuple[list[float], float]:
        """Send so many requests by each of several clients, and wait until all queue times are counted.

        Returns:
            The seconds that each request took, and the sum of the queue times.
        """
        count, total = self.waited()
        latencies = load(self.port, path, clients=clients, requests=requests, tls=self._context)
        assert len(latencies) == clients * requests
        wait_until(
            lambda: self.waited()[0] == count + len(latencies),
            "all queue times",
            shown=lambda: str(self.waited()),
        )
        return latencies, self.waited()[1] - total


@contextlib.contextmanager
def shared(name: str) -> Iterator[Shared]:
    """Run a server in one of the ways of SETUPS until the end of the block."""
    setup = SETUPS[name]
    with scratch() as place:
        server = Shared(place, setup)
        with server:
            expected = [setup.capacity] * setup.options.get("workers", 1)
            # A test compares them, so that other tests do not fail with it.
            with contextlib.suppress(AssertionError):
                wait_until(lambda: capacities(server) == expected, "the capacities")
            server.first_capacities = capacities(server)
            yield server


def capacities(server: Exporting) -> list[float]:
    """Return the capacity that each worker shows."""
    return sorted(samples(server.exported(), CAPACITY, "worker").values())


def samples(families: dict[str, Metric], name: str, label: str) -> dict[str, float]:
    """Return the samples of a name by one of their labels."""
    return {
        sample.labels.get(label, ""): sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name
    }


class Client(threading.Thread):
    """Sends requests to a server, each after the answer to the one before, on new connections."""

    def __init__(self, port: int, path: str, requests: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._target = (port, path, requests, tls)
        self.latencies: list[float] = []
        self.start()

    def run(self) -> None:
        port, path, requests, tls = self._target
        for _ in range(requests):
            connection = (
                http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS, context=tls)
                if tls
                else http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
            )
            with contextlib.closing(connection):
                connection.connect()
                begun = time.perf_counter()
                connection.request("GET", path)
                connection.getresponse().read()
                self.latencies.append(time.perf_counter() - begun)


def load(
    port: int, path: str, *, clients: int, requests: int, tls: ssl.SSLContext | None = None
) -> list[float]:
    """Send so many requests by each of several clients; return the seconds that each took."""
    every = [Client(port, path, requests, tls) for _ in range(clients)]
    for client in every:
        client.join()
    return [latency for client in every for latency in client.latencies]
