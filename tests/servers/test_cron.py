"""Cron jobs in the three ways of docs/how-to/jobs.rst, scraped from node exporter, Pushgateway, gunicorn."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests import interpreters
from tests.programs import needs_program
from tests.servers.client import Client
from tests.servers.process import PATIENCE_SECONDS, ROOT, Gunicorn, Scratch, wait_until
from web_prom.multiprocess.file_format import FileName

NIGHTLY = ROOT / "examples" / "jobs" / "nightly.py"
CATALOGUE = ROOT / "examples" / "catalogue.csv"
PRODUCTS = 3.0
DOCUMENT = ROOT / "docs" / "how-to" / "jobs.rst"
WAYS = ("--textfile /var/lib/prometheus/node-exporter", "--pushgateway http://127.0.0.1:9091", "--shared")


class Program(Client):
    """A Debian program that serves /metrics, as a context manager."""

    def __init__(self, place: Scratch, name: str, *options: str) -> None:
        self._program = needs_program(name, package=name)
        self._place = place
        self._options = options
        self._path = place.folder / f"{name}.log"

    def __enter__(self) -> Program:
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        address = f"--web.listen-address=127.0.0.1:{self.port}"
        with self._path.open("wb") as log:
            self._process = interpreters.Popen(
                [self._program, address, *self._options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._place.environ,
                cwd=self._place.folder,
            )
        try:
            wait_until(self._answers, "a program", shown=self.log)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        """Return what it wrote so far."""
        return self._path.read_text("utf-8", "replace")

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/metrics")[0] == 200
        return False


def told(client: Client | Gunicorn) -> dict[str, float]:
    """Return what a scrape has of the job, by name."""
    return {
        sample.name: sample.value
        for name, family in client.scrape().items()
        if name.startswith("nightly")
        for sample in family.samples
        if sample.labels.get("outcome", "success") == "success"
    }


def nightly(
    place: Scratch, *way: str, catalogue: Path = CATALOGUE, environ: Mapping[str, str] | None = None
) -> int:
    """Run the job; return its exit code."""
    return interpreters.run(
        [sys.executable, str(NIGHTLY), *way, str(catalogue)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**place.environ, **(environ or {})},
        cwd=place.folder,
        timeout=PATIENCE_SECONDS,
        check=False,
    ).returncode


def test_page_shows_the_commands() -> None:
    """The page shows the commands that the tests below run with other paths."""
    page = DOCUMENT.read_text("utf-8")
    for way in WAYS:
        assert f"python examples/jobs/nightly.py {way} examples/catalogue.csv" in page


def succeeds_and_then_fails(client: Client | Gunicorn, run: Callable[[Path], int]) -> None:
    """Run the job with success and failure; check that both are reported and the last success is kept."""
    began = time.time()
    assert run(CATALOGUE) == 0
    first = told(client)
    assert first["nightly_failed"] == 0
    assert first["nightly_products"] == PRODUCTS
    assert began <= first["nightly_last_success_timestamp_seconds"] <= time.time()
    assert 0 < first["nightly_duration_seconds"] < PATIENCE_SECONDS
    assert run(CATALOGUE.with_name("none.csv")) == 1
    second = told(client)
    assert second["nightly_failed"] == 1
    assert second["nightly_last_run_timestamp_seconds"] > first["nightly_last_run_timestamp_seconds"]
    for kept in ("nightly_last_success_timestamp_seconds", "nightly_products"):
        assert second[kept] == first[kept]


def test_job_writes_a_text_file_for_node_exporter(place: Scratch) -> None:
    """node_exporter reads the directory at each scrape and never finds a partial file."""
    folder = place.folder / "textfiles"
    folder.mkdir()
    options = ("--collector.disable-defaults", "--collector.textfile")
    with Program(
        place, "prometheus-node-exporter", *options, f"--collector.textfile.directory={folder}"
    ) as exporter:
        succeeds_and_then_fails(
            exporter, lambda catalogue: nightly(place, f"--textfile={folder}", catalogue=catalogue)
        )
        assert exporter.gauge("node_textfile_scrape_error") == 0
        assert sorted(path.name for path in folder.iterdir()) == ["nightly.prom", "nightly_success.prom"]


def test_job_pushes_to_the_pushgateway(place: Scratch) -> None:
    """The metrics have the job's grouping key, until they are deleted."""
    with Program(place, "prometheus-pushgateway") as gateway:
        succeeds_and_then_fails(
            gateway, lambda catalogue: nightly(place, f"--pushgateway={gateway.url}", catalogue=catalogue)
        )
        (sample,) = gateway.scrape()["nightly_failed"].samples
        assert sample.labels == {"instance": "", "job": "nightly", "shop": "teapots"}
        assert nightly(place, f"--forget={gateway.url}") == 0
        assert told(gateway) == {}


def test_job_writes_to_a_directory_that_a_server_exposes(place: Scratch) -> None:
    """The counts of an ended job stay, and the next job continues with its slot."""
    directory = place.folder / "shared"
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    with Gunicorn(place, environ=environ) as server:
        succeeds_and_then_fails(
            server, lambda catalogue: nightly(place, "--shared", catalogue=catalogue, environ=environ)
        )
        for _ in range(3):
            assert nightly(place, "--shared", environ=environ) == 0
        assert server.value("nightly_runs_total", outcome="success") == 4
        assert server.value("nightly_runs_total", outcome="failure") == 1
        assert told(server)["nightly_failed"] == 0
        found = [name for path in directory.iterdir() if (name := FileName.parse(path.name))]
        assert {name.slot for name in found} <= {0, 1, 2}, "two workers, and one job at a time"
    assert nightly(place, "--shared") == 2, "without the variable it says so"


MODES = ["all", "sum", "min", "max", "mostrecent"]

GAUGES = f"""
from prometheus_client import Gauge
from web_prom import share_values
share_values()
for mode in {MODES!r}:
    Gauge("job_" + mode, "Of one mode.", multiprocess_mode=mode).set(5)
    if mode != "all":
        Gauge("job_live" + mode, "Of one mode.", multiprocess_mode="live" + mode).set(5)
"""


def test_live_gauges_of_an_ended_job_are_removed(place: Scratch) -> None:
    """As in the page's table, gauges of live modes are removed with their process."""
    directory = place.folder / "shared"
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    with Gunicorn(place, environ=environ) as server:
        # A process that starts between the two jobs would take the slot of the first one.
        wait_until(lambda: server.value("web_prom_workers") == 2, "both workers")
        command = [sys.executable, "-c", GAUGES]
        for _ in range(2):
            interpreters.run(command, env={**place.environ, **environ}, cwd=place.folder, check=True)
        found = {
            name: [sample.value for sample in family.samples]
            for name, family in server.scrape().items()
            if name.startswith("job_")
        }
        assert found == {f"job_{mode}": [5] for mode in MODES}


PUSH = """
import sys
from prometheus_client import REGISTRY, CollectorRegistry, Counter, push_to_gateway
from web_prom import collector_for, share_values

share_values()
Counter("exports", "Files exported.").inc(int(sys.argv[2]))
merged = CollectorRegistry()
merged.register(collector_for(sys.argv[3]))
push_to_gateway(sys.argv[1], "own", REGISTRY)
push_to_gateway(sys.argv[1], "merged", merged)
print("pushed", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def pushing(place: Scratch, gateway: Program, directory: Path, count: int) -> Iterator[None]:
    """Run a process that counts in the directory, pushes both registries, and stays alive."""
    process = interpreters.Popen(
        [sys.executable, "-c", PUSH, gateway.url, str(count), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**place.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
        cwd=place.folder,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"pushed\n"
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE_SECONDS)


def test_push_of_a_shared_directory_has_the_totals_of_all_processes(place: Scratch) -> None:
    """The default registry has the values of the process's slot; the collector has those of all slots."""
    directory = place.folder / "shared"
    directory.mkdir()
    with (
        Program(place, "prometheus-pushgateway") as gateway,
        pushing(place, gateway, directory, 2),
        pushing(place, gateway, directory, 3),
    ):
        assert gateway.samples("exports", "exports_total", "job") == {("own",): 3, ("merged",): 5}
