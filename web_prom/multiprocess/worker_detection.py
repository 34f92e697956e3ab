"""Detects from ``/proc`` whether this process is one of several workers of a server."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator

# A server starts its first workers within this time after its own start.
_FIRST_WORKERS_SECONDS = 10.0


def has_sibling_workers() -> bool:
    """Return whether another child of this process's parent listens at a socket of this process.

    The workers of one server share a listening socket, however they were started and whatever their names
    are. Works on Linux. The result is false on other systems, if each worker has its own socket
    (``SO_REUSEPORT``), and if this process may not inspect the others. Safe to call from any thread, and
    after a fork.
    """
    own = set(_listening_sockets())
    if not own:
        return False
    pid = os.getpid()
    return any(not own.isdisjoint(_open_files(child)) for child in _children(os.getppid()) if child != pid)


def is_replacement_worker() -> bool:
    """Return whether a server that was already running started this process, to replace a worker.

    Then the parent listens at a socket of this process, and is some seconds older. Works on Linux. The
    result is false on other systems, and if this process may not inspect its parent. Safe to call from any
    thread, and after a fork.
    """
    parent = os.getppid()
    if set(_listening_sockets()).isdisjoint(_open_files(parent)):
        return False
    with contextlib.suppress(OSError, ValueError, IndexError):
        return _start_seconds(os.getpid()) - _start_seconds(parent) > _FIRST_WORKERS_SECONDS
    return False


def _start_seconds(pid: int) -> float:
    """Return when a process was started, in seconds since the machine was started.

    Raises:
        OSError: The process or ``/proc`` does not exist.
    """
    if sys.platform == "win32":
        raise FileNotFoundError("/proc")
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def _listening_sockets() -> Iterator[str]:
    """Yield the names of the sockets at which this process listens."""
    for descriptor, name in _descriptors("self"):
        if name.startswith("socket:"):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as duplicate:
                if duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    yield name


def _open_files(pid: int) -> list[str]:
    return [name for _, name in _descriptors(pid)]


def _descriptors(pid: int | str) -> Iterator[tuple[int, str]]:
    """Yield the descriptors of a process with the names of their files. Each socket has a unique name."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(folder):
            with contextlib.suppress(OSError):  # closed in the meantime
                yield int(descriptor), os.readlink(f"{folder}/{descriptor}")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as children:
                found += map(int, children.read().split())
    return found
