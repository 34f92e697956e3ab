"""Is the process alive that writes a file which prometheus_client named by process id?"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from functools import cache
from pathlib import Path

from web_prom.posix import fcntl

# F_SETSIG of Linux: sets the signal that the kernel sends if a process opens a file with a lease.
_F_SETSIG = 10

# A writer creates its file after its own start. The clocks of files and processes may differ by this much.
_CLOCK_TOLERANCE_SECONDS = 2.0


def has_writer(path: Path) -> bool | None:
    """Return whether any process has a file open for writing, or has it mapped; None if that is not known.

    The kernel grants a read lease on a file only if no process has the file open for writing, in any
    container or pid namespace. The lease is given back at once. Works on Linux, for files of this user, and
    for all files as root.

    Raises:
        OSError: The file cannot be opened, or no longer exists.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if sys.platform != "linux":
            return None
        # A writer that opens the file meanwhile waits for microseconds. The default signal would end this
        # process.
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(descriptor)


def is_writer_dead(path: Path, pid: int) -> bool | None:
    """Return whether the process that wrote a file is dead; None if that is not known.

    It is dead if no process has the file open for writing, and this pid namespace has no process with this
    id, or only one that started after the last change of the file: then the id was used again.
    """
    try:
        if _may_be_writer(path, pid):
            return False
        written = has_writer(path)
    except OSError:
        return None
    return None if written is None else not written


def is_presumed_dead(path: Path, pid: int, *, same_namespace: bool) -> bool:
    """Return whether to leave out the live gauges of a process, also if its state is not known for certain.

    Args:
        path: The file.
        pid: The process id in its name.
        same_namespace: Whether all known processes that share the directory are in this pid namespace.
    """
    dead = is_writer_dead(path, pid)
    return same_namespace and _start_time(pid) is None if dead is None else dead


def _may_be_writer(path: Path, pid: int) -> bool:
    start = _start_time(pid)
    return start is not None and start <= path.stat().st_mtime + _CLOCK_TOLERANCE_SECONDS


def _start_time(pid: int) -> float | None:
    """Return when a process was started, in seconds of the epoch; 0 if unknown, None if it is dead."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:  # another user's process
        pass
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] in "ZX":  # it has exited, and its parent has not waited for it yet
            return None
        return _boot_time() + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return 0.0


@cache
def _boot_time() -> int:
    with open("/proc/stat") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("btime "))
