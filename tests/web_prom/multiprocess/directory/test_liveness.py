"""The state of processes that write files: alive, dead, or not known."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tests.web_prom.multiprocess.directory.dead_processes import DEAD, WRITER, dead, owners, start
from tests.web_prom.multiprocess.reading.value_files import Worker
from tests.web_prom.support import samples
from web_prom.multiprocess.directory.liveness import has_writer, is_presumed_dead, is_writer_dead
from web_prom.multiprocess.reading.collector import WorkersCollector


def test_fault_39_files_of_a_living_process_are_not_merged(
    tmp_path: Path, collector: WorkersCollector
) -> None:
    code = WRITER + "    print('ready', flush=True)\n    sys.stdin.read()\n"
    with start(tmp_path, code, 5) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = set(os.listdir(tmp_path))
        assert samples(collector, "gauge_livesum") == {(): 5}
        assert samples(collector, "jobs_total", "kind") == {("a",): 5}
        assert set(os.listdir(tmp_path)) == before
        process.kill()
        process.wait(60)
        assert samples(collector, "gauge_livesum") == {}
        assert samples(collector, "jobs_total", "kind") == {("a",): 5}
        process.communicate()
    assert owners(tmp_path) == {"dead1"}


def test_fault_39_zombie_process_is_dead(tmp_path: Path, collector: WorkersCollector) -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    try:
        worker = Worker(tmp_path, str(pid))
        worker.inc("jobs")
        worker.gauge("livesum", "busy", 1.0)
        worker.close()
        deadline = time.monotonic() + 30
        while samples(collector, "busy") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert samples(collector, "jobs_total") == {(): 1}
        assert owners(tmp_path) == {"dead1"}
    finally:
        os.waitpid(pid, 0)


def test_fault_39_file_that_any_process_has_open_is_not_merged(
    tmp_path: Path, collector: WorkersCollector
) -> None:
    """A process in another container has no valid process id here."""
    worker = dead(tmp_path)
    worker.inc("jobs")
    worker.gauge("livesum", "busy", 1.0)
    assert samples(collector, "busy") == {(): 1}
    assert owners(tmp_path) == {str(DEAD)}
    worker.inc("jobs")
    assert samples(collector, "jobs_total") == {(): 2}
    worker.close()
    assert samples(collector, "busy") == {}
    assert samples(collector, "jobs_total") == {(): 2}


def test_fault_39_files_of_another_pid_namespace_are_not_merged(
    tmp_path: Path, collector: WorkersCollector
) -> None:
    code = WRITER + "    import os; print(os.getpid(), flush=True)\n    sys.stdin.read()\n"
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0 or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a pid namespace of its own")
    command = [*unshare, sys.executable, "-B", "-c", textwrap.dedent(code), "5"]
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environ, **pipes) as process:
        assert process.stdout is not None
        pid = process.stdout.readline().strip()
        assert pid == "1"
        assert samples(collector, "gauge_livesum") == {(): 5}
        assert owners(tmp_path) == {pid}
        process.communicate()
    assert samples(collector, "jobs_total", "kind") == {("a",): 5}
    # This namespace has an older process with that id, which could be the writer.
    assert owners(tmp_path) == {pid}


@pytest.mark.parametrize(("age", "is_another"), [(0, False), (3600 * 24 * 365 * 40, True)])
def test_fault_39_process_id_that_was_used_again(tmp_path: Path, age: float, is_another: bool) -> None:
    """A process that started after the last change of the file is not its writer."""
    worker = Worker(tmp_path, str(os.getppid()))
    worker.inc("jobs")
    worker.close()
    path = tmp_path / f"counter_{os.getppid()}.db"
    now = time.time()
    os.utime(path, (now, now - age))
    assert is_writer_dead(path, os.getppid()) is is_another


def test_fault_39_unknown_state_keeps_counters_and_hides_live_gauges(
    tmp_path: Path, collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example in an exporter of another user. With holders in another pid namespace live gauges stay."""
    monkeypatch.setattr("web_prom.multiprocess.directory.liveness.has_writer", lambda path: None)
    worker = dead(tmp_path)
    worker.inc("jobs")
    worker.gauge("livesum", "busy", 1.0)
    worker.close()
    before = set(os.listdir(tmp_path))
    assert samples(collector, "busy") == {}
    assert samples(collector, "jobs_total") == {(): 1}
    assert set(os.listdir(tmp_path)) == before
    path = tmp_path / f"gauge_livesum_{DEAD}.db"
    assert is_presumed_dead(path, DEAD, same_namespace=True)
    assert not is_presumed_dead(path, DEAD, same_namespace=False)
    assert not is_presumed_dead(path, os.getppid(), same_namespace=True)


def test_has_writer_is_true_while_the_file_is_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        assert has_writer(path)
        file.write(b"x")
    assert has_writer(path) is False
    with pytest.raises(OSError, match="missing"):
        has_writer(tmp_path / "missing")
