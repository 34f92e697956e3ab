"""The exporter process: its memory while clients do not read their answers."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import interpreters
from tests.web_prom.http_server.serving import PATIENCE_SECONDS, ask
from tests.web_prom.support import ROOT, python

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000


WRITES = """
    from web_prom.multiprocess.writing.activation import share_values

    share_values()
    from prometheus_client import Counter

    counter = Counter("http_requests_seen_total", "Help.", ["route", "status", "tenant"])
    for number in range(30_000):
        route = f"/api/v1/things/{number % 1000}{'/parts' * 24}"
        counter.labels(route, "200", f"tenant-{number // 1000}").inc(number)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_fault_71_memory_with_64_clients_that_do_not_read_seven_megabytes(tmp_path: Path) -> None:
    """They take less than 60 MB of the exporter's memory, and another client gets its answers meanwhile."""
    python(WRITES, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    with exporter(tmp_path) as (pid, port), contextlib.ExitStack() as stack:
        assert len(ask(port)[2]) > 6.9 * MEGABYTE
        one_answer = peak_memory(pid)
        for number in range(64):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(PATIENCE_SECONDS)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            if number % 5 == 0:
                client.recv(1)  # so that they do not share one answer
            if number % 16 == 0:
                status, _, body = ask(port)
                assert (status, body[-1:]) == (200, b"\n")
        assert peak_memory(pid) - one_answer < 60 * MEGABYTE


@contextlib.contextmanager
def exporter(directory: Path) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "web_prom", "serve", "--dir", str(directory), "--bind", "127.0.0.1:0"]
    with interpreters.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stderr is not None
            found = re.search(r":(\d+)/", process.stderr.readline())
            assert found
            yield process.pid, int(found[1])
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def peak_memory(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
