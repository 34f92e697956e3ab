"""Whether the process lives that writes a file which prometheus_client has named by process id."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from functools import cache
from pathlib import Path

from web_prom.posix import fcntl

# Linux, F_SETSIG: which signal tells that somebody wants to open the file meanwhile.
_F_SETSIG = 10

# A writer makes its file after its own start. The clocks of the two may differ by this much.
_SLACK_SECONDS = 2.0


def is_written(path: Path) -> bool | None:
    """Tell whether any process has a file open for writing, or has it mapped; None where nobody can say.

    The kernel grants a read lease on a file only if no process has it open for writing, in whichever
    container or pid namespace. The lease is given back at once. Linux; this user's own files, or any for
    root.

    Raises:
        OSError: It cannot be opened, or has gone.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if sys.platform != "linux":
            return None
        # A writer that comes in between waits for microseconds, and the signal for it must not end this
        # process.
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(descriptor)


def is_dead(path: Path, pid: int) -> bool | None:
    """Tell whether the process that wrote a file is dead; None where nobody can say.

    It is dead if no process has the file open for writing, and there is no process of this id in this pid
    namespace, or only one that was started after the file was last changed: the id was given to another
    process.
    """
    try:
        if _may_be_writer(path, pid):
            return False
        written = is_written(path)
    except OSError:
        return None
    return None if written is None else not written


def seems_dead(path: Path, pid: int, *, alone: bool) -> bool:
    """Tell whether live gauges of a process should not be shown, for who may not ask the kernel for a lease.

    Args:
        path: The file.
        pid: The process id in its name.
        alone: Whether all processes that can be seen to share the directory are in this pid namespace.
    """
    dead = is_dead(path, pid)
    return alone and _start_of(pid) is None if dead is None else dead


def _may_be_writer(path: Path, pid: int) -> bool:
    start = _start_of(pid)
    return start is not None and start <= path.stat().st_mtime + _SLACK_SECONDS


def _start_of(pid: int) -> float | None:
    """Return when a process was started, in seconds of the epoch; 0 if unknown, None if it is dead."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:  # another user's
        pass
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] in "ZX":  # it has ended, and its parent has not asked for it yet
            return None
        return _booted() + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return 0.0


@cache
def _booted() -> int:
    with open("/proc/stat") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("btime "))
