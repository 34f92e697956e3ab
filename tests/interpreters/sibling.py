"""A fork that is a sibling of the process that makes it: a child of its parent.

Linux can do this (``CLONE_PARENT``, clone(2)). Python and the C library have no function for it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys

_CLONE_PARENT = 0x8000

# The number of the system call, by machine. Both take the flags first, and 0 for all other arguments.
_CLONE = {"x86_64": 56, "aarch64": 220}


def is_supported() -> bool:
    """Return whether :func:`fork_sibling` works on this system."""
    return sys.platform == "linux" and platform.machine() in _CLONE


def fork_sibling() -> int:
    """Fork as ``os.fork`` does. Return 0 in the fork, and its process id in this process.

    The C library takes no part. So it must be called by the only thread of a process, and in the fork
    ``pthread_kill`` does not reach the main thread.

    Raises:
        OSError: The system has no more processes or memory.
    """
    library = ctypes.PyDLL(None, use_errno=True)  # it keeps the interpreter's lock
    library.syscall.restype = ctypes.c_long
    arguments = (_CLONE[platform.machine()], _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = library.syscall(*map(ctypes.c_long, arguments))
    if not pid:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid
