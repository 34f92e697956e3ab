"""Error handling for collectors: if one fails or is late, only its own families are missing from a scrape."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from web_prom.errors import UnreadableError
from web_prom.exposition.collector_threads import CollectorExecutor
from web_prom.exposition.collectors import families_of, is_custom
from web_prom.exposition.scrape_context import ContextFactory, ScrapeContext
from web_prom.metrics.families import error_counter
from web_prom.upstream.children import family_of

logger = logging.getLogger("web_prom")


class CollectorErrorHandler:
    """Runs collectors, and counts and logs those that fail or are late. Safe to share between threads.

    Args:
        registry: The registry in which failures are counted. If it is not a registry, they are only logged.
        timeout: The seconds that custom collectors may take; 0 for no limit.
        context: Returns the context manager of the application that answers.

    Attributes:
        context: The context managers around each answer. They are also entered in the threads of custom
            collectors.
    """

    def __init__(self, registry: Any, timeout: float, context: ContextFactory | None = None) -> None:
        self._failures = _FailureCounter(registry)
        self.context = ScrapeContext(registry, context, self._failures.count)
        self._executor = CollectorExecutor(timeout, self.context.enter)

    def collect(self, collectors: Iterable[Any]) -> list[tuple[Any, list[Metric]]]:
        """Return each collector with its families. There are none if it fails, which is counted."""
        all_collectors = list(collectors)
        started = self._executor.start([each for each in all_collectors if is_custom(each)])
        collected: list[tuple[Any, list[Metric]]] = []
        for collector in all_collectors:
            families: list[Metric] = []
            with self.catch_errors(collector):
                wait = started.get(id(collector))
                families = families_of(collector) if wait is None else wait()
            collected.append((collector, families))
        return collected

    @contextlib.contextmanager
    def catch_errors(self, collector: Any) -> Iterator[None]:
        """Count exceptions inside of this context, and log the first of each kind.

        A ``sys.exit()`` in a collector or in the callback of a gauge is such an exception, because a scrape
        must not end a worker. If a signal handler raises SystemExit meanwhile, it is raised here too.

        Raises:
            UnreadableError: It is raised again, because the scrape would not be complete.
            SystemExit: A signal handler raised it.
        """
        try:
            yield
        except UnreadableError:
            raise
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and _is_from_signal_handler(error):
                raise
            self._failures.count(f"collector {_name_of(collector)}", "scrapes are without its metrics")


class _FailureCounter:
    """Counts the failures in scrapes of one registry, and logs the first of each kind."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry if isinstance(registry, CollectorRegistry) else None
        self._logged: set[tuple[str, type[BaseException] | None]] = set()

    def count(self, stage: str, consequence: str) -> None:
        """Count the current exception. Never raises."""
        try:
            kind = sys.exc_info()[0]
            if (stage, kind) not in self._logged:
                self._logged.add((stage, kind))
                logger.warning(
                    f"the %s failed, and {consequence}; counted in web_prom_instrumentation_errors_total",
                    stage,
                    exc_info=True,
                )
            if self._registry is not None:
                error_counter(self._registry).labels(stage).inc()
        except Exception:
            logger.debug("an error of the %s could not be counted", stage, exc_info=True)


def _name_of(collector: Any) -> str:
    """Return the name of an instrument, or of the class of another collector: a bounded number of names."""
    if isinstance(collector, MetricWrapperBase):
        return family_of(collector).name
    return str(getattr(collector, "__name__", type(collector).__name__))


def _is_from_signal_handler(error: SystemExit) -> bool:
    """Return whether a Python signal handler is among the frames of an exception."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    functions = [getattr(handler, "__func__", handler) for handler in handlers]
    functions += [getattr(type(handler), "__call__", None) for handler in handlers]  # noqa: B004 - on the class
    codes = {code for function in functions if (code := getattr(function, "__code__", None)) is not None}
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False
