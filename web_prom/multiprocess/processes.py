"""The process_* families of every live worker, read from /proc by process id."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric

logger = logging.getLogger("web_prom")

LABEL = "worker"
"""The label that tells the workers apart: the number of the slot, which a successor takes over."""


def process_families(workers: Mapping[int, int]) -> list[Metric]:
    """Return what prometheus_client tells of its own process, for each of several.

    What cannot be read is left out: a process that has ended meanwhile, the open files of another user's
    process, everything where there is no ``/proc``. Safe to call from any thread and any process, the
    exporter's too.

    Args:
        workers: Process ids by slot; 0 where the process is not known, as in another pid namespace.
    """
    found: dict[str, Metric] = {}
    pid = 0
    # One for all: each new one reads when the machine was started.
    collector = ProcessCollector(pid=lambda: pid, registry=None)
    for slot, pid in sorted(workers.items()):
        for family in _collected(collector) if pid > 0 else ():
            merged = found.get(family.name)
            if merged is None:
                merged = Metric(family.name, family.documentation, family.type, family.unit)
                found[family.name] = merged
            merged.samples += [
                sample._replace(labels={**sample.labels, LABEL: str(slot)}) for sample in family.samples
            ]
    return list(found.values())


def _collected(collector: ProcessCollector) -> Iterable[Metric]:
    try:
        return collector.collect()
    except Exception:  # a line of /proc that upstream does not expect
        logger.debug("a worker's process cannot be read", exc_info=True)
        return []
