"""Whether this process is a worker of a server, as far as the system shows it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator

# A server starts its first workers sooner after its own start.
_START_SECONDS = 10.0


def has_siblings() -> bool:
    """Tell whether another child of this process's parent listens at a socket of this process.

    Workers of one server share what they listen at, however they were started and whatever they call
    themselves. Linux only; anywhere else, and where a socket is each worker's own (``SO_REUSEPORT``) or
    another process may not be looked at, the answer is no. Safe to call from any thread, and after a fork.
    """
    mine = set(_listeners())
    if not mine:
        return False
    own = os.getpid()
    return any(not mine.isdisjoint(_files(pid)) for pid in _children(os.getppid()) if pid != own)


def is_replacement() -> bool:
    """Tell whether this process was started by a server that was running already: it replaces a worker.

    The parent listens at a socket of this process, and is some seconds older. Linux only; anywhere else,
    and where the parent may not be looked at, the answer is no. Safe to call from any thread, and after a
    fork.
    """
    parent = os.getppid()
    if set(_listeners()).isdisjoint(_files(parent)):
        return False
    with contextlib.suppress(OSError, ValueError, IndexError):
        return _started(os.getpid()) - _started(parent) > _START_SECONDS
    return False


def _started(pid: int) -> float:
    """Return when a process was started, in seconds after the machine was.

    Raises:
        OSError: There is no such process, or no ``/proc``.
    """
    if sys.platform == "win32":
        raise FileNotFoundError("/proc")
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def _listeners() -> Iterator[str]:
    for descriptor, file in _descriptors("self"):
        if file.startswith("socket:"):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as opened:
                if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    yield file


def _files(pid: int) -> list[str]:
    return [file for _, file in _descriptors(pid)]


def _descriptors(pid: int | str) -> Iterator[tuple[int, str]]:
    """Give the open files of a process by their names, which for a socket tell one from all others."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(folder):
            with contextlib.suppress(OSError):  # closed meanwhile
                yield int(descriptor), os.readlink(f"{folder}/{descriptor}")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as children:
                found += map(int, children.read().split())
    return found
