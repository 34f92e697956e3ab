"""Locks of prometheus_client, released in a forked child, which lacks the thread that held them."""

from __future__ import annotations

import _thread
import functools
from weakref import WeakSet

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.posix import at_fork
from web_prom.upstream.registry import locks_of

_registries: WeakSet[CollectorRegistry] = WeakSet()
_had_threads = True


def free_locks_in_forks(*registries: CollectorRegistry) -> None:
    """Release the locks of registries and all their metrics in each forked child; of the default one, too.

    Without it, a child that is forked while another thread is in ``labels()``, ``inc()``, ``register()`` or a
    scrape would wait for ever when it uses the same lock. It costs nothing in a process without threads. If
    a server forks without Python's hooks (uWSGI does so by default), no lock is released.

    Safe to call from any thread, any number of times.
    """
    _registries.update((REGISTRY, *registries))
    _register()


@functools.cache
def _register() -> None:
    at_fork(before=_look, after_in_child=_free)


def _look() -> None:
    global _had_threads  # noqa: PLW0603 - one process forks once at a time, under the interpreter's lock
    _had_threads = _thread._count() > 0


def _free() -> None:
    for registry in list(_registries) if _had_threads else ():
        free(registry)


def free(registry: CollectorRegistry) -> None:
    """Release the locks of a registry, its metrics, their children and the values of those."""
    for lock in locks_of(registry):
        lock._at_fork_reinit()
