"""Context managers around scrapes, for example the application context of a framework."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod, ref

from prometheus_client import CollectorRegistry

ContextFactory = Callable[[], AbstractContextManager[Any]]

CountFailure = Callable[[str, str], None]
"""Counts the current exception. The arguments are its stage, and the consequence for the log."""

STAGE = "scrape context"
"""The stage under which the errors of context managers are counted."""

_process_factories: list[ContextFactory] = []
# In the order of registration. The references are weak, so that applications can be deleted.
_registry_factories: WeakKeyDictionary[CollectorRegistry, list[ref[ContextFactory]]] = WeakKeyDictionary()


def scrape_context(factory: ContextFactory, registry: CollectorRegistry | None = None) -> None:
    """Register a context manager that is entered around scrapes.

    It is entered in each thread that answers a scrape, around the whole answer: access control, callbacks
    of gauges, encoding and compression. It is also entered in the thread of each custom collector, around
    each call. This applies to every exposition of this process: the application's ``/metrics``,
    ``make_wsgi_app``, ``make_asgi_app`` and ``start_http_server``. An error of the context manager is
    counted and logged, and the scrape continues.

    Call the function once per application, before the first scrape. It is safe to call from any thread. A
    forked child process inherits the registrations. A second call with the same factory has no effect.

    Args:
        factory: Returns a new context manager. It is called in the thread that enters the context manager.
        registry: Only scrapes of this registry enter the context manager. Only a weak reference to the
            factory is kept. If there are several such factories, only the first one that still exists is
            used, because the context of one would hide the context of another. None: every scrape of the
            process enters it.
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
    """The context managers of one exposition. Safe to share between threads and to use after a fork.

    Args:
        registry: The registry that is scraped.
        own: Returns the context manager of the application that answers. It replaces that of the registry.
        count_failure: Counts an error.
    """

    def __init__(self, registry: Any, own: ContextFactory | None, count_failure: CountFailure) -> None:
        self._registry = registry if isinstance(registry, CollectorRegistry) else None
        self._own = own
        self._count_failure = count_failure

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Enter all context managers, and exit them in reverse order. Raises only exceptions of the body."""
        entered = []
        for factory in self._factories():
            try:
                manager = factory()
                manager.__enter__()
            except Exception:
                self._count_failure(STAGE, "the scrape goes on")
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
                        self._count_failure(STAGE, "the scrape goes on")
            finally:
                del error  # its traceback refers to this frame

    def _factories(self) -> list[ContextFactory]:
        if self._own is not None:
            return [*_process_factories, self._own]
        if self._registry is not None:
            for reference in _registry_factories.get(self._registry, ()):
                factory = reference()
                if factory is not None:
                    return [*_process_factories, factory]
        return list(_process_factories)
