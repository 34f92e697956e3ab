"""gunicorn as a real process."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests import interpreters

ROOT = Path(__file__).parents[2]
WSGI_APP = "tests.servers.apps.wsgi_app:app"
FLASK_APP = "tests.servers.apps.flask_app:app"
DJANGO_APP = "tests.servers.apps.django_app:application"
HOOKS = "python:web_prom.gunicorn"

# How long a real process may take on a busy machine.
PATIENCE_SECONDS = 60.0

ACCESS_FORMAT = "%({x-request-id}i)s %(m)s %(s)s %({raw_uri}e)s"

Value = TypeVar("Value")


def wait_until(
    condition: Callable[[], Value | None],
    what: str,
    *,
    shown: Callable[[], str] = str,
) -> Value:
    """Return the condition's value as soon as it is true; fail when it does not come true.

    Args:
        condition: What is tried, many times a second.
        what: What it stands for, for the message.
        shown: What else the message shows, such as a log.
    """
    begun = time.monotonic()
    deadline = begun + PATIENCE_SECONDS
    while True:
        value = condition()
        if value:
            return value
        waited = f"waited {PATIENCE_SECONDS:.0f} s in vain for {what}"
        now = time.monotonic()
        assert now < deadline, f"{waited}\n{shown()}"
        # Most conditions ask a server, which needs the processor to become ready.
        time.sleep(min(0.03 + (now - begun) / 10, 0.2))


def command(*arguments: str, config: str | Path | None = HOOKS, app: str = WSGI_APP) -> list[str]:
    """Return the command line of a gunicorn on a port that is free."""
    # Not `python -m gunicorn`: an upgrade executes sys.argv, with gunicorn's own folder first on sys.path.
    script = str(Path(sysconfig.get_path("scripts"), "gunicorn"))
    configured = [] if config is None else ["--config", str(config)]
    return [sys.executable, script, *configured, "--bind", "127.0.0.1:0", *arguments, app]


class Process(NamedTuple):
    """A process that is alive: its id, and that of its parent."""

    pid: int
    parent: int


def living_processes(session: int) -> Iterator[Process]:
    """Yield the processes of a session that are alive. Tests call this many times a second."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getsid(int(name)) != session:
                    continue
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split(None, 2)
            except OSError:
                continue
            if fields[0] not in b"ZX":
                yield Process(int(name), int(fields[1]))


class Scratch:
    """The directories of one server: its temporary directory, its home and its logs, readable by any user.

    Attributes:
        folder: The place itself.
        temporary: The server's TMPDIR, where private shared directories are made.
        environ: Its environment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.temporary.chmod(0o1777)
        (folder / "file").write_bytes(bytes(range(256)) * 8192)
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(folder),
            "TMPDIR": str(self.temporary),
            "BIG_FILE": str(folder / "file"),
        }

    def configuration(self, text: str) -> Path:
        """Write a configuration file for gunicorn."""
        path = self.folder / f"config{len(list(self.folder.glob('config*.py')))}.py"
        path.write_text(textwrap.dedent(text))
        return path

    def shared_directories(self) -> list[Path]:
        """Return the private directories that are there."""
        return sorted(self.temporary.iterdir())


@contextlib.contextmanager
def scratch() -> Iterator[Scratch]:
    """Make the directories of servers; fail if a server leaves a shared directory behind."""
    # Not below pytest's tmp_path, which other users cannot enter.
    with tempfile.TemporaryDirectory(prefix="web-prom-tests-") as folder:
        Path(folder).chmod(0o755)
        place = Scratch(Path(folder))
        yield place
        assert place.shared_directories() == []


class Gunicorn:
    """A running gunicorn, as a context manager: ready at the start of the block, ended after it.

    Args:
        place: Where its files are.
        arguments: More of its command line.
        config: Its configuration file; None for none.
        app: The application. By default it uses no framework, because it then starts in half the time.
        workers: How many.
        worker_class: Of which kind.
        environ: Added to its environment.

    Attributes:
        pid: The (first) master's.
        port: Where it listens.
        access_log: The file with one line for each request, see ACCESS_FORMAT.
    """

    def __init__(
        self,
        place: Scratch,
        *arguments: str,
        config: str | Path | None = HOOKS,
        app: str = WSGI_APP,
        workers: int = 2,
        worker_class: str = "sync",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._place = place
        self._workers = workers
        self._name = f"server{len(list(place.folder.glob('*.log')))}"
        self._log = place.folder / f"{self._name}.log"
        self.access_log = place.folder / f"{self._name}.access"
        options = [
            f"--workers={workers}",
            f"--worker-class={worker_class}",
            f"--access-logfile={self.access_log}",
            f"--access-logformat={ACCESS_FORMAT}",
            # A worker ignores a signal to end that comes before it has set its signal handlers.
            "--graceful-timeout=5",
            *arguments,
        ]
        if worker_class == "gthread":
            options.append("--threads=4")
        self._command = command(*options, config=config, app=app)
        self._environ = {**place.environ, **(environ or {})}

    def __enter__(self) -> Gunicorn:
        with self._log.open("wb") as log:
            self._process = interpreters.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environ,
                cwd=self._place.folder,
                start_new_session=True,
            )
        self.pid = self._process.pid
        try:
            wait_until(lambda: "Listening at: " in self.log() or self._died(), "a server", shown=self.log)
            told = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", self.log())
            assert told, self.log()
            self.port = int(told[1])
            self.wait_for_boots(self._workers)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for pid in self.masters():
                self.signal(signal.SIGTERM, pid)
            begun = time.monotonic()

            def ended() -> bool:
                if time.monotonic() - begun > 1:
                    # A worker ignores its master's signal if it has not set its signal handlers by then.
                    for pid in self.workers():
                        self.signal(signal.SIGTERM, pid)
                return not self.processes()

            wait_until(ended, "all processes to end", shown=self.log)
        finally:
            self._kill()

    def log(self) -> str:
        """Return what the server wrote to stdout and stderr so far."""
        return self._log.read_text("utf-8", "replace")

    def signal(self, number: int, pid: int | None = None) -> None:
        """Send a signal to a process of the server, its master if none is named."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid if pid is None else pid, number)

    def wait_for_boots(self, count: int) -> None:
        """Wait until so many workers were started in all."""
        wait_until(
            lambda: self.log().count("Booting worker") >= count or self._died(),
            f"{count} workers",
            shown=self.log,
        )
        assert not self._died(), self.log()

    def wait(self) -> int:
        """Wait until the first master ended; return its exit code."""
        return self._process.wait(PATIENCE_SECONDS)

    def processes(self) -> dict[int, int]:
        """Return the processes of the server that are alive, each with its parent."""
        self._process.poll()
        return {each.pid: each.parent for each in living_processes(self.pid)}

    def masters(self) -> list[int]:
        """Return the processes that have children, or whose parent does not belong to the server."""
        found = self.processes()
        return [pid for pid in found if pid in found.values() or found[pid] not in found]

    def workers(self) -> list[int]:
        """Return those among the processes that are not masters."""
        return sorted(set(self.processes()) - set(self.masters()))

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a connection of its own; return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers={"X-Request-Id": "-", **named})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def scrape(self) -> dict[str, Metric]:
        """Return the families of one scrape by name."""
        for attempts_left in reversed(range(5)):
            try:
                status, _, body = self.get("/metrics")
                break
            except (OSError, http.client.HTTPException):
                # A worker that ends may close an accepted connection without a response.
                if not attempts_left:
                    raise
        assert status == 200, self.log()
        return {family.name: family for family in text_string_to_metric_families(body.decode())}

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        return sum(
            sample.value
            for family in self.scrape().values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def _died(self) -> bool:
        return self._process.poll() is not None

    def _kill(self) -> None:
        for pid in self.processes():
            self.signal(signal.SIGKILL, pid)
        self._process.wait(PATIENCE_SECONDS)


def run(place: Scratch, arguments: Sequence[str], **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a gunicorn that is expected to end by itself."""
    return interpreters.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={**place.environ, **environ},
        cwd=place.folder,
    )
