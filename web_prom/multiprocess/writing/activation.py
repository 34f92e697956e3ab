"""The switch to values that all workers share, and the take-over of instruments made before it."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import time
from pathlib import Path
from threading import RLock
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import Counter, Gauge, Histogram, Summary

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
from web_prom.multiprocess.file_entries import read_entries
from web_prom.multiprocess.file_format import FileName
from web_prom.multiprocess.worker_detection import is_replacement_worker
from web_prom.multiprocess.writing import metric_removal
from web_prom.multiprocess.writing.fork_locks import free_locks_in_forks
from web_prom.multiprocess.writing.process_files import process_storage
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.posix import require_posix
from web_prom.upstream.checks import installed
from web_prom.upstream.children import children_of
from web_prom.upstream.registry import collectors_of
from web_prom.upstream.value_class import (
    arguments_of,
    can_replace_value_class,
    in_memory_class,
    is_multiprocess,
    is_own_multiprocess,
    number_beside_file,
    redirect,
    set_value_class,
    value_class,
)
from web_prom.upstream.values import has_new_values, has_values, make_new_values, values_of

logger = logging.getLogger("web_prom")

# One for each process: a thread of the parent that held the parent's is not in a fork, to let it go.
_locks: dict[int, RLock] = {}
# Directories that were found usable; a fork need not ask again.
_usable: set[str] = set()


def is_shared() -> bool:
    """Tell whether new instruments write to the shared directory."""
    return is_multiprocess(value_class())


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
        present = value_class()
        former: Any = _FirstValue.former if present is _FirstValue else present
        if not path:
            unset_directory()  # for child processes too, which would write to their working directory
            return is_own_multiprocess(former) and _stay_local(former, registries)
        require_posix(f"{DIR_VARIABLE} is {path!r}")
        os.environ[DIR_VARIABLE] = path = os.path.abspath(path)  # the working directory may change later
        if making and path not in _usable:
            _ensure_writable(path)
            _usable.add(path)
            process_storage().retry()
        if is_shared() and not is_own_multiprocess(former):  # ours already, or somebody's who knows why
            return False
        if not can_replace_value_class(SharedValue):
            _log_failure()
            return False
        set_value_class(SharedValue)
        metric_removal.install()
        if is_upstreams := is_own_multiprocess(former):
            redirect(former, lambda value: SharedValue(*arguments_of(value)))
        are_shared = _carry_over_all(registries)
        if is_upstreams:
            _absorb(Path(path))  # and values that were not carried over are redirected
        elif not are_shared:
            logger.error(
                "%s: web-prom cannot share metrics that were made before the switch to shared values. Set %s "
                "before the process starts, or install a version of prometheus_client that this version of "
                "web-prom supports.",
                installed(),
                DIR_VARIABLE,
            )
        return True


@functools.cache
def _log_failure() -> None:
    logger.error(
        "%s: web-prom cannot replace the value class, and values are not in the slots of the directory. "
        "Scrapes lack values of other workers, or each process leaves files of its own in the directory. "
        "Install a version of prometheus_client that this version of web-prom supports.",
        installed(),
    )


def defer() -> None:
    """Have the first value that is made call :func:`share_values`, where prometheus_client would make it."""
    former = value_class()
    if is_own_multiprocess(former):
        _FirstValue.former = former
        set_value_class(_FirstValue)


class _FirstValue:
    """Stands for the value class until a value is made."""

    former: Any = None
    _multiprocess = True

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        share_values(making=False)
        if value_class() is cls:  # the variable is no longer there, or the switch is not possible
            set_value_class(cls.former if configured_directory() else in_memory_class())
        return value_class()(*arguments, **options)


def _ensure_writable(path: str) -> None:
    try:
        ensure_writable(path)
        if not is_server_managed():  # the server has done it, once for all workers
            warn_of_other_users(Path(path))
            check_filesystem(Path(path))
    except DirectoryError as error:
        # The site must go on when a worker is replaced, whatever has happened to the directory meanwhile.
        if not (is_server_managed() or was_used(path) or is_replacement_worker()):
            raise
        logger.error("%s; the site goes on, and values that cannot be written wait in memory", error)


def _stay_local(former: Any, registries: tuple[CollectorRegistry, ...]) -> bool:
    kind = in_memory_class()
    set_value_class(kind)
    _carry_over_all(registries, always=True)

    def local(value: Any) -> Any:
        made = kind(*arguments_of(value)[:6])
        made.set(number_beside_file(value, read))
        return made

    read = former.get
    redirect(former, local)
    for path in Path().glob(f"*_{os.getpid()}.db"):
        if FileName.parse(path.name) is not None:
            with contextlib.suppress(OSError):
                path.unlink()
    return True


def _carry_over_all(registries: tuple[CollectorRegistry, ...], *, always: bool = False) -> bool:
    """Give the instruments of some registries, and of the default one, values of the present class.

    Returns:
        Whether that is possible.
    """
    possible = has_values() and has_new_values()
    for registry in {REGISTRY, *registries} if possible else ():
        for collector in collectors_of(registry):
            _carry_over(collector, always=always)
    return possible


def _carry_over(collector: Any, *, always: bool) -> None:
    """Give every child of an instrument a cell of the present class that begins with the value it had.

    What is in a file is absorbed with the file, unless it is to be carried over ``always``.
    """
    if not isinstance(collector, Counter | Gauge | Histogram | Summary):
        return
    for child in children_of(collector):
        before = values_of(child) or ()
        make_new_values(child)
        for old, new in zip(before, values_of(child) or (), strict=True):
            value = old.get() if always or not is_own_multiprocess(type(old)) else 0.0
            if value:
                # The time is what the mode mostrecent goes by.
                _write(new, value, time.time(), replacing=isinstance(collector, Gauge))


def _write(cell: Any, value: float, timestamp: float, *, replacing: bool) -> None:
    if replacing:
        cell.set(value, timestamp)
    else:
        cell.inc(value)


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
            entries = read_entries(path)
            path.unlink()
        except (OSError, ValueError) as error:
            logger.warning("%s stays as it is: %s", path, error)  # and is read as any worker's file
            continue
        for key, (value, timestamp) in entries.items():
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
