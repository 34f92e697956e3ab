"""How the exporter's process gives memory back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import sys

# From <malloc.h>.
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1_048_576


def give_large_blocks_back() -> None:
    """Have the C library give each large block back when it is freed.

    The text of a scrape may have megabytes. glibc keeps such blocks after the first one is freed, for each
    thread apart: with 64 connections the process took three times the memory that it needed. Without glibc
    nothing changes. To be called in a process of our own, before it starts threads.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without mallopt
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
