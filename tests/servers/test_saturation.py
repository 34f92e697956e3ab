"""Queue time, capacity, backlog and loop lag of real servers under a load that is known."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest
from prometheus_client import Metric

from tests.servers.exporting import Exporting
from tests.servers.process import PATIENCE_SECONDS, Scratch, wait_until
from tests.servers.prometheus import Prometheus, scraping
from tests.servers.saturation import (
    APP,
    CAPACITY,
    HAS_ASGI,
    SETUPS,
    Shared,
    capacities,
    load,
    samples,
    shared,
)

BACKLOG = "http_server_backlog"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows its queues")


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """Run a server in one of the ways of SETUPS for all tests that name it."""
    with shared(request.param) as running:
        yield running


def started(*names: str) -> pytest.MarkDecorator:
    """Run a test with the servers of these names of SETUPS."""
    return pytest.mark.parametrize("server", names, indirect=True)


# Queue time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "clients"), [("sync", 1), ("sync", 4), ("two workers", 8)], indirect=["server"]
)
def test_queue_time_equals_the_latency_without_the_service(server: Shared, clients: int) -> None:
    duration = "http_request_duration_seconds"

    def run() -> tuple[float, float]:
        """Return the mean queue time of a load, and the mean latency without the service."""
        before = server.total(f"{duration}_sum", duration)
        latencies, waited = server.load("/sleep/100", clients=clients, requests=6)
        served = server.total(f"{duration}_sum", duration) - before
        return waited / len(latencies), mean(latencies) - served / len(latencies)

    # A machine that is busy delays clients and workers, and the kernel's clock ticks every 4 ms.
    for _ in range(5):
        waited, without_service = run()
        if waited == pytest.approx(without_service, rel=0.15, abs=0.02):
            return
    assert waited == pytest.approx(without_service, rel=0.15, abs=0.02)


@started(*(name for name in SETUPS if name not in ("two workers", "asgi")))
def test_queue_time_is_observed_for_each_request_of_each_worker_type(server: Shared) -> None:
    # Greenlets that sleep do not wait for each other.
    green = server.setup.worker_class in ("gevent", "eventlet")
    path, requests = ("/compute/40", 1) if green else ("/sleep/60", 2)
    latencies, waited = server.load(path, clients=12, requests=requests)
    # Twelve clients share four places at most: most requests wait for others, and none longer than it took.
    # With TLS the handshake waits, and the request that follows it does not.
    assert (0.0 if server.setup.tls else 0.05) <= waited / len(latencies) < max(latencies)


@started("gthread")
def test_queue_time_of_a_second_request_on_a_connection_is_its_own(server: Shared) -> None:
    count, total = server.waited()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        for _ in range(4):
            connection.request("GET", "/sleep/1")
            connection.getresponse().read()
            time.sleep(0.4)
    wait_until(lambda: server.waited()[0] == count + 4, "all queue times")
    # From the connection's first request on it would be 0.4 + 0.8 + 1.2.
    assert server.waited()[1] - total < 1.2


@started("sync")
def test_queue_time_of_a_unix_socket_is_not_observed(server: Shared) -> None:
    requests, (count, _) = server.total("http_requests_total", "http_requests"), server.waited()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.folder / "app.sock"))
        client.sendall(b"GET /sleep/1 HTTP/1.0\r\nX-Request-Id: -\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.0 200")
    # The worker writes the queue time of the next request together with those that it has measured before.
    server.load("/sleep/1", clients=1, requests=1)
    assert server.total("http_requests_total", "http_requests") == requests + 2
    assert server.waited()[0] == count + 1
    families = server.exported()
    assert not any(samples(families, "web_prom_instrumentation_errors_total", "stage").values())


# Capacity --------------------------------------------------------------------------------------------


@started(*(name for name in SETUPS if name != "sync, https"))
def test_capacity_of_each_worker_is_shown_before_its_first_request(server: Shared) -> None:
    workers = server.setup.options.get("workers", 1)
    assert server.first_capacities == [server.setup.capacity] * workers


@started("sync, https")
def test_capacity_can_be_set_by_hand(server: Shared) -> None:
    assert server.first_capacities == [7]


def test_capacity_follows_the_workers_that_live(place: Scratch) -> None:
    with Exporting(place, "--max-requests=10", app=APP, workers=1, worker_class="gthread") as server:

        def settled(workers: int) -> None:
            wait_until(
                lambda: server.total(CAPACITY) == 4 * workers,
                f"{workers} workers",
                shown=lambda: str(capacities(server)),
            )

        settled(1)
        for number, workers in ((signal.SIGTTIN, 2), (signal.SIGHUP, 1), (signal.SIGTTIN, 2)):
            server.signal(number)
            settled(workers)
        for pid in set(server.servers()) - {server.pid}:
            server.signal(signal.SIGKILL, pid)
        settled(2)
        load(server.port, "/sleep/1", clients=3, requests=10)
        # A worker that was replaced a moment ago may not be there yet.
        wait_until(
            lambda: [*samples(server.exported(), CAPACITY, "worker").values()] == [4, 4],
            "a sample for each of two workers",
            shown=lambda: str(capacities(server)),
        )
        assert len(os.listdir(place.shared_directories()[0])) < 40


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


@started("sync")
def test_backlog_is_the_number_of_connections_that_wait(server: Shared) -> None:
    """On a TCP and on a UNIX socket, while no worker can answer."""
    path = server.folder / "app.sock"
    server.load("/sleep/1", clients=1, requests=1)
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


@started("sync")
def test_backlog_is_in_a_scrape_of_a_worker_too(server: Shared) -> None:
    wait_until(
        lambda: (
            samples(server.scrape(), BACKLOG, "listener")
            == {f"127.0.0.1:{server.port}": 0, f"unix:{server.folder}/app.sock": 0}
        ),
        "the listeners",
    )


# Event loop ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_ASGI, reason="gunicorn before 25 has no worker of that class")
@started("asgi")
def test_loop_lag_shows_a_block_of_320_ms_in_its_bucket(server: Shared) -> None:
    name = "asyncio_loop_lag_seconds"
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


@started("gevent")
def test_hub_lag_shows_a_greenlet_that_computes(server: Shared) -> None:
    name = "gevent_hub_lag_seconds"

    def late() -> float:
        buckets = samples(server.exported(), f"{name}_bucket", "le")
        return buckets.get("+Inf", 0) - buckets.get("0.25", 0)

    server.load("/sleep/1", clients=1, requests=1)
    before = late()
    server.load("/compute/320", clients=1, requests=1)
    wait_until(lambda: late() > before, "a lag")


# Interpreter -----------------------------------------------------------------------------------------


@started("two workers")
def test_interpreter_is_measured_by_worker(server: Shared) -> None:
    server.load("/sleep/20", clients=4, requests=5)

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


@started("two workers")
def test_utilisation_in_promql_equals_the_load(server: Shared) -> None:
    """Two workers, and one client without a pause: half of the capacity, less what the client needs."""
    server.load("/sleep/100", clients=2, requests=2)
    count, _ = server.waited()
    rules = Path(__file__).parents[2] / "examples" / "prometheus" / "saturation.yml"
    text = rules.read_text("utf-8").replace("[5m]", "[5s]")
    (server.folder / "saturation.yml").write_text(text)
    configuration = scraping({"shop": server}, interval="500ms").replace(
        "scrape_interval: 500ms", "scrape_interval: 500ms, evaluation_interval: 500ms"
    )
    with Prometheus(server.folder, f"{configuration}rule_files: [saturation.yml]\n") as prometheus:
        ended = threading.Event()
        requests: list[tuple[float, float]] = []

        def client() -> None:
            while not ended.is_set():
                (seconds,) = load(server.port, "/sleep/100", clients=1, requests=1)
                requests.append((time.time(), seconds))

        def utilisation() -> tuple[float, float]:
            """Return what Prometheus shows, and the share of the last five seconds with a request."""
            at = time.time()
            busy = sum(seconds for ended, seconds in requests if at - 5.5 <= ended <= at - 0.5)
            return prometheus.number("job:http_server:utilisation5m"), busy / 5 / 2

        def agrees() -> bool:
            found, sent = utilisation()
            return found == pytest.approx(sent, rel=0.1)

        thread = threading.Thread(target=client)
        thread.start()
        try:
            prometheus.wait_for_scrapes(["shop"], 14)
            # The load is not constant on a busy machine.
            wait_until(agrees, "the utilisation", shown=lambda: str(utilisation()))
        finally:
            ended.set()
            thread.join()
    wait_until(lambda: server.waited()[0] == count + len(requests), "all queue times")
