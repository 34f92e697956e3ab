"""The process_* families of every live worker, read from /proc by process id."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric

from web_prom.errors import UnreadableError
from web_prom.upstream.registry import (
    has_boot_time,
    has_process_details,
    process_directory,
    read_boot_time,
    set_boot_time,
)

logger = logging.getLogger("web_prom")

LABEL = "worker"
"""The label that tells the workers apart: the number of the slot, which a successor takes over."""


# Of a process that has ended, or of another user, and of a system without the file.
_LASTING = (FileNotFoundError, NotADirectoryError, PermissionError, ProcessLookupError)
_FAMILIES = 6


def process_families(workers: Mapping[int, int]) -> list[Metric]:
    """Return what prometheus_client tells of its own process, for each of several.

    What can never be read is left out: a process that has ended meanwhile, the open files of another user's
    process, everything where there is no ``/proc``. Safe to call from any thread and any process, the
    exporter's too.

    Args:
        workers: Process ids by slot; 0 where the process is not known, as in another pid namespace.

    Raises:
        UnreadableError: A file of ``/proc`` could not be read this time.
    """
    found: dict[str, Metric] = {}
    pid = 0
    # One for all: each new one reads when the machine was started.
    collector = ProcessCollector(pid=lambda: pid, registry=None)
    for slot, pid in sorted(workers.items()):
        for family in _of_worker(collector) if pid > 0 else ():
            merged = found.get(family.name)
            if merged is None:
                merged = Metric(family.name, family.documentation, family.type, family.unit)
                found[family.name] = merged
            merged.samples += [
                sample._replace(labels={**sample.labels, LABEL: str(slot)}) for sample in family.samples
            ]
    return list(found.values())


def _of_worker(collector: ProcessCollector) -> list[Metric]:
    try:
        return collected(collector)
    except UnreadableError:
        raise
    except Exception:  # a line of /proc that upstream does not expect
        logger.debug("a worker's process cannot be read", exc_info=True)
        return []


def collected(collector: ProcessCollector) -> list[Metric]:
    """Return the families of a collector, without those that can never be read.

    prometheus_client leaves out whatever it cannot open, also where the process that asks only has no
    descriptor left at this moment.

    Raises:
        UnreadableError: A file of ``/proc`` could not be read this time.
        Exception: What the collector raises.
    """
    if type(collector) is not ProcessCollector or not has_process_details():
        return list(collector.collect())
    if not has_boot_time(collector) and not _is_forbidden(read_boot_time, collector):
        set_boot_time(collector, read_boot_time(collector))
    families = list(collector.collect())
    if len(families) < _FAMILIES and has_boot_time(collector):
        proc, process = process_directory(collector)
        if len(families) < _readable(process):
            raise UnreadableError(errno.EAGAIN, "a process could not be read this time", proc)
    return families


def _readable(process: str) -> int:
    """Return how many families the directory of a process should give, without those never to be read."""
    of_stat = 0 if _is_forbidden(_open, os.path.join(process, "stat")) else 4
    limits, open_files = os.path.join(process, "limits"), os.path.join(process, "fd")
    return of_stat + (0 if _is_forbidden(_open, limits) or _is_forbidden(os.listdir, open_files) else 2)


def _is_forbidden(read: Callable[..., object], *arguments: Any) -> bool:
    try:
        read(*arguments)
    except _LASTING:
        return True
    except OSError as error:
        raise UnreadableError(error.errno, error.strerror, error.filename) from error
    return False


def _open(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
