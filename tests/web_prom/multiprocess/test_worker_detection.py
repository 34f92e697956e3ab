"""Worker detection in real processes that listen, or do not listen."""

from __future__ import annotations

import pytest

from tests.web_prom.support import python

# Starts children that are alive until all have reported. Prints the results; the last is the parent's.
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

    def report():
        os.write(results[1], b"yes " if has_sibling_workers() else b"no  ")

    whose, _, children = sys.argv[1], sys.argv[2], int(sys.argv[3])
    go, results, end = os.pipe(), os.pipe(), os.pipe()
    listener = listen() if whose == "shared" else socket.socket()
    pids = []
    for _ in range(children):
        pid = os.fork()
        if not pid:
            if whose == "own":
                listener = listen()
            os.write(results[1], b"here")
            os.read(go[0], 1)
            report()
            os.read(end[0], 1)
            os._exit(0)
        pids.append(pid)
    for _ in pids:
        os.read(results[0], 4)
    os.write(go[1], b"x" * children)
    answers = [os.read(results[0], 4).decode() for _ in pids]
    report()
    print(*answers, os.read(results[0], 4).decode())
    os.write(end[1], b"x" * children)
    for pid in pids:
        os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("family", ["inet", "unix"])
def test_forks_that_share_a_listening_socket_are_siblings(family: str) -> None:
    """Their parent, which listens too, is not a sibling."""
    assert python(PARENT, "shared", family, "3").split() == ["yes", "yes", "yes", "no"]


@pytest.mark.parametrize("whose", ["own", "nobody's"])
def test_forks_without_a_shared_listening_socket_are_not_siblings(whose: str) -> None:
    """For example two servers that one script starts, or helper processes that do not listen."""
    assert python(PARENT, whose, "inet", "2").split() == ["no", "no", "no"]


def test_only_child_has_no_siblings() -> None:
    """For example under a server that reloads."""
    assert python(PARENT, "shared", "inet", "1").split() == ["no", "no"]
