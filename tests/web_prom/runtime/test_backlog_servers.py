"""Which listening sockets of workers are the server's: servers of real processes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web_prom.runtime.test_sock_diag import listening
from web_prom.runtime.backlog import Backlog

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows its queues")

COMMON = """
import os, socket
from multiprocessing.connection import Listener

def listen(port=0):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(4)
    return listener

def report(number):
    os.write(1, b"%d\\n" % number)

def listen_privately():
    return listen(), Listener(family="AF_UNIX")

def wait():
    report(os.getpid())
    os.read(0, 1)  # the end of the input
    os._exit(0)
"""

# Each reports the port of the server, then the process ids of two workers, in any order.
FORKING = """
listener = listen()
report(listener.getsockname()[1])
for _ in range(2):
    if not os.fork():
        kept = listen_privately()
        wait()
"""
# Like gunicorn's --dirty-app: the second worker has the private sockets of a child of the server.
WITH_A_HELPER = """
listener = listen()
report(listener.getsockname()[1])
if not os.fork():
    wait()
if not os.fork():
    kept = listen_privately()
    if not os.fork():
        listener.close()
        wait()
"""
REUSING = """
reserved = listen()
port = reserved.getsockname()[1]
report(port)
for _ in range(2):
    if not os.fork():
        reserved.close()
        kept = listen(port), listen_privately()
        wait()
reserved.close()
"""


@contextlib.contextmanager
def serving(script: str) -> Iterator[tuple[int, str, list[int]]]:
    """Start a server, and yield its process id, its address, and those of its workers."""
    command = [sys.executable, "-c", f"{COMMON}{script}os.read(0, 1)\n"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port, *workers = (int(process.stdout.readline()) for _ in range(3))
        try:
            yield process.pid, f"127.0.0.1:{port}", workers
        finally:
            process.stdin.close()


def limits(pids: list[int], server: int | None = None) -> dict[str, float]:
    """Return the limit of each listener that is shown."""
    return {
        sample.labels["listener"]: sample.value
        for family in Backlog().families(pids, server=server)
        for sample in family.samples
        if sample.name == "http_server_backlog_limit"
    }


@pytest.mark.parametrize("script", [FORKING, WITH_A_HELPER], ids=["workers", "helper"])
def test_backlog_leaves_out_sockets_that_the_server_does_not_have(script: str) -> None:
    """An application, a debugger or a helper process may listen at sockets of its own."""
    with serving(script) as (server, address, workers):
        assert limits(workers, server) == {address: 4}


def test_backlog_takes_the_parent_for_a_server_that_is_not_known() -> None:
    with serving(FORKING) as (_, address, workers):
        assert limits(workers) == {address: 4}
        assert limits(workers[:1]) == {address: 4}


def test_backlog_takes_a_socket_of_several_workers_if_the_server_shows_none() -> None:
    """The server may belong to another user."""
    with serving(FORKING) as (_, address, workers):
        assert limits(workers, 2**22 + 1) == {address: 4}


def test_backlog_takes_an_address_with_several_sockets_of_one_server() -> None:
    with serving(REUSING) as (server, address, workers):
        assert limits(workers) == {address: 8}
        assert limits(workers, server) == {address: 8}


def test_backlog_of_several_servers_that_share_a_directory() -> None:
    """Each has its own parent."""
    with serving(FORKING) as (_, first, some), serving(REUSING) as (_, second, others):
        assert limits([*some, *others]) == {first: 4, second: 8}


def test_backlog_of_servers_of_one_process_has_all_sockets() -> None:
    """Nothing tells which socket is the server's."""
    with (
        listening(socket.AF_INET, ("127.0.0.1", 0), 5, 0) as one,
        listening(socket.AF_INET, ("127.0.0.1", 0), 6, 0) as other,
    ):
        found = limits([os.getpid()])
        addresses = ["127.0.0.1:{1}".format(*each.getsockname()) for each in (one, other)]
    assert [found[address] for address in addresses] == [5, 6]


def test_backlog_shows_a_limited_number_of_listeners(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(100):
            stack.enter_context(listening(socket.AF_UNIX, f"{tmp_path}/{number}", 5, 0))
        assert len(limits([os.getpid()])) == 64
