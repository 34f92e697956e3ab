"""Random signals to a server's processes, clients that count, and a scraper that detects decreases."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from prometheus_client.parser import text_string_to_metric_families

from tests.servers.exporting import ask
from tests.servers.process import wait_until
from web_prom.multiprocess.file_format import FileName

SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
"""The seed of all random choices. CHAOS_SEED repeats a run."""

# process_* are values of one process and start again with the next one.
_COUNTERS = re.compile("(http|shop|web_prom)_.*_(total|bucket|count|sum)")
_TIMEOUT_SECONDS = 5.0


class Request(NamedTuple):
    """One kind of request, with the labels that it is counted under."""

    method: str
    path: str
    status: int
    route: str


REQUESTS = (
    Request("GET", "/", 200, "/"),
    Request("GET", "/items/{}", 200, "/items/<int:number>"),
    Request("GET", "/no/such/{}", 404, "_unmatched"),
    Request("POST", "/orders", 201, "/orders"),
    Request("GET", "/error", 500, "/error"),
)


class Server(Protocol):
    """A running server with several workers."""

    port: int

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""

    def alive(self) -> set[int]:
        """Return the processes that may write metrics."""

    def started(self) -> set[int]:
        """Return the processes that its log names as started, before they write their first metric."""

    def log(self) -> str:
        """Return what it wrote so far."""


class Clients:
    """Clients that send requests without a pause and count them, as a context manager.

    Each answered request has to be counted once; a request that got no answer at most once. An ASGI request
    ends when the server has taken the last message: a worker may be killed between the answer and its count.

    Args:
        port: Where the server listens.
        requests: What is sent.
        count: How many clients there are.
        timeout_seconds: How long a client waits for an answer.

    Attributes:
        answered: How often each kind of request was answered.
        unanswered: How often a kind of request got no answer.
        wrong: Answers with another status than the request has.
    """

    def __init__(
        self,
        port: int,
        requests: Sequence[Request] = REQUESTS,
        count: int = 4,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        self.answered: Counter[Request] = Counter()
        self.unanswered: Counter[Request] = Counter()
        self.wrong: list[str] = []
        self._port = port
        self._requests = requests
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        chosen = random.Random(SEED + number)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout_seconds)
        with contextlib.closing(connection):
            while not self._ended.is_set():
                request = chosen.choice(self._requests)
                path = request.path.format(chosen.randrange(1, 1000))
                body = b"x" * 10 if request.method == "POST" else None
                try:
                    # Without retries: http.client repeats no request by itself.
                    connection.request(request.method, path, body, {"X-Request-Id": "-"})
                    response = connection.getresponse()
                    response.read()
                except (OSError, http.client.HTTPException):
                    connection.close()
                    with self._lock:
                        self.unanswered[request] += 1
                    time.sleep(0.01)
                    continue
                with self._lock:
                    self.answered[request] += 1
                    if response.status != request.status:
                        self.wrong.append(f"{request.method} {path}: {response.status}")
                # A worker that shuts down still serves its open connections.
                if chosen.random() < 0.5:
                    connection.close()

    def __str__(self) -> str:
        return f"{sum(self.answered.values())} answered, {sum(self.unanswered.values())} not"

    def differences(self, counted: Counter[tuple[str, str, str]], uncounted: int = 0) -> list[str]:
        """Return the kinds of requests whose count in the metrics is impossible.

        Args:
            counted: The number of requests in the metrics.
            uncounted: How many answered requests may be missing: one for each ASGI worker that was killed.
        """
        found, missing = [], 0
        for request in self._requests:
            answered, sent = self.answered[request], self.answered[request] + self.unanswered[request]
            number = counted[request.method, request.route, str(request.status)]
            missing += max(answered - number, 0)
            if number > sent or missing > uncounted:
                found.append(f"{request}: {answered} answered, {sent} sent, {number} counted")
        return found


class Scraper:
    """A scraper that scrapes without end and notes each counter that decreases, as a context manager.

    Args:
        port: Where the metrics are.

    Attributes:
        answers: How many scrapes were answered with status 200.
        decreases: Each counter that was lower than before in one of them.
        latest: The values of the last one by their series, as in the text.
    """

    def __init__(self, port: int) -> None:
        self.answers = 0
        self.decreases: list[str] = []
        self.latest: dict[str, float] = {}
        self._port = port
        self._highest: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            self.scrape()

    def scrape(self) -> bool:
        """Scrape once; return whether the status was 200."""
        try:
            status, body = ask(self._port)
        except (OSError, http.client.HTTPException):
            return False
        if status != 200:
            return False
        # Not with a parser, which takes longer than the scrape. A series is written the same each time.
        lines = (line.rsplit(" ", 1) for line in body.decode().split("\n") if line and line[0] != "#")
        latest = {series: float(value) for series, value in lines}
        for series, before in self._highest.items():
            value = latest.get(series, 0.0)
            if value < before:
                self.decreases.append(f"{series}: {before} -> {value} in scrape {self.answers}")
        for series, value in latest.items():
            if _COUNTERS.fullmatch(_name(series)):
                self._highest[series] = value
        self.latest = latest
        self.answers += 1
        return True

    def total(self, name: str) -> float:
        """Return the sum of a metric's samples in the last scrape."""
        return sum(value for series, value in self.latest.items() if _name(series) == name)

    def requests(self) -> Counter[tuple[str, str, str]]:
        """Return how many requests of each method, route and status the last scrape counts."""
        found: Counter[tuple[str, str, str]] = Counter()
        for series, value in self.latest.items():
            if _name(series) == "http_requests_total":
                (family,) = text_string_to_metric_families(f"{series} {value}\n")
                labels = family.samples[0].labels
                route = labels["route"].replace("{number:int}", "<int:number>")
                found[labels["method"], route, labels["status"]] += int(value)
        return found


def _name(series: str) -> str:
    return series.partition("{")[0]


class Look(NamedTuple):
    """The processes at one moment. The fields are read in their order.

    Attributes:
        started_before: Processes that the log names as started, read before ``alive``.
        alive: Processes that may write metrics.
        started_after: As ``started_before``, read after ``alive``.
    """

    started_before: set[int]
    alive: set[int]
    started_after: set[int]


class Chaos:
    """Signals to a server's processes in random order.

    Args:
        server: The server.
        more: Other actions, in addition to the signals to workers.

    Attributes:
        done: How often each action was done.
        most_processes: An upper bound of the processes that lived at the same time.
    """

    def __init__(self, server: Server, more: Sequence[Callable[[], None]] = ()) -> None:
        self._server = server
        self._random = random.Random(SEED)
        self._actions = [self._kill, self._kill, self._end, self._stop, *more]
        self.done: Counter[str] = Counter()
        self._latest = self._look()
        self.most_processes = len(self._latest.alive)

    def run(self, seconds: float) -> None:
        """Do one action after the other for so many seconds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            action = self._random.choice(self._actions)
            action()
            self.done[action.__name__.strip("_")] += 1
            self.observe()
            time.sleep(self._random.uniform(0.0, 0.1))

    def observe(self) -> None:
        """Raise ``most_processes`` to what can have lived since the last call.

        A process that lived at any moment in between was alive at the last look, is alive now, or was started
        in between. So the bound holds however seldom this is called.
        """
        before, now = self._latest, self._look()
        possible = before.alive | now.alive | (now.started_after - before.started_before)
        self.most_processes = max(self.most_processes, len(possible))
        self._latest = now

    def _look(self) -> Look:
        return Look(self._server.started(), self._server.alive(), self._server.started())

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _end(self) -> None:
        self._signal(signal.SIGTERM)

    def _stop(self) -> None:
        pid = self._signal(signal.SIGSTOP)
        time.sleep(self._random.uniform(0.05, 0.3))
        if pid is not None:
            send(pid, signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> int | None:
        workers = self._server.workers()
        if not workers:
            return None
        pid = self._random.choice(workers)
        send(pid, number)
        return pid


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def most_files_of_a_kind(names: Sequence[str]) -> int:
    """Return the number of value files of the most frequent type and mode."""
    found = Counter((name.metric_type, name.mode) for name in map(FileName.parse, names) if name)
    return max(found.values(), default=0)


def settle(scraper: Scraper, clients: Clients, server: Server, killed: int = 0, uncounted: int = 0) -> None:
    """Wait until the metrics agree with the clients and nothing is in progress; fail with the difference.

    Args:
        scraper: What reads the metrics.
        clients: Those who keep the ledger.
        server: For its log.
        killed: How many processes may have ended by SIGKILL.
        uncounted: How many answered requests may be missing, as for :meth:`Clients.differences`.
    """

    def agrees() -> bool:
        return (
            scraper.scrape()
            and not clients.differences(scraper.requests(), uncounted)
            and scraper.total("http_requests_in_progress") == 0
        )

    with contextlib.suppress(AssertionError):
        wait_until(agrees, "metrics and ledger to agree", shown=server.log)
    differences = clients.differences(scraper.requests(), uncounted)
    shown = f"CHAOS_SEED={SEED}\n{server.log()[-5000:]}\n{scraper.decreases}\n{clients.wrong}\n{differences}"
    assert scraper.decreases == [], shown
    assert clients.wrong == [], shown
    assert differences == [], shown
    assert scraper.total("http_requests_in_progress") == 0, shown
    # A worker writes the count of a request, then its duration. SIGKILL can come in between.
    observed = scraper.total("http_request_duration_seconds_count")
    counted = scraper.total("http_requests_total")
    assert counted - killed <= observed <= counted, shown
