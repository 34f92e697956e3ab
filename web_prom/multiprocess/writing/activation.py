"""The switch to values that all workers share, and the take-over of instruments made before it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import struct
import time
from pathlib import Path
from threading import RLock
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, values
from prometheus_client.metrics import Counter, Gauge, Histogram, MetricWrapperBase, Summary
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.values import MutexValue

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.checks import ensure_writable, warn_of_other_users, was_used
from web_prom.multiprocess.directory.environment import (
    DIR_VARIABLE,
    configured_directory,
    is_set_but_empty,
    unset_directory,
)
from web_prom.multiprocess.directory.liveness import has_writer
from web_prom.multiprocess.directory.self_test import check_filesystem
from web_prom.multiprocess.directory.server_directory import is_server_managed
from web_prom.multiprocess.file_format import FileName
from web_prom.multiprocess.worker_detection import is_replacement
from web_prom.multiprocess.writing import clearing
from web_prom.multiprocess.writing.fork_locks import free_locks_in_forks
from web_prom.multiprocess.writing.process_files import current
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.posix import require_posix

logger = logging.getLogger("web_prom")

# One for each process: a thread of the parent that held the parent's is not in a fork, to let it go.
_locks: dict[int, RLock] = {}
# Directories that were found usable; a fork need not ask again.
_usable: set[str] = set()


def is_shared() -> bool:
    """Tell whether new instruments write to the shared directory."""
    return bool(getattr(values.ValueClass, "_multiprocess", False))


def share_values(*registries: CollectorRegistry, making: bool = True) -> bool:
    """Write to the shared directory if the environment names one, from now on and for what exists.

    prometheus_client reads the variable once, when it is imported: set later, it has no effect; set
    before, it gives each process files of its own for ever. This reads it when first asked, and carries the
    instruments of ``registries`` and of the default one over with their values: local numbers are added
    to what is in the slot, gauges set; what prometheus_client wrote to files of this process is absorbed,
    whichever registry it belongs to.

    Both spellings of the variable count. A relative path is made absolute. If the variable is there and
    empty, it counts as absent: values stay in this process, and the files that prometheus_client has made in
    the working directory are removed.

    Safe to call from any thread, any number of times; call it before workers are forked or in each.

    Args:
        *registries: Whose instruments are carried over, with those of the default registry.
        making: Make the directory if it is missing, and raise an error if it cannot be used. Without it,
            as for a command that is no server, values wait in memory until somebody has made the directory.

    Returns:
        Whether the switch happened in this call, so that anything bound to the old values is bound anew.

    Raises:
        DirectoryError: The directory cannot be made or written, or cannot hold shared values. Never in a
            worker of a server with :mod:`web_prom.gunicorn`, nor in one that replaces another, nor where a
            process has used the directory before: then the error is logged, and values wait in memory until
            the directory can be written.
    """
    free_locks_in_forks(*registries)
    path = configured_directory()
    if not path and not is_set_but_empty():
        return False
    with _locks.setdefault(os.getpid(), RLock()):
        former: Any = _FirstValue.former if values.ValueClass is _FirstValue else values.ValueClass
        if not path:
            unset_directory()  # for child processes too, which would write to their working directory
            return _is_upstreams(former) and _stay_local(former, registries)
        require_posix(f"{DIR_VARIABLE} is {path!r}")
        os.environ[DIR_VARIABLE] = path = os.path.abspath(path)  # the working directory may change later
        if making and path not in _usable:
            _ensure_writable(path)
            _usable.add(path)
            current().try_again()
        if is_shared() and not _is_upstreams(former):  # ours already, or somebody's who knows why
            return False
        values.ValueClass = SharedValue
        clearing.install()
        if is_upstreams := _is_upstreams(former):
            _redirect(former, SharedValue)
        for registry in {REGISTRY, *registries}:
            for collector in list(registry._collector_to_names):
                _carry_over(collector)
        if is_upstreams:
            _absorb(Path(path))
        return True


def defer() -> None:
    """Have the first value that is made call :func:`share_values`, where prometheus_client would make it."""
    if _is_upstreams(values.ValueClass):
        _FirstValue.former = values.ValueClass
        values.ValueClass = _FirstValue


class _FirstValue:
    """Stands for the value class until a value is made."""

    former: Any = None
    _multiprocess = True

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        share_values(making=False)
        if values.ValueClass is cls:  # the variable is no longer there
            values.ValueClass = MutexValue
        return values.ValueClass(*arguments, **options)


def _ensure_writable(path: str) -> None:
    try:
        ensure_writable(path)
        if not is_server_managed():  # the server has done it, once for all workers
            warn_of_other_users(Path(path))
            check_filesystem(Path(path))
    except DirectoryError as error:
        # The site must go on when a worker is replaced, whatever has happened to the directory meanwhile.
        if not (is_server_managed() or was_used(path) or is_replacement()):
            raise
        logger.error("%s; the site goes on, and values that cannot be written wait in memory", error)


def _stay_local(former: Any, registries: tuple[CollectorRegistry, ...]) -> bool:
    values.ValueClass = MutexValue
    for registry in {REGISTRY, *registries}:
        for collector in list(registry._collector_to_names):
            _carry_over(collector, always=True)
    _redirect(former, MutexValue)
    for path in Path().glob(f"*_{os.getpid()}.db"):
        if FileName.parse(path.name) is not None:
            with contextlib.suppress(OSError):
                path.unlink()
    return True


def _is_upstreams(kind: type[Any]) -> bool:
    return kind.__qualname__ == "MultiProcessValue.<locals>.MmapedValue"


def _carry_over(collector: Any, *, always: bool = False) -> None:
    """Give every child of an instrument a cell of the present class that begins with the value it had.

    What is in a file is absorbed with the file, unless it is to be carried over ``always``.
    """
    if not isinstance(collector, Counter | Gauge | Histogram | Summary):
        return
    children = getattr(collector, "_metrics", None)
    for child in [collector] if children is None else list(children.values()):
        before = _cells(child)
        child._metric_init()
        for old, new in zip(before, _cells(child), strict=True):
            value = old.get() if always or not getattr(old, "_multiprocess", False) else 0.0
            if value:
                # The time is what the mode mostrecent goes by.
                _write(new, value, time.time(), replacing=isinstance(collector, Gauge))


def _cells(child: MetricWrapperBase) -> list[Any]:
    if isinstance(child, Histogram):
        return [child._sum, *child._buckets]
    if isinstance(child, Summary):
        return [child._count, child._sum]
    return [child._value]  # type: ignore[attr-defined]


def _write(cell: Any, value: float, timestamp: float, *, replacing: bool) -> None:
    if replacing:
        cell.set(value, timestamp)
    else:
        cell.inc(value)


def _redirect(former: Any, kind: type[Any]) -> None:
    """Have prometheus_client's values write to values of another class: not all are in a known registry."""

    def successor(value: Any) -> Any:
        found = vars(value).get("_successor")
        return found or vars(value).setdefault("_successor", made(value))

    def made(value: Any) -> Any:
        if kind is SharedValue:
            return SharedValue(*value._params)
        local = kind(*value._params[:6])
        local.set(value._value)
        return local

    former.inc = lambda value, amount: successor(value).inc(amount)
    former.set = lambda value, amount, timestamp=None: successor(value).set(amount, timestamp)
    former.get = lambda value: successor(value).get()


def _absorb(directory: Path) -> None:
    """Take what prometheus_client wrote for this process into the slot, and its files away.

    A kill in between loses what this process counted before; it never counts anything twice.
    """
    for path in sorted(directory.glob(f"*_{os.getpid()}.db")):
        name = FileName.parse(path.name)
        if name is None:
            continue
        try:
            if has_writer(path) is False:  # left by a dead process that had the same process id
                continue
            entries = list(MmapedDict.read_all_values_from_file(path))  # type: ignore[no-untyped-call]
            path.unlink()
        except (OSError, ValueError, RuntimeError, struct.error) as error:
            logger.warning("%s stays as it is: %s", path, error)  # and is read as any worker's file
            continue
        for key, value, timestamp, _ in entries:
            metric_name, sample_name, labels, help_text = json.loads(key)
            cell = SharedValue(
                name.metric_type,
                metric_name,
                sample_name,
                [*labels],
                [*labels.values()],
                help_text,
                name.mode,
            )
            # A gauge that was never set does not replace what the slot's last holder left.
            if value or timestamp:
                _write(cell, value, timestamp, replacing=name.metric_type == "gauge")
