"""web_prom.gunicorn: what a server removes at its end, and what the next one removes after a crash."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.servers.hooks import check_all_workers_are_counted
from tests.servers.load import held
from tests.servers.process import FLASK_APP, Gunicorn, Scratch, command, run, wait_until
from web_prom.multiprocess.directory.slots import slots_of

pytestmark = pytest.mark.packages


@pytest.mark.parametrize("option", ["--check-config", "--print-config"])
def test_configuration_check_leaves_no_directory(place: Scratch, option: str) -> None:
    """Gunicorn reads the configuration and starts no server."""
    done = run(place, command(option))
    assert done.returncode == 0, done.stderr
    assert place.shared_directories() == []


def test_failed_start_leaves_no_directory(place: Scratch) -> None:
    """The application is missing, or gunicorn fails between on_starting and the first worker."""
    missing = "no.such:app"
    for options, app in (([], missing), (["--preload"], missing), (["--certfile=none"], FLASK_APP)):
        assert run(place, command(*options, app=app)).returncode != 0
        assert place.shared_directories() == []


def test_daemon_removes_its_directory(place: Scratch) -> None:
    """The daemon is another process than the one that read the configuration."""
    pidfile, log = place.folder / "pid", place.folder / "daemon.txt"
    done = run(place, command("--daemon", f"--pid={pidfile}", f"--log-file={log}"))
    assert done.returncode == 0, done.stderr
    wait_until(lambda: log.exists() and "Booting worker" in log.read_text(), "the daemon")
    pid = int(pidfile.read_text())
    try:
        assert len(place.shared_directories()) == 1
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon to end")


def test_next_start_removes_the_directory_of_a_killed_server(place: Scratch) -> None:
    """No process of that server is left to remove it."""
    with Gunicorn(place, workers=1) as server:
        check_all_workers_are_counted(server)
        for pid in server.processes():
            server.signal(signal.SIGKILL, pid)
        server.wait()
    (left,) = place.shared_directories()
    with Gunicorn(place, workers=1) as server:
        (made,) = place.shared_directories()
        assert made != left
        assert server.value("http_requests_total") == 0


def test_worker_of_a_killed_master_keeps_the_directory(place: Scratch) -> None:
    """The worker still writes there. The first start after its end removes the directory."""
    with Gunicorn(place, workers=1) as server:
        with held(server):
            (left,) = place.shared_directories()
            server.signal(signal.SIGKILL)
            server.wait()
            assert len(server.processes()) == 1
            with Gunicorn(place, workers=1):
                assert left in place.shared_directories()
            assert place.shared_directories() == [left]
        for worker in server.processes():
            server.signal(signal.SIGKILL, worker)
    assert run(place, command("--check-config")).returncode == 0
    assert place.shared_directories() == []


def test_fault_27_second_server_shares_the_directory(place: Scratch) -> None:
    """It removes nothing at its start, adds its numbers, and removes only its live gauges at its end."""
    named = place.folder / "named"
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(named)}
    with Gunicorn(place, environ=environ) as first:
        assert [first.get("/")[0] for _ in range(10)] == [200] * 10
        wait_until(lambda: first.value("http_requests_total") == 10, "ten requests")
        with Gunicorn(place, workers=1, environ=environ) as second:
            assert second.value("http_requests_total") == 10
            assert [second.get("/")[0] for _ in range(5)] == [200] * 5
            wait_until(lambda: first.value("http_requests_total") == 15, "fifteen requests")
        assert first.value("http_requests_total") == 15
        workers = set(first.workers())
        living = {
            f"gauge_livesum_s{slot}.db" for slot, pid in slots_of(named).holders().items() if pid in workers
        }
        assert len(living) == 2
        wait_until(
            lambda: {path.name for path in named.glob("gauge_live*")} == living, "the first's gauges alone"
        )


def test_worker_killed_at_shutdown_leaves_no_request_in_progress(place: Scratch) -> None:
    """The worker outlives the graceful timeout, and its master ends right after it kills the worker."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(place.folder / "named")}
    with Gunicorn(place, workers=1, environ=environ) as stays:
        with Gunicorn(place, "--graceful-timeout=1", workers=1, environ=environ) as goes, held(goes):
            assert stays.value("http_requests_in_progress") == 1
            goes.signal(signal.SIGTERM)
            assert goes.wait() == 0
        assert stays.value("http_requests_in_progress") == 0


def test_start_removes_value_files_of_a_former_server_and_no_others(place: Scratch) -> None:
    """Other files in the directory belong to the user."""
    named = place.folder / "named"
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(named)}
    with Gunicorn(place, workers=1, environ=environ) as server:
        check_all_workers_are_counted(server)
    (named / "orders.sqlite").write_text("the user's")
    assert list(named.glob("counter_*.db"))
    with Gunicorn(place, workers=1, environ=environ) as server:
        assert server.value("http_requests_total") == 0
    assert (named / "orders.sqlite").read_text() == "the user's"
