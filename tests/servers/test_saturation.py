"""Queue time, capacity, backlog and loop lag of real servers under a load that is known."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import pytest
from prometheus_client import Metric

from tests.certificates import make, trusting
from tests.servers.exporting import Exporting
from tests.servers.process import PATIENCE_SECONDS, Scratch, wait_until
from tests.servers.prometheus import Prometheus, scraping

APP = "tests.servers.apps.saturated_app:app"
LOOP_APP = "tests.servers.apps.saturated_app:loop_app"

QUEUE = "http_request_queue_seconds"
CAPACITY = "http_server_worker_capacity"
BACKLOG = "http_server_backlog"

# Releases of gunicorn differ in the classes of their workers.
HAS_EVENTLET = find_spec("gunicorn.workers.geventlet") is not None
HAS_ASGI = find_spec("gunicorn.workers.gasgi") is not None

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows its queues")


def samples(families: dict[str, Metric], name: str, label: str) -> dict[str, float]:
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


# Queue time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "clients"), [(1, 1), (1, 4), (2, 8), (4, 16)])
def test_queue_time_equals_the_latency_without_the_service(
    place: Scratch, workers: int, clients: int
) -> None:
    requests = 6
    duration = "http_request_duration_seconds"
    with Exporting(place, app=APP, workers=workers) as server:

        def run() -> tuple[float, float]:
            """Return the mean queue time of a load, and the mean latency without the service."""
            before = [server.total(f"{name}_sum", name) for name in (QUEUE, duration)]
            counted = server.total(f"{QUEUE}_count", QUEUE)
            latencies = load(server.port, "/sleep/100", clients=clients, requests=requests)
            assert len(latencies) == clients * requests
            wait_until(
                lambda: server.total(f"{QUEUE}_count", QUEUE) - counted == len(latencies), "all queue times"
            )
            after = [server.total(f"{name}_sum", name) for name in (QUEUE, duration)]
            waited, served = ((new - old) / len(latencies) for old, new in zip(before, after, strict=True))
            return waited, mean(latencies) - served

        # A machine that is busy delays clients and workers, and the kernel's clock ticks every 4 ms.
        for _ in range(5):
            waited, without_service = run()
            if waited == pytest.approx(without_service, rel=0.15, abs=0.02):
                return
    assert waited == pytest.approx(without_service, rel=0.15, abs=0.02)


QUEUED = [
    ("sync", "/sleep/60"),
    ("gthread", "/sleep/60"),
    ("gevent", "/compute/60"),  # greenlets that sleep do not wait for each other
    *([("eventlet", "/compute/60")] if HAS_EVENTLET else []),
]


@pytest.mark.parametrize(("worker_class", "path"), QUEUED)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_queue_time_is_observed_for_each_request_of_each_worker_type(
    place: Scratch, worker_class: str, path: str, tls: bool
) -> None:
    context, options = None, ["--keep-alive=5"]
    if tls:
        certificate, key = make(place.folder, "server")
        key.chmod(0o644)
        options = [*options, f"--certfile={certificate}", f"--keyfile={key}"]
        context = trusting(certificate)
    with Secured(place, *options, app=APP, workers=1, worker_class=worker_class) as server:
        latencies = load(server.port, path, clients=12, requests=2, tls=context)
        wait_until(lambda: server.total(f"{QUEUE}_count", QUEUE) == len(latencies), "all queue times")
        waited = server.total(f"{QUEUE}_sum", QUEUE)
    # Twelve clients share four places at most: most requests wait for others, and none longer than it took.
    # With
    # TLS the handshake waits, and the request that follows it does not.
    assert (0.0 if tls else 0.05) <= waited / len(latencies) < max(latencies)


class Secured(Exporting):
    """A gunicorn that may speak TLS: its log then has another scheme."""

    def log(self) -> str:
        return super().log().replace("Listening at: https:", "Listening at: http:")


def test_queue_time_of_a_second_request_on_a_connection_is_its_own(place: Scratch) -> None:
    with Exporting(place, "--keep-alive=5", app=APP, workers=1, worker_class="gthread") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            for _ in range(4):
                connection.request("GET", "/sleep/1")
                connection.getresponse().read()
                time.sleep(0.4)
        wait_until(lambda: server.total(f"{QUEUE}_count", QUEUE) == 4, "all queue times")
        # From the connection's first request on it would be 0.4 + 0.8 + 1.2.
        assert server.total(f"{QUEUE}_sum", QUEUE) < 1.2


def test_queue_time_of_a_unix_socket_is_not_observed(place: Scratch) -> None:
    path = place.folder / "app.sock"
    with Exporting(place, f"--bind=unix:{path}", app=APP, workers=1) as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /sleep/1 HTTP/1.0\r\nX-Request-Id: -\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.0 200")
        wait_until(lambda: server.total("http_requests_total", "http_requests") == 1, "the request")
        time.sleep(1.5)
        families = server.exported()
    assert QUEUE not in families
    assert not any(samples(families, "web_prom_instrumentation_errors_total", "stage").values())


# Capacity --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worker_class", "app", "options", "capacity"),
    [
        ("sync", APP, [], 1),
        ("gthread", APP, [], 4),
        ("gthread", APP, ["--preload"], 4),  # the server's process, which then has values, is no worker
        ("gevent", APP, ["--worker-connections=50"], 50),
        *([("eventlet", APP, ["--worker-connections=60"], 60)] if HAS_EVENTLET else []),
        *([("asgi", LOOP_APP, ["--worker-connections=70"], 70)] if HAS_ASGI else []),
    ],
)
def test_capacity_of_each_worker_is_shown_before_its_first_request(
    place: Scratch, worker_class: str, app: str, options: list[str], capacity: int
) -> None:
    with Exporting(place, *options, app=app, workers=2, worker_class=worker_class) as server:

        def shown() -> list[float]:
            return sorted(samples(server.exported(), CAPACITY, "worker").values())

        wait_until(
            lambda: shown() == [capacity] * 2, "the capacity of both workers", shown=lambda: str(shown())
        )


def test_capacity_follows_the_workers_that_live(place: Scratch) -> None:
    with Exporting(place, "--max-requests=30", app=APP, workers=2, worker_class="gthread") as server:

        def places() -> float:
            return server.total(CAPACITY)

        def settled(workers: int) -> None:
            wait_until(lambda: places() == 4 * workers, f"{workers} workers", shown=lambda: str(places()))

        settled(2)
        for number, workers in ((signal.SIGTTIN, 3), (signal.SIGHUP, 2), (signal.SIGTTIN, 3)):
            server.signal(number)
            settled(workers)
        for pid in set(server.servers()) - {server.pid}:
            server.signal(signal.SIGKILL, pid)
        settled(3)
        load(server.port, "/sleep/1", clients=3, requests=60)
        settled(3)
        assert len(samples(server.exported(), CAPACITY, "worker")) == 3
        assert len(os.listdir(place.shared_directories()[0])) < 60


def test_capacity_can_be_set_by_hand(place: Scratch) -> None:
    with Exporting(place, app=APP, workers=2, environ={"PROM_WORKER_CAPACITY": "7"}) as server:
        wait_until(lambda: server.total(CAPACITY) == 14, "the capacity of both workers")


# Backlog ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stopped(server: Exporting) -> Iterator[None]:
    """Stop all workers, so that connections wait in the kernel."""
    workers = [
        pid for pid, parent in server.processes().items() if parent == server.pid and pid in server.servers()
    ]
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)


def waiting(server: Exporting) -> dict[str, float]:
    return samples(server.exported(), BACKLOG, "listener")


def test_backlog_is_the_number_of_connections_that_wait(place: Scratch) -> None:
    """On a TCP and on a UNIX socket, while no worker can answer."""
    path = place.folder / "app.sock"
    with Exporting(place, f"--bind=unix:{path}", "--backlog=64", app=APP, workers=2) as server:
        server.get("/sleep/1")
        tcp, unix = f"127.0.0.1:{server.port}", f"unix:{path}"
        wait_until(
            lambda: waiting(server) == {tcp: 0, unix: 0}, "both listeners", shown=lambda: str(waiting(server))
        )
        assert samples(server.exported(), f"{BACKLOG}_limit", "listener") == {tcp: 64, unix: 64}
        with stopped(server), contextlib.ExitStack() as stack:
            for count in range(1, 6):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                for _ in range(2):
                    client = stack.enter_context(socket.socket(socket.AF_UNIX))
                    client.connect(str(path))
                wait_until(
                    lambda count=count: waiting(server) == {tcp: count, unix: 2 * count},  # type: ignore[misc]
                    f"{count} connections",
                    shown=lambda: str(waiting(server)),
                )
        wait_until(lambda: waiting(server) == {tcp: 0, unix: 0}, "the queues to be empty")


def test_backlog_counts_connections_that_are_refused(place: Scratch) -> None:
    name = "http_server_listen_overflows"
    with Exporting(place, "--backlog=1", app=APP, workers=1) as server:
        server.get("/sleep/1")
        wait_until(lambda: waiting(server), "the listener")
        before = server.total(f"{name}_total", name)
        with stopped(server), contextlib.ExitStack() as stack:
            for _ in range(10):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", server.port))
            # Two fit, as Linux takes one more than the limit. Each of the others is refused at least once.
            wait_until(lambda: server.total(f"{name}_total", name) >= before + 8, "refused connections")
            assert waiting(server) == {f"127.0.0.1:{server.port}": 2}


def test_backlog_is_shown_after_a_reload_and_an_upgrade(place: Scratch) -> None:
    with Exporting(place, app=APP, workers=1) as server:
        server.get("/sleep/1")
        listener = f"127.0.0.1:{server.port}"
        wait_until(lambda: listener in waiting(server), "the listener")
        server.signal(signal.SIGHUP)
        server.wait_for_boots(2)
        server.get("/sleep/1")
        wait_until(lambda: waiting(server) == {listener: 0}, "the listener after a reload")
        first = server.pid
        server.signal(signal.SIGUSR2)
        server.wait_for_boots(3)
        server.signal(signal.SIGTERM, first)
        wait_until(lambda: first not in server.processes(), "the old server to end", shown=server.log)
        server.get("/sleep/1")
        wait_until(
            lambda: waiting(server) == {listener: 0}, "the listener after an upgrade", shown=server.log
        )


def test_backlog_is_in_a_scrape_of_a_worker_too(place: Scratch) -> None:
    with Exporting(place, app=APP, workers=1) as server:
        wait_until(
            lambda: samples(server.scrape(), BACKLOG, "listener") == {f"127.0.0.1:{server.port}": 0},
            "the listener",
        )


# Event loop ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_ASGI, reason="gunicorn before 25 has no worker of that class")
def test_loop_lag_shows_a_block_of_320_ms_in_its_bucket(place: Scratch) -> None:
    name = "asyncio_loop_lag_seconds"
    with Exporting(place, app=LOOP_APP, workers=1, worker_class="asgi") as server:
        server.get("/sleep/1")

        def late() -> float:
            buckets = samples(server.exported(), f"{name}_bucket", "le")
            return buckets.get("0.5", 0) - buckets.get("0.25", 0)

        wait_until(lambda: server.total(f"{name}_count", name) > 0, "a lag")
        before = late()

        def blocked() -> bool:
            server.get("/block/320")
            return late() >= before + 3

        # On a busy machine a block can last longer than its bucket.
        wait_until(blocked, "three blocks", shown=lambda: str(late()))


def test_hub_lag_shows_a_greenlet_that_computes(place: Scratch) -> None:
    name = "gevent_hub_lag_seconds"
    with Exporting(place, app=APP, workers=1, worker_class="gevent") as server:
        server.get("/sleep/1")
        server.get("/compute/320")
        wait_until(
            lambda: (
                samples(server.exported(), f"{name}_bucket", "le").get("+Inf", 0)
                > samples(server.exported(), f"{name}_bucket", "le").get("0.25", 0)
            ),
            "a lag",
        )


# Interpreter -----------------------------------------------------------------------------------------


def test_interpreter_is_measured_by_worker(place: Scratch) -> None:
    with Exporting(place, app=APP, workers=2, environ={"PROM_RUNTIME": "1"}) as server:
        load(server.port, "/sleep/20", clients=4, requests=10)

        def shown() -> dict[str, Metric] | None:
            families = server.exported()
            return families if len(samples(families, "python_info", "worker")) == 2 else None

        families = wait_until(shown, "both workers", shown=server.log)
        workers = set(samples(families, "python_info", "worker"))
        # The server's own process is no worker, and has a slot where it has loaded metrics.
        for name in ("process_threads", "process_page_faults_total", "process_context_switches_total"):
            assert set(samples(families, name, "worker")) == workers, name
        assert workers <= set(samples(families, "process_start_time_seconds", "worker"))
        assert set(samples(families, "python_gc_collections_total", "worker")) == workers
        assert samples(families, "process_threads", "worker")[min(workers)] >= 1


# Utilisation in Prometheus ---------------------------------------------------------------------------


def test_utilisation_in_promql_equals_the_load(place: Scratch) -> None:
    """Two workers, and one client without a pause: half of the capacity, less what the client needs."""
    with Exporting(place, app=APP, workers=2) as server:
        load(server.port, "/sleep/100", clients=2, requests=2)
        rules = Path(__file__).parents[2] / "examples" / "prometheus" / "saturation.yml"
        text = rules.read_text("utf-8").replace("[5m]", "[10s]")
        (place.folder / "saturation.yml").write_text(text)
        configuration = scraping({"shop": server}, interval="1s").replace(
            "scrape_interval: 1s", "scrape_interval: 1s, evaluation_interval: 1s"
        )
        with Prometheus(place.folder, f"{configuration}rule_files: [saturation.yml]\n") as prometheus:
            ended = threading.Event()
            requests: list[tuple[float, float]] = []

            def client() -> None:
                while not ended.is_set():
                    (seconds,) = load(server.port, "/sleep/100", clients=1, requests=1)
                    requests.append((time.time(), seconds))

            def utilisation() -> tuple[float, float]:
                """Return what Prometheus shows, and the share of the last ten seconds with a request."""
                at = time.time()
                busy = sum(seconds for ended, seconds in requests if at - 11 <= ended <= at - 1)
                return prometheus.number("job:http_server:utilisation5m"), busy / 10 / 2

            def agrees() -> bool:
                found, sent = utilisation()
                return found == pytest.approx(sent, rel=0.1)

            thread = threading.Thread(target=client)
            thread.start()
            try:
                prometheus.wait_for_scrapes(["shop"], 16)
                # The load is not constant on a busy machine.
                wait_until(agrees, "the utilisation", shown=lambda: str(utilisation()))
            finally:
                ended.set()
                thread.join()
