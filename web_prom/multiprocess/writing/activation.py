"""The switch of this process to shared values."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.checks import ensure_writable, warn_of_other_users, was_used
from web_prom.multiprocess.directory.environment import (
    DIR_VARIABLE,
    configured_directory,
    is_set_but_empty,
    unset_directory,
)
from web_prom.multiprocess.directory.self_test import check_filesystem
from web_prom.multiprocess.directory.server_directory import is_server_managed
from web_prom.multiprocess.worker_detection import is_replacement_worker
from web_prom.multiprocess.writing import metric_removal
from web_prom.multiprocess.writing.carry_over import carry_over, import_files, move_to_memory
from web_prom.multiprocess.writing.current_storage import process_storage
from web_prom.multiprocess.writing.fork_locks import free_locks_in_forks
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.posix import require_posix
from web_prom.upstream.checks import installed
from web_prom.upstream.value_class import (
    arguments_of,
    can_replace_value_class,
    in_memory_class,
    is_multiprocess,
    is_own_multiprocess,
    redirect,
    set_value_class,
    value_class,
)

logger = logging.getLogger("web_prom")

# One lock for each process: in a fork, the thread that may hold the lock of its parent does not exist.
_locks: dict[int, RLock] = {}
switch_callbacks: list[Callable[[], object]] = []
"""Called after each switch to another value class, because references to values have to be renewed.

They must not raise.
"""

# Directories that were checked. A fork does not check them again.
_checked: set[str] = set()


def is_shared() -> bool:
    """Return whether new metrics write to the shared directory, in files of slots or of process ids.

    :func:`web_prom.multiprocess.writing.slot_limiter.is_in_slots` is true for files of slots only.
    """
    return is_multiprocess(value_class())


def share_values(*registries: CollectorRegistry, making: bool = True) -> bool:
    """Have existing and new metrics write to the shared directory, if the environment names one.

    prometheus_client reads the variable once, when it is imported. If the variable is set later, it has no
    effect there. If it is set before, each process writes files under its process id. This function reads the
    variable when it is called, and carries over the metrics of ``registries`` and of the default registry
    with their values. Numbers in memory are added to the values in the slot; gauges are set. Values that
    prometheus_client has written to files of this process are moved to the slot, whatever their registry.

    Both spellings of the variable are valid. A relative path is made absolute. A variable that is set but
    empty counts as absent: values stay in this process, and the files that prometheus_client has created in
    the working directory are removed.

    Safe to call from any thread, any number of times. Call it before workers are forked, or in each worker.

    Args:
        *registries: The registries whose metrics are carried over, in addition to the default registry.
        making: Create the directory if it is missing, and raise an error if it cannot be used. If false, for
            example for a command that is no server, values wait in memory until the directory exists.

    Returns:
        Whether this call made the switch. Then references to the former values have to be renewed.

    Raises:
        DirectoryError: The directory cannot be created or written, or cannot hold shared values. It is not
            raised in a worker of a server with :mod:`web_prom.gunicorn`, in a worker
            that replaces another one,
            and if another process has used the directory before. Then the error is logged, and values wait
            in memory until the directory can be written.
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
            return is_own_multiprocess(former) and _use_memory(former, registries)
        require_posix(f"{DIR_VARIABLE} is {path!r}")
        os.environ[DIR_VARIABLE] = path = os.path.abspath(path)  # the working directory may change later
        if making and path not in _checked:
            _ensure_writable(path)
            _checked.add(path)
            process_storage().retry()
        if is_shared() and not is_own_multiprocess(former):  # SharedValue already, or a class of the user
            return False
        if not can_replace_value_class(SharedValue):
            _log_failure()
            return False
        set_value_class(SharedValue)
        metric_removal.install()
        if is_upstreams := is_own_multiprocess(former):
            redirect(former, lambda value: SharedValue(*arguments_of(value)))
        is_carried_over = carry_over({REGISTRY, *registries}, with_files=False)
        if is_upstreams:
            import_files(Path(path))  # values that were not carried over are redirected
        elif not is_carried_over:
            logger.error(
                "%s: web-prom cannot share metrics that were made before the switch to shared values. Set %s "
                "before the process starts, or install a version of prometheus_client that this version of "
                "web-prom supports.",
                installed(),
                DIR_VARIABLE,
            )
        _call_back()
        return True


@functools.cache
def _log_failure() -> None:
    logger.error(
        "%s: web-prom cannot replace the value class, and values are not in the slots of the directory. "
        "Scrapes lack values of other workers, or each process leaves files of its own in the directory. "
        "Install a version of prometheus_client that this version of web-prom supports.",
        installed(),
    )


def defer_activation() -> None:
    """Have the first new value call :func:`share_values`, if it would be in prometheus_client's own files."""
    former = value_class()
    if is_own_multiprocess(former):
        _FirstValue.former = former
        set_value_class(_FirstValue)


class _FirstValue:
    """The value class until the first value is made."""

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
        if not is_server_managed():  # the server has checked the directory for all workers
            warn_of_other_users(Path(path))
            check_filesystem(Path(path))
    except DirectoryError as error:
        # A worker that replaces another one must start, whatever has happened to the directory meanwhile.
        if not (is_server_managed() or was_used(path) or is_replacement_worker()):
            raise
        logger.error("%s; the site goes on, and values that cannot be written wait in memory", error)


def _use_memory(former: Any, registries: tuple[CollectorRegistry, ...]) -> bool:
    kind = in_memory_class()
    set_value_class(kind)
    carry_over({REGISTRY, *registries}, with_files=True)
    move_to_memory(former, kind)
    _call_back()
    return True


def _call_back() -> None:
    for callback in switch_callbacks:
        callback()
