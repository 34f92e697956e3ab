"""The switch to values that all workers share, and the take-over of instruments made before it."""

from __future__ import annotations

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

from web_prom.multiprocess import clearing
from web_prom.multiprocess.directory import VARIABLE, make_usable
from web_prom.multiprocess.layout import FileName
from web_prom.multiprocess.values import SharedValue

logger = logging.getLogger("web_prom")

# One for each process: a thread of the parent that held the parent's is not in a fork, to let it go.
_locks: dict[int, RLock] = {}


def is_shared() -> bool:
    """Tell whether new instruments write to the shared directory."""
    return bool(getattr(values.ValueClass, "_multiprocess", False))


def share_values(*registries: CollectorRegistry) -> bool:
    """Write to the shared directory if the environment names one, from now on and for what exists.

    prometheus_client reads the variable once, when it is imported: set later, it has no effect; set
    before, it gives each process files of its own for ever. This reads it when first asked, and carries the
    instruments of ``registries`` and of the default one over with their values: local numbers are added
    to what is in the slot, gauges set; what prometheus_client wrote to files of this process is absorbed,
    whichever registry it belongs to. Safe to call from any thread, any number of times; call it before
    workers are forked or in each.

    Returns:
        Whether the switch happened in this call, so that anything bound to the old values is bound anew.

    Raises:
        DirectoryError: The directory cannot be made or written.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return False
    with _locks.setdefault(os.getpid(), RLock()):
        make_usable(path)
        former: Any = values.ValueClass
        if is_shared() and not _is_upstreams(former):  # ours already, or somebody's who knows why
            return False
        values.ValueClass = SharedValue
        clearing.install()
        if is_upstreams := _is_upstreams(former):
            _redirect(former)
        for registry in {REGISTRY, *registries}:
            for collector in list(registry._collector_to_names):
                _carry_over(collector)
        if is_upstreams:
            _absorb(Path(path))
        return True


def _is_upstreams(kind: type[Any]) -> bool:
    return kind.__qualname__ == "MultiProcessValue.<locals>.MmapedValue"


def _carry_over(collector: Any) -> None:
    """Give every child of an instrument a shared cell that begins with the value it had."""
    if not isinstance(collector, Counter | Gauge | Histogram | Summary):
        return
    children = getattr(collector, "_metrics", None)
    for child in [collector] if children is None else list(children.values()):
        before = _cells(child)
        child._metric_init()
        for old, new in zip(before, _cells(child), strict=True):
            # What is in a file is absorbed with it.
            value = 0.0 if getattr(old, "_multiprocess", False) else old.get()
            if value:
                # The time is what the mode mostrecent goes by.
                _write(new, value, time.time(), replacing=isinstance(collector, Gauge))


def _cells(child: MetricWrapperBase) -> list[Any]:
    if isinstance(child, Histogram):
        return [child._sum, *child._buckets]
    if isinstance(child, Summary):
        return [child._count, child._sum]
    return [child._value]  # type: ignore[attr-defined]


def _write(cell: SharedValue, value: float, timestamp: float, *, replacing: bool) -> None:
    if replacing:
        cell.set(value, timestamp)
    else:
        cell.inc(value)


def _redirect(former: Any) -> None:
    """Have prometheus_client's values write where ours do: not all are known, nor in a registry that is."""

    def successor(value: Any) -> SharedValue:
        fields = vars(value)
        found: SharedValue | None = fields.get("_successor")
        return found or fields.setdefault("_successor", SharedValue(*value._params))

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
            entries = list(MmapedDict.read_all_values_from_file(path))  # type: ignore[no-untyped-call]
            path.unlink()
        except (OSError, ValueError, RuntimeError, struct.error) as error:
            logger.warning("%s stays as it is: %s", path, error)  # and is read as any worker's file
            continue
        for key, value, timestamp, _ in entries:
            metric_name, sample_name, labels, help_text = json.loads(key)
            cell = SharedValue(
                name.kind, metric_name, sample_name, [*labels], [*labels.values()], help_text, name.mode
            )
            # A gauge that was never set does not replace what the slot's last holder left.
            if value or timestamp:
                _write(cell, value, timestamp, replacing=name.kind == "gauge")
