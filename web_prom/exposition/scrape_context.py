"""Context managers around scrapes: what a framework sets up and cleans up for each of its requests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod, ref

from prometheus_client import CollectorRegistry

ContextFactory = Callable[[], AbstractContextManager[Any]]

CountFailure = Callable[[str, str], None]
"""Counts the exception that is being handled under a stage, and logs the stage and the consequence."""

STAGE = "scrape context"
"""The stage under which a context manager's errors are counted."""

_process_factories: list[ContextFactory] = []
# Weak: an application ends when its user drops it. In order of registration.
_registry_factories: WeakKeyDictionary[CollectorRegistry, list[ref[ContextFactory]]] = WeakKeyDictionary()


def scrape_context(factory: ContextFactory, registry: CollectorRegistry | None = None) -> None:
    """Have scrapes answered inside of a context manager.

    It is entered in each thread that answers a scrape, around the whole answer: access check, callbacks
    of gauges, text and compression. It is entered once more in each custom collector's own thread, around
    each run. That holds for every exposition of this process: the application's ``/metrics``,
    ``make_wsgi_app``, ``make_asgi_app``, ``start_http_server``. An error of the context manager is counted
    and logged, and the scrape goes on.

    Call it once per application, before the first scrape. Safe to call from any thread; a forked child
    keeps what its parent registered. A second call with the same factory does nothing.

    Args:
        factory: Returns a new context manager. It is called in the thread that enters the result.
        registry: Only scrapes of this registry enter it. The factory is then referred to weakly. Of several
            such factories only the first that is alive is entered, because one of them would hide the other.
            None: every scrape of the process enters it.
    """
    if registry is None:
        if factory not in _process_factories:
            _process_factories.append(factory)
        return
    references = _registry_factories.setdefault(registry, [])
    references[:] = [each for each in references if each() is not None]
    if not any(each() == factory for each in references):
        references.append(WeakMethod(factory) if hasattr(factory, "__self__") else ref(factory))


class ScrapeContext:
    """What surrounds the scrapes of one exposition. Safe to share between threads and to use after a fork.

    Args:
        registry: What is scraped.
        own: The context manager of the application that answers, in place of the registry's.
        failed: Counts an error.
    """

    def __init__(self, registry: Any, own: ContextFactory | None, failed: CountFailure) -> None:
        self._registry = registry if isinstance(registry, CollectorRegistry) else None
        self._own = own
        self._failed = failed

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Enter all context managers, and leave them in reverse order. Raises only what its body raises."""
        entered = []
        for factory in self._factories():
            try:
                manager = factory()
                manager.__enter__()
            except Exception:
                self._failed(STAGE, "the scrape goes on")
            else:
                entered.append(manager)
        error: tuple[Any, Any, Any] = (None, None, None)
        try:
            yield
        except BaseException:
            error = sys.exc_info()
            raise
        finally:
            try:
                for manager in reversed(entered):
                    try:
                        manager.__exit__(*error)
                    except Exception:
                        self._failed(STAGE, "the scrape goes on")
            finally:
                del error  # it refers to this frame

    def _factories(self) -> list[ContextFactory]:
        if self._own is not None:
            return [*_process_factories, self._own]
        if self._registry is not None:
            for reference in _registry_factories.get(self._registry, ()):
                factory = reference()
                if factory is not None:
                    return [*_process_factories, factory]
        return list(_process_factories)
