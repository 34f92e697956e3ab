"""Example contents of a shared directory, and helpers to inspect one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from web_prom.multiprocess.directory.slots import LOCK_NAME

VALUES = [
    *("counter_7.db", "histogram_7.db", "summary_7.db", "gauge_all_7.db", "gauge_livesum_7.db"),
    *("counter_s0.db", "histogram_s12.db", "summary_s0.db", "gauge_mostrecent_s0.db", "gauge_liveall_s1.db"),
    *("counter_s0.db.damaged", "gauge_livesum_7.db.damaged"),
]


def fill(path: Path, *more: str) -> None:
    for name in (*VALUES, *more):
        (path / name).write_bytes(b"x")


def names(path: Path) -> set[str]:
    """Return the names in a directory, without the lock file of the slots."""
    return set(os.listdir(path)) - {LOCK_NAME}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
