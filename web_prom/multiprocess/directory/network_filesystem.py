"""The refusal of network file systems, where locks and mapped files are not reliable."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.environment import DIR_VARIABLE

# From statfs(2) and the kernel's include/uapi/linux/magic.h; the last two from the vendors.
_NETWORK = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x00C36400: "CEPH",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x0BD00BD0: "LUSTRE",
    0x47504653: "GPFS",
}


def refuse_network_filesystem(path: Path) -> None:
    """Check that a directory is not on a network file system. Other systems than Linux are not checked.

    Raises:
        DirectoryError: The directory is on one; the message names the type and the remedy.
    """
    name = _NETWORK.get(_type_of(path)) if sys.platform == "linux" else None
    if name is not None:
        raise DirectoryError(
            f"{DIR_VARIABLE} is {str(path)!r}, which is on a network file system ({name}): name a "
            "directory on a local disk or in memory, for example in /dev/shm"
        )


def _type_of(path: Path) -> int:
    """Return the magic number of the file system; zero if it is unknown."""
    with contextlib.suppress(Exception):  # in a sandbox, or without ctypes: nothing is refused
        import ctypes

        # The first field of struct statfs is the type. It has the size of a long, or less.
        found = ctypes.create_string_buffer(1024)
        if ctypes.CDLL(None).statfs(os.fsencode(path), found) == 0:
            return ctypes.c_ulong.from_buffer(found).value & 0xFFFFFFFF
    return 0
