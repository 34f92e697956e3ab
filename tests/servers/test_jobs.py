"""Workers without a web server: real Celery and RQ with a real Redis, with processes killed and replaced.

The sums at the port agree with the results that the sender got.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import interpreters
from tests.pages import code_blocks
from tests.programs import needs_program
from tests.servers.prefork import Prefork
from tests.servers.process import PATIENCE_SECONDS, ROOT, Scratch, wait_until
from web_prom.multiprocess.file_format import FileName

DOCUMENT = ROOT / "docs" / "how-to" / "jobs.rst"
CELERY = "celery --workdir examples -A jobs.celery_app worker --concurrency 2"
RQ = "rq worker --path examples --worker-class jobs.rq_worker.MeasuredWorker"
SIMPLE_RQ = "rq worker --path examples --worker-class jobs.rq_worker.MeasuredSimpleWorker"
SEND = "python -m jobs.send {} 10"
SENT = "2 failure, 12 success"

# What one run of SEND makes.
JOBS = Counter(
    {
        ("send_receipt", "success"): 10,
        ("charge", "failure"): 2,
        ("fetch_rates", "retry"): 4,
        ("fetch_rates", "success"): 2,
    }
)

# Sends a job that takes long, and prints which process of the pool works at it.
HANG = """
import os, sys
from celery import Celery
with Celery(broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"]) as app:
    sent = app.send_task("export", [3600])
    found = []
    while not found:
        active = app.control.inspect(limit=1).active() or {}
        found = [task["worker_pid"] for tasks in active.values() for task in tasks if task["id"] == sent.id]
        found = [pid for pid in found if pid]
    print(*found)
"""
# Renames the queue so that workers do not find it, or renames it back.
CONSUME = """
import os, sys
from celery import Celery
with Celery(broker=os.environ["REDIS_URL"]) as app:
    while not getattr(app.control, sys.argv[1])("celery", reply=True):
        pass
    for _ in range(int(sys.argv[2])):
        app.send_task("send_receipt", [7])
"""
HANG_RQ = """
import os
from redis import Redis
from rq import Queue
with Redis.from_url(os.environ["REDIS_URL"]) as redis:
    Queue(connection=redis).enqueue("jobs.tasks.export", 3600)
"""

# Each sends three jobs, which run 1, 2 and 5 queries.
SEND_QUERIES = """
import os
from celery import Celery
with Celery(broker=os.environ["REDIS_URL"]) as app:
    for queries in (1, 2, 5):
        app.send_task("report", [queries])
"""
SEND_QUERIES_RQ = """
import os
from redis import Redis
from rq import Queue
with Redis.from_url(os.environ["REDIS_URL"]) as redis:
    for queries in (1, 2, 5):
        Queue(connection=redis).enqueue("tests.servers.apps.jobs_app.report", queries)
"""


class Redis:
    """A Redis of the test's own, as a context."""

    def __init__(self, place: Scratch) -> None:
        program = needs_program("redis-server", package="redis-server")
        self.port = free_port()
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(place.folder)]
        self._process = interpreters.Popen([program, *options], stdout=subprocess.DEVNULL)
        place.environ["REDIS_URL"] = f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Redis:
        wait_until(self._answers, "Redis")
        return self

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGKILL)
        self._process.wait(PATIENCE_SECONDS)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def _answers(self) -> bool:
        assert self._process.poll() is None
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"PING\r\n")
            return client.recv(7) == b"+PONG\r\n"
        return False


class Worker(Prefork):
    """A worker with all its processes. Its counters never decrease."""

    def __init__(self, place: Scratch, line: str, *more: str) -> None:
        self._place = place
        self._seen: Counter[tuple[str, str]] = Counter()
        program, *options = shlex.split(line)
        command = [str(Path(sysconfig.get_path("scripts"), program)), *options, *more]

        def measured(port: int) -> list[str]:
            return ["env", f"METRICS_PORT={port}", *command]

        (place.folder / "shared").mkdir()
        super().__init__(place, measured, place.folder / "shared")

    def jobs(self) -> Counter[tuple[str, str]]:
        """Return the jobs by name and outcome."""
        found = self.samples("jobs", "jobs_total", "job", "outcome")
        jobs = Counter({(job, outcome): int(number) for (job, outcome), number in found.items()})
        assert jobs >= self._seen, "a counter decreased"
        self._seen = jobs
        return jobs

    def wait_for_jobs(self, expected: Counter[tuple[str, str]]) -> None:
        """Wait until exactly these are counted; check that all families agree."""
        wait_until(
            lambda: self.jobs() >= expected, f"{expected}", shown=lambda: f"{self._seen}\n{self.log()}"
        )
        assert self.jobs() == expected
        timed: Counter[str] = Counter()
        for (job, outcome), number in expected.items():
            timed[job] += number if outcome != "lost" else 0
        counts = self.samples("job_duration_seconds", "job_duration_seconds_count", "job")
        assert {job: number for (job,), number in counts.items()} == +timed
        wait_until(lambda: not self.gauge("jobs_running"), "the gauge to fall", shown=self.log)

    def end(self) -> None:
        """Ask the worker to end until its port is free. A busy worker of RQ may miss the first signal."""
        asked = 0.0

        def ended() -> bool:
            nonlocal asked
            if time.monotonic() - asked > 5:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGTERM)
                asked = time.monotonic()
            return self.is_refused()

        wait_until(ended, "a free port", shown=self.log)

    def is_refused(self) -> bool:
        """Return whether no process listens at the port, children that inherited it included."""
        try:
            socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS).close()
        except ConnectionRefusedError:
            return True
        return False

    def slots(self) -> set[str]:
        """Return the slots that files are of."""
        names = [FileName.parse(path.name) for path in self.directory.glob("*.db")]
        return {name.owner for name in names if name is not None}

    def run(self, *arguments: str) -> str:
        """Run another program of the user's beside it; return what it printed."""
        done = interpreters.run(
            [sys.executable, *arguments],
            env={**self._place.environ, "PYTHONPATH": f"{ROOT / 'examples'}:{ROOT}"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{done.stderr}\n{self.log()}"
        return done.stdout.strip()

    def send(self, kind: str) -> None:  # type: ignore[override]
        """Send jobs as on the page; check their outcomes."""
        assert self.run(*shlex.split(SEND.format(kind))[1:]) == SENT


def free_port() -> int:
    """Return a free port."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def redis(place: Scratch) -> Iterator[Redis]:
    """Start a broker, and tell the place's programs where it is."""
    with Redis(place) as running:
        yield running


@contextlib.contextmanager
def working(place: Scratch, line: str, *more: str) -> Iterator[Worker]:
    """Run a worker until the end of the block, from the repository's directory."""
    (place.folder / "examples").symlink_to(ROOT / "examples")
    worker = Worker(place, line, *more)
    try:
        worker.wait_until_ready()
        yield worker
    finally:
        worker.kill()


def times(number: int) -> Counter[tuple[str, str]]:
    """Return what so many runs of SEND make."""
    return Counter({job: number * count for job, count in JOBS.items()})


def test_celery_counts_each_task_when_its_processes_are_killed(place: Scratch, redis: Redis) -> None:
    """Processes are replaced after some tasks, one is killed while it works, tasks are retried and fail."""
    with working(place, CELERY, "--max-tasks-per-child=5") as worker:
        worker.send("celery")
        worker.wait_for_jobs(times(1))

        (child,) = map(int, worker.run("-c", HANG).split())
        wait_until(lambda: worker.gauge("jobs_running") == 1, "a job that runs", shown=worker.log)
        os.kill(child, signal.SIGKILL)
        worker.wait_for_jobs(times(1) + Counter({("export", "lost"): 1}))

        worker.send("celery")
        worker.wait_for_jobs(times(2) + Counter({("export", "lost"): 1}))
        children = {int(number) for number in re.findall(r"ForkPoolWorker-(\d+)\]", worker.log())}
        assert max(children) > 2, "they were replaced"
        assert len(worker.slots()) <= 3, "one for the parent, one for each of two children"

        worker.run("-c", CONSUME, "cancel_consumer", "3")
        # A message in transit when the queue was renamed is put back.
        wait_until(lambda: worker.gauge("job_queue_depth") == 3, "three jobs that wait", shown=worker.log)
        worker.run("-c", CONSUME, "add_consumer", "0")
        expected = times(2) + Counter({("export", "lost"): 1, ("send_receipt", "success"): 3})
        worker.wait_for_jobs(expected)
        assert "job_queue_depth" in worker.scrape()

        # Redis is stopped: a scrape has everything else, and reports what is missing.
        redis.signal(signal.SIGSTOP)
        found = worker.scrape()
        redis.signal(signal.SIGCONT)
        assert "job_queue_depth" not in found
        assert worker.jobs() == expected
        errors = worker.samples(
            "web_prom_instrumentation_errors", "web_prom_instrumentation_errors_total", "stage"
        )
        assert errors.keys() == {("collector QueueDepth",)}
        wait_until(lambda: "job_queue_depth" in worker.scrape(), "the depth", shown=worker.log)

        worker.end()


def test_rq_counts_jobs_that_run_in_processes_of_their_own(place: Scratch, redis: Redis) -> None:
    """All work-horses write to the files of one slot in turn; one of them is killed while it works."""
    with working(place, RQ, "--url", place.environ["REDIS_URL"]) as worker:
        worker.send("rq")
        worker.wait_for_jobs(times(1))

        worker.run("-c", HANG_RQ)
        wait_until(lambda: worker.gauge("jobs_running") == 1, "a job that runs", shown=worker.log)
        (horse,) = worker.writers()
        os.kill(horse, signal.SIGKILL)
        expected = times(1) + Counter({("export", "lost"): 1})
        worker.wait_for_jobs(expected)
        assert len(worker.slots()) <= 2
        assert worker.gauge("web_prom_workers") == 1


def test_rq_simple_worker_counts_jobs(place: Scratch, redis: Redis) -> None:
    with working(place, SIMPLE_RQ, "--url", place.environ["REDIS_URL"]) as worker:
        worker.send("rq")
        worker.wait_for_jobs(times(1))
        assert len(worker.slots()) == 1


@pytest.mark.parametrize(
    ("line", "sender", "name"),
    [
        ("celery --workdir {} -A tests.servers.apps.jobs_app worker --concurrency 2", SEND_QUERIES, "report"),
        (
            "rq worker --path {} --worker-class tests.servers.apps.jobs_app.Worker --url $REDIS_URL",
            SEND_QUERIES_RQ,
            "tests.servers.apps.jobs_app.report",
        ),
    ],
    ids=["celery", "rq"],
)
def test_queries_of_jobs_are_counted_by_name(
    place: Scratch, redis: Redis, line: str, sender: str, name: str
) -> None:
    """The workers load no middleware, so the first job of each process creates the families."""
    line = line.format(ROOT).replace("$REDIS_URL", place.environ["REDIS_URL"])
    with working(place, line) as worker:
        worker.run("-c", sender)

        def queries() -> dict[tuple[str, ...], float]:
            family = "http_request_db_queries"
            found = worker.samples(family, f"{family}_total", "method", "route")
            return {labels: number for labels, number in found.items() if labels[0] == "_task"}

        wait_until(lambda: queries() == {("_task", name): 8}, "eight queries", shown=worker.log)
        family = "http_request_db_repeated_queries"
        assert worker.samples(family, f"{family}_total", "route")[name,] == 3
        worker.end()


def test_page_shows_the_commands_and_their_output() -> None:
    """The page shows each command unchanged."""
    text = re.sub(r"\s+", " ", DOCUMENT.read_text("utf-8"))
    for typed in (CELERY, RQ, SIMPLE_RQ, SEND.format("celery"), SEND.format("rq"), SENT):
        assert typed in text, typed
    for (job, outcome), number in JOBS.items():
        assert f'jobs_total{{job="{job}",outcome="{outcome}"}} {number}.0' in text


def bare(code: str, name: str) -> str:
    """Return a class without documentation, comments and types."""
    (found,) = [each for each in ast.parse(code).body if isinstance(each, ast.ClassDef) and each.name == name]
    for node in ast.walk(found):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(found)


def test_page_shows_the_collector_of_the_example() -> None:
    """They are equal without types and documentation."""
    example = (ROOT / "examples" / "jobs" / "metrics.py").read_text("utf-8")
    shown = [block for block in code_blocks(DOCUMENT.read_text("utf-8"), "python") if "QueueDepth" in block]
    assert [bare(block, "QueueDepth") for block in shown] == [bare(example, "QueueDepth")]
