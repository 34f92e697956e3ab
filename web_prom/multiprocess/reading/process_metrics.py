"""The process_* metrics of all live workers, read from /proc by process id."""

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

WORKER_LABEL = "worker"
"""The label with the number of the worker's slot. The worker that replaces it gets the same number."""

# Errors that do not go away: the process has ended or is another user's, or the system has no such file.
_PERMANENT_ERRORS = (FileNotFoundError, NotADirectoryError, PermissionError, ProcessLookupError)
# The number of families that ProcessCollector returns for a process, and those of each file in /proc.
_ALL_FAMILIES = 6
_STAT_FAMILIES = 4
_LIMIT_FAMILIES = 2


def process_families(workers: Mapping[int, int]) -> list[Metric]:
    """Return the families of prometheus_client's ProcessCollector, with the samples of all workers.

    Values that can never be read are left out: those of a process that has ended, the open files of another
    user's process, and all values on a system without ``/proc``. Any thread and any process may call it,
    including the exporter.

    Args:
        workers: Process ids by slot. 0 for an unknown process, for example in another pid namespace.

    Raises:
        UnreadableError: A file of ``/proc`` could not be read this time.
    """
    found: dict[str, Metric] = {}
    pid = 0
    # One collector for all workers, because every new collector reads the boot time.
    collector = ProcessCollector(pid=lambda: pid, registry=None)
    for slot, pid in sorted(workers.items()):
        label = {WORKER_LABEL: str(slot)}
        for family in _collect_worker(collector) if pid > 0 else ():
            merged = found.get(family.name)
            if merged is None:
                merged = Metric(family.name, family.documentation, family.type, family.unit)
                found[family.name] = merged
            merged.samples += [
                sample._replace(labels={**sample.labels, **label}) for sample in family.samples
            ]
    return list(found.values())


def _collect_worker(collector: ProcessCollector) -> list[Metric]:
    try:
        return collect_process(collector)
    except UnreadableError:
        raise
    except Exception:  # a line of /proc that prometheus_client cannot parse
        logger.debug("the process metrics of a worker cannot be read", exc_info=True)
        return []


def collect_process(collector: ProcessCollector) -> list[Metric]:
    """Return the families of a collector, without those that can never be read.

    prometheus_client leaves out every file that it cannot open, even if the only reason is that the answering
    process has no free descriptor at this moment.

    Raises:
        UnreadableError: A file of ``/proc`` could not be read this time.
        Exception: What the collector raises.
    """
    if type(collector) is not ProcessCollector or not has_process_details():
        return list(collector.collect())
    if not has_boot_time(collector) and not _is_forbidden(read_boot_time, collector):
        set_boot_time(collector, read_boot_time(collector))
    families = list(collector.collect())
    if len(families) < _ALL_FAMILIES and has_boot_time(collector):
        proc, process = process_directory(collector)
        if len(families) < _count_readable(process):
            raise UnreadableError(errno.EAGAIN, "a process could not be read this time", proc)
    return families


def _count_readable(process: str) -> int:
    """Return the number of families that can be read from the directory of a process."""
    count = 0 if _is_forbidden(_try_open, os.path.join(process, "stat")) else _STAT_FAMILIES
    limits, open_files = os.path.join(process, "limits"), os.path.join(process, "fd")
    if not (_is_forbidden(_try_open, limits) or _is_forbidden(os.listdir, open_files)):
        count += _LIMIT_FAMILIES
    return count


def _is_forbidden(read: Callable[..., object], *arguments: Any) -> bool:
    try:
        read(*arguments)
    except _PERMANENT_ERRORS:
        return True
    except OSError as error:
        raise UnreadableError(error.errno, error.strerror, error.filename) from error
    return False


def _try_open(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
