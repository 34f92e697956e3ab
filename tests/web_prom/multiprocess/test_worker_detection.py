"""Whether a process is one of several workers: asked in real processes that listen, or do not."""

from __future__ import annotations

import pytest

from tests.web_prom.support import python

# Starts children that all live while each tells what it sees, and prints that; the last is the parent's own.
PARENT = """
    import os
    import socket
    import sys

    from web_prom.multiprocess.worker_detection import has_sibling_workers

    def listen():
        if sys.argv[2] == "unix":
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(b"\\0" + os.urandom(8).hex().encode())
            listener.listen()
            return listener
        return socket.create_server(("127.0.0.1", 0))

    def tell():
        os.write(told[1], b"yes " if has_sibling_workers() else b"no  ")

    whose, _, children = sys.argv[1], sys.argv[2], int(sys.argv[3])
    go, told, end = os.pipe(), os.pipe(), os.pipe()
    listener = listen() if whose == "shared" else socket.socket()
    pids = []
    for _ in range(children):
        pid = os.fork()
        if not pid:
            if whose == "own":
                listener = listen()
            os.write(told[1], b"here")
            os.read(go[0], 1)
            tell()
            os.read(end[0], 1)
            os._exit(0)
        pids.append(pid)
    for _ in pids:
        os.read(told[0], 4)
    os.write(go[1], b"x" * children)
    said = [os.read(told[0], 4).decode() for _ in pids]
    tell()
    print(*said, os.read(told[0], 4).decode())
    os.write(end[1], b"x" * children)
    for pid in pids:
        os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("family", ["inet", "unix"])
def test_forks_that_share_a_listener_are_siblings(family: str) -> None:
    """Their parent, who listens too, is none."""
    assert python(PARENT, "shared", family, "3").split() == ["yes", "yes", "yes", "no"]


@pytest.mark.parametrize("whose", ["own", "nobody's"])
def test_forks_that_share_no_listener_are_not(whose: str) -> None:
    """Such as two servers that one script starts, or helpers that do not listen."""
    assert python(PARENT, whose, "inet", "2").split() == ["no", "no", "no"]


def test_an_only_child_has_none() -> None:
    """As under a server that reloads."""
    assert python(PARENT, "shared", "inet", "1").split() == ["no", "no"]
