"""The queues of some processes' own sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric

from tests.web_prom.runtime.test_sock_diag import listening, shown
from web_prom.runtime import backlog as backlog_module
from web_prom.runtime.backlog import Backlog
from web_prom.runtime.sock_diag import Listener

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows its queues")


def values(families: Iterable[Metric]) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("listener", "")): sample.value
        for family in families
        for sample in family.samples
    }


def test_backlog_shows_the_queues_of_this_process(tmp_path: Path) -> None:
    with (
        listening(socket.AF_INET, ("127.0.0.1", 0), 5, 2) as tcp,
        listening(socket.AF_UNIX, f"{tmp_path}/app.sock", 7, 1) as unix,
    ):
        address = "127.0.0.1:{1}".format(*tcp.getsockname())
        shown(tcp, 2)
        shown(unix, 1)
        found = values(Backlog().families([os.getpid()]))
    assert found["http_server_backlog", address] == 2
    assert found["http_server_backlog_limit", address] == 5
    assert found["http_server_backlog", f"unix:{tmp_path}/app.sock"] == 1
    assert found["http_server_backlog_limit", f"unix:{tmp_path}/app.sock"] == 7
    assert found["http_server_listen_overflows_total", ""] >= 0


def test_backlog_leaves_out_sockets_of_other_processes() -> None:
    with (
        listening(socket.AF_INET, ("127.0.0.1", 0), 5, 0) as server,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other,
    ):
        address = "127.0.0.1:{1}".format(*server.getsockname())
        assert ("http_server_backlog", address) in values(Backlog().families([os.getpid(), other.pid]))
        assert values(Backlog().families([other.pid])) == {}
        other.communicate(b"\n")


def test_backlog_sees_a_socket_that_comes_later() -> None:
    backlog = Backlog()
    backlog.families([os.getpid()])
    with listening(socket.AF_INET, ("127.0.0.1", 0), 5, 0) as server:
        address = "127.0.0.1:{1}".format(*server.getsockname())
        assert ("http_server_backlog", address) in values(backlog.families([os.getpid()]))
    found = values(backlog.families([os.getpid()]))
    assert ("http_server_backlog", address) not in found
    # A counter that is missing for a moment would look like a reset.
    assert ("http_server_listen_overflows_total", "") in found
    assert list(values(backlog.families([]))) == [("http_server_listen_overflows_total", "")]


def test_backlog_reads_descriptors_only_when_something_came_or_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "listeners", lambda: [Listener(1, "127.0.0.1:1", 0, 1)])
    listed: list[str] = []
    listdir = os.listdir

    def counted(path: str) -> list[str]:
        listed.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    backlog = Backlog()
    for _ in range(3):
        backlog.families([os.getpid()])
    assert len(listed) == 1
    backlog.families([os.getpid(), os.getppid()])
    assert len(listed) == 3


@pytest.mark.parametrize("pids", [[], [0], [0, 2**22 + 1], [-1]], ids=str)
def test_backlog_has_no_family_without_processes_that_can_be_seen(pids: list[int]) -> None:
    with listening(socket.AF_INET, ("127.0.0.1", 0), 5, 0):
        assert Backlog().families(pids) == []


def test_backlog_counts_refused_connections_of_a_server_without_workers() -> None:
    found = values(Backlog().families([], server=os.getpid()))
    assert list(found) == [("http_server_listen_overflows_total", "")]


def test_backlog_adds_up_sockets_that_share_an_address() -> None:
    with socket.socket() as first, socket.socket() as second, socket.socket() as client:
        for server in (first, second):
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind(("127.0.0.1", 0))
        second.bind(first.getsockname())
        first.listen(3)
        second.listen(4)
        client.connect(first.getsockname())
        address = "127.0.0.1:{1}".format(*first.getsockname())
        found = values(Backlog().families([os.getpid()]))
    assert found["http_server_backlog", address] == 1
    assert found["http_server_backlog_limit", address] == 7


def test_backlog_has_no_limit_where_the_kernel_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(socket.AF_INET, ("127.0.0.1", 0), 5, 0) as server:
        inode = os.fstat(server.fileno()).st_ino
        monkeypatch.setattr(backlog_module, "listeners", lambda: [Listener(inode, "127.0.0.1:1", 3, None)])
        monkeypatch.setattr(backlog_module, "listen_overflows", lambda: None)
        found = values(Backlog().families([os.getpid()]))
    assert found == {("http_server_backlog", "127.0.0.1:1"): 3}
