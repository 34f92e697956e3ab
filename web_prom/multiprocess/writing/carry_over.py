"""Values that exist before the switch to another value class: carried over to values of the new class."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import Counter, Gauge, Histogram, Summary

from web_prom.multiprocess.directory.liveness import has_writer
from web_prom.multiprocess.file_entries import read_entries
from web_prom.multiprocess.file_format import FileName
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.upstream.children import children_of
from web_prom.upstream.registry import collectors_of
from web_prom.upstream.value_class import arguments_of, is_own_multiprocess, number_beside_file, redirect
from web_prom.upstream.values import has_new_values, has_values, make_new_values, values_of

logger = logging.getLogger("web_prom")


def carry_over(registries: Iterable[CollectorRegistry], *, with_files: bool) -> bool:
    """Give the metrics of registries values of the present class, which start with the former numbers.

    Args:
        registries: The registries.
        with_files: Carry over the numbers of values in prometheus_client's files, too. If not, these values
        start
            at zero, because :func:`import_files` adds the numbers of the files.

    Returns:
        Whether this version of prometheus_client makes it possible.
    """
    is_possible = has_values() and has_new_values()
    for registry in registries if is_possible else ():
        for collector in collectors_of(registry):
            if isinstance(collector, Counter | Gauge | Histogram | Summary):
                _carry_over_metric(collector, with_files=with_files)
    return is_possible


def _carry_over_metric(metric: Any, *, with_files: bool) -> None:
    for child in children_of(metric):
        former = values_of(child) or ()
        make_new_values(child)
        for old, new in zip(former, values_of(child) or (), strict=True):
            number = old.get() if with_files or not is_own_multiprocess(type(old)) else 0.0
            if number:
                # Gauges of the mode mostrecent need a time.
                _write(new, number, time.time(), is_gauge=isinstance(metric, Gauge))


def import_files(directory: Path) -> None:
    """Write the values of prometheus_client's files of this process to the slot, and remove these files.

    If the process is killed in between, its former counts are lost. Nothing is ever counted twice.
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
            # The file is read like that of any other worker.
            logger.warning("%s is not imported, and stays as it is: %s", path, error)
            continue
        for key, (number, timestamp) in entries.items():
            metric_name, sample_name, labels, help_text = json.loads(key)
            value = SharedValue(
                name.metric_type,
                metric_name,
                sample_name,
                [*labels],
                [*labels.values()],
                help_text,
                name.mode,
            )
            # A gauge that was never set does not replace the value of the slot's former holder.
            if number or timestamp:
                _write(value, number, timestamp, is_gauge=name.metric_type == "gauge")


def move_to_memory(former: Any, value_class: Any) -> None:
    """Have all values of prometheus_client's class for files write to values in memory, and remove the files.

    Args:
        former: The class for files.
        value_class: The class for values in memory.
    """
    read = former.get

    def make_in_memory(value: Any) -> Any:
        successor = value_class(*arguments_of(value)[:6])
        successor.set(number_beside_file(value, read))
        return successor

    redirect(former, make_in_memory)
    for path in Path().glob(f"*_{os.getpid()}.db"):
        if FileName.parse(path.name) is not None:
            with contextlib.suppress(OSError):
                path.unlink()


def _write(value: Any, number: float, timestamp: float, *, is_gauge: bool) -> None:
    if is_gauge:
        value.set(number, timestamp)
    else:
        value.inc(number)
