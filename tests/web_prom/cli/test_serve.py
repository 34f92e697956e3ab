"""``python -m web_prom serve`` as a separate process, on the same machine and in another container."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests import interpreters
from tests.certificates import make, trusting
from tests.programs import needs_program
from tests.web_prom.http_server.serving import PATIENCE_SECONDS, ask
from tests.web_prom.support import ROOT, python

pytestmark = pytest.mark.slow

WRITES = """
    from prometheus_client import Counter

    Counter("orders_total", "Orders.").inc(2)
"""


def environ_with(more: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("PROM")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **more}


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself."""
    return interpreters.run(
        [sys.executable, "-m", "web_prom", *arguments],
        env=environ_with(environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Process:
    """A running exporter."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self.address = ""
        self.port = 0

    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the log matches."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := re.search(pattern, self.log())):
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self._process.send_signal(number)
        return self._process.wait(PATIENCE_SECONDS)


@contextlib.contextmanager
def serving(
    tmp_path: Path, *arguments: str, wrapped: Sequence[str] = (), **environ: str
) -> Iterator[Process]:
    """Start an exporter and wait until it listens."""
    log = tmp_path / f"log{len(list(tmp_path.glob('log*')))}"
    with log.open("wb") as stream:
        started = interpreters.Popen(
            [*wrapped, sys.executable, "-m", "web_prom", "serve", *arguments],
            env=environ_with(environ),
            stderr=stream,
            start_new_session=True,
        )
    process = Process(started, log)
    try:
        found = process.wait_for(r"Metrics at: (https?://\S*?:(\d+)/\S*)")
        process.address, process.port = found[1], int(found[2])
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait(PATIENCE_SECONDS)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory to which a process has written."""
    made = tmp_path / "shared"
    made.mkdir()
    python(WRITES, PROMETHEUS_MULTIPROC_DIR=str(made))
    return made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_runs_until_a_signal(directory: Path, tmp_path: Path, number: int) -> None:
    with serving(tmp_path, "--dir", str(directory), "--bind", "127.0.0.1:0") as process:
        assert process.address == f"http://127.0.0.1:{process.port}/metrics"
        assert b"\norders_total 2.0\n" in ask(process.port)[2]
        assert process.end(number) == 0
        assert process.log().count("\n") == 1


def test_serve_reads_all_settings_from_the_environment(directory: Path, tmp_path: Path) -> None:
    """Containers are configured by their environment."""
    environ = {"PROM_BIND": "127.0.0.1:0", "PROM_BEARER_TOKEN": "x", "PROM_PATH": "/numbers"}
    with serving(tmp_path, PROMETHEUS_MULTIPROC_DIR=str(directory), **environ) as process:
        assert ask(process.port, "/numbers")[0] == 401
        assert b"orders_total 2.0" in ask(process.port, "/numbers", Authorization="Bearer x")[2]


def test_options_override_the_environment(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("y\n")
    options = [
        "--dir",
        str(directory),
        "--bind=127.0.0.1:0",
        "--path=/there",
        f"--bearer-token-file={tmp_path}/token",
    ]
    environ = {"PROM_BIND": "nonsense", "PROM_PATH": "/here", "PROMETHEUS_MULTIPROC_DIR": "/nowhere"}
    with serving(tmp_path, *options, **environ) as process:
        assert ask(process.port, "/there", Authorization="Bearer y")[0] == 200


def test_serve_uses_tls_and_client_certificates(directory: Path, tmp_path: Path) -> None:
    server, client = make(tmp_path, "server"), make(tmp_path, "client")
    options = [
        f"--dir={directory}",
        "--bind=127.0.0.1:0",
        f"--certfile={server[0]}",
        f"--keyfile={server[1]}",
    ]
    with serving(tmp_path, *options, f"--client-cafile={client[0]}") as process:
        assert process.address.startswith("https://")
        assert ask(process.port, tls=trusting(server[0], client))[0] == 200
        with pytest.raises(OSError, match=r"SSL|reset|pipe|EOF"):
            ask(process.port, tls=trusting(server[0]))


def test_port_without_access_control_is_logged(directory: Path, tmp_path: Path) -> None:
    """The access control of the application does not apply to this port."""
    with serving(tmp_path, f"--dir={directory}", "--bind=:0") as process:
        process.wait_for("WARNING.*open to every client that can reach")
    with serving(tmp_path, f"--dir={directory}", "--bind=:0", "--allowed-networks=10.0.0.0/8") as process:
        assert ask(process.port)[0] == 403
        assert "WARNING" not in process.log()


def test_callable_of_the_user_cannot_write_to_the_directory(directory: Path, tmp_path: Path) -> None:
    """The module of the callable creates instruments, as modules of applications do."""
    (tmp_path / "users_own.py").write_text(
        "from prometheus_client import Counter\n"
        "SEEN = Counter('seen_total', 'Scrapes seen.')\n"
        "def may_scrape(environ):\n"
        "    SEEN.inc()\n"
        "    return environ['REMOTE_ADDR'] == '127.0.0.1'\n"
    )
    before = sorted(directory.iterdir())
    options = ["--bind=127.0.0.1:0", "--allow-scrape=users_own.may_scrape"]
    path = f"{ROOT}:{tmp_path}"
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(directory), "PYTHONPATH": path}
    with serving(tmp_path, *options, **environ) as process:
        answer = ask(process.port)
        assert (answer[0], b"seen_total" in answer[2]) == (200, False)
    assert sorted(directory.iterdir()) == before


def _usable(command: Sequence[str]) -> bool:
    return subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0


def test_fault_27_sidecar_reads_a_read_only_volume_of_another_container(
    directory: Path, tmp_path: Path
) -> None:
    """The sidecar does not use process ids, does not write, and takes no locks."""
    container = [
        needs_program("unshare", package="util-linux"),
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount",
    ]
    container += ["--kill-child"]
    mounted = f'mount --bind {directory} {directory} && mount -o remount,bind,ro {directory} && exec "$@"'
    wrapped = [*container, "sh", "-c", mounted, "sh"]
    if not _usable(wrapped):
        wrapped = []  # without permission for namespaces, use a normal process
    options = [f"--dir={directory}", "--bind=127.0.0.1:0"]
    with serving(tmp_path, *options, wrapped=wrapped) as process:
        assert b"\norders_total 2.0\n" in ask(process.port)[2]
        python(WRITES, PROMETHEUS_MULTIPROC_DIR=str(directory))
        assert b"\norders_total 4.0\n" in ask(process.port)[2]
        # A restarted server finds the directory unused and empties it while the sidecar runs.
        python(
            f"""
            from web_prom.multiprocess.directory.shared_directory import SharedDirectory

            SharedDirectory({str(directory)!r}).release()
            """
        )
        assert [path.name for path in directory.iterdir()] == ["slots.lock"]
        assert b"orders_total" not in ask(process.port)[2]


# What cannot be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "required: COMMAND"),
        (["serve"], 2, "--dir DIR, or PROMETHEUS_MULTIPROC_DIR"),
        (["serve", "--dir=", "--bind=:0"], 2, "--dir DIR, or PROMETHEUS_MULTIPROC_DIR"),
        (["serve", "--dir=x"], 2, "--bind HOST:PORT, or PROM_BIND"),
        (["serve", "--dir=x", "--bind=9464"], 2, "'bind' is '9464'; allowed: host:port"),
        (["serve", "--dir=x", "--bind=:0", "--allowed-networks=x"], 2, "allowed: networks, for example"),
        (["serve", "--dir=x", "--bind=:0", "--bearer-token-file=/no/such"], 2, "No such file"),
        (
            ["serve", "--dir=x", "--bind=:0", "--certfile=/no/such"],
            2,
            "PROM_CERTFILE /no/such cannot be used",
        ),
        (["serve", "--dir=x", "--bind=:0", "--keyfile=x"], 2, "PROM_CERTFILE"),
        (["serve", "--dir=x", "--bind=:0", "--allow-scrape=no.such"], 2, "can be imported"),
        (["serve", "--dir=x", "--bearer-token=x"], 2, "unrecognized arguments"),
        (["serve", "--dir=x", "--bind=192.0.2.1:9464"], 1, "cannot listen at 192.0.2.1:9464"),
    ],
)
def test_invalid_options_are_named_in_the_error(arguments: list[str], code: int, told: str) -> None:
    """The error is one line, and the exit code depends on its kind."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_empty_option_is_not_replaced_by_the_environment(tmp_path: Path) -> None:
    """For example, ``--dir "$SHARED"`` where SHARED is not set."""
    done = run("serve", "--dir=", "--bind=:0", PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "name the directory that the workers share" in done.stderr


def test_used_port_is_named_in_the_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = run("serve", "--dir=x", f"--bind={address}")
    assert done.returncode == 1
    assert f"cannot listen at {address} (Address already in use)" in done.stderr


def test_help_lists_every_option() -> None:
    done = run("serve", "--help")
    assert done.returncode == 0
    for option in ("--dir", "--bind", "--certfile", "--client-cafile", "--bearer-token-file", "--path"):
        assert option in done.stdout
    assert "--parent" not in done.stdout
