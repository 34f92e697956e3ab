"""``remove()``, ``remove_by_labels()`` and ``clear()`` of metrics whose values are in shared files.

With shared values, the methods of prometheus_client remove only the child, and warn: the files keep its
values. :func:`install` replaces these methods at the switch (``activation.share_values``). The new methods
also remove the label sets from the slot of this process, with those that former holders of the slot have
left. Label sets in the slots of other processes stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from itertools import islice
from typing import Any

from prometheus_client.metrics import Counter, Gauge, Histogram, MetricWrapperBase, Summary

from web_prom.multiprocess.writing.current_storage import process_storage
from web_prom.multiprocess.writing.entry_removal import labels_of
from web_prom.multiprocess.writing.process_files import SelectKeys
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.multiprocess.writing.slot_limiter import first_key, is_in_slots
from web_prom.multiprocess.writing.value_file import ValueFile
from web_prom.upstream.children import (
    children_by_values,
    children_lock,
    family_of,
    has_removal,
    is_parent,
    label_names,
    multiprocess_mode,
    take_children,
)
from web_prom.upstream.value_class import successor_of

_KINDS = (Counter, Gauge, Histogram, Summary)
_METHODS = ("remove", "remove_by_labels", "clear")


def install() -> None:
    """Replace the methods of prometheus_client. A second call does nothing.

    If values are not shared, and for wrong arguments, the new methods call the former ones. If this version
    of prometheus_client does not have the names that removal needs, nothing is replaced.
    """
    if not has_removal():
        return
    for name in _METHODS:
        method = getattr(MetricWrapperBase, name, None)  # older versions have no remove_by_labels()
        if method is not None and method.__module__ != __name__:
            setattr(MetricWrapperBase, name, _wrap(method, globals()[f"_{name}"]))


def _wrap(former: Callable[..., None], method: Callable[..., bool]) -> Callable[..., None]:
    @wraps(former)
    def call(self: Any, *arguments: Any, **named: Any) -> None:
        is_shared = is_in_slots() and isinstance(self, _KINDS) and is_parent(self)
        if not (is_shared and method(self, *arguments, **named)):
            former(self, *arguments, **named)

    call.__module__ = __name__
    return call


def _remove(metric: Any, *labelvalues: Any) -> bool:
    names = label_names(metric)
    if len(labelvalues) != len(names):
        return False
    wanted = tuple(map(str, labelvalues))
    pairs = zip(names, wanted, strict=True)
    labels = json.dumps(dict(pairs), sort_keys=True).encode()
    with children_lock(metric):
        child = children_by_values(metric).pop(wanted, None)
        values = [] if child is None else list(_values_of(child))

        def select(file: ValueFile) -> Iterable[bytes]:
            if child is None and file.has(first_key(family_of(metric), names, wanted)):
                # It may belong to another metric, which this one has replaced.
                return [key for key in file.keys(_start(metric)) if labels_of(key) == labels]
            return [*(value.key for value in values), *file.former_keys(_start(metric)).get(labels, ())]

        _remove_from_slot(metric, select, values)
    process_storage().log_errors()
    return True


def _remove_by_labels(metric: Any, labels: dict[str, str]) -> bool:
    names = label_names(metric)
    if not (isinstance(labels, dict) and labels and all(name in names for name in labels)):
        return False
    wanted = {names.index(name): str(value) for name, value in labels.items()}
    # As in a key. A quotation mark inside a text has a backslash before it there.
    parts = [f"{json.dumps(name)}: {json.dumps(str(value))}".encode() for name, value in labels.items()]
    with children_lock(metric):
        children = children_by_values(metric)
        matches = [each for each in children if all(each[index] == value for index, value in wanted.items())]
        values = [value for each in matches for value in _values_of(children.pop(each))]

        def select(file: ValueFile) -> Iterable[bytes]:
            return [key for key in file.keys(_start(metric)) if all(part in key for part in parts)]

        _remove_from_slot(metric, select, values)
    process_storage().log_errors()
    return True


def _clear(metric: Any) -> bool:
    with children_lock(metric):
        values = [value for child in take_children(metric) for value in _values_of(child)]
        _remove_from_slot(metric, lambda file: file.keys(_start(metric)), values)
    process_storage().log_errors()
    return True


def _remove_from_slot(metric: Any, select: SelectKeys, values: Iterable[SharedValue]) -> None:
    kind = family_of(metric).type
    prefix = f"gauge_{multiprocess_mode(metric)}" if kind == "gauge" else kind
    storage = process_storage()
    rest = iter(values)
    while batch := list(islice(rest, 500)):
        with storage.lock:  # in batches, because requests need the lock, too
            for value in batch:
                value.detach()
    with storage.lock:
        storage.remove(prefix, select)


def _start(metric: Any) -> bytes:
    """Return the beginning of all keys of a metric."""
    return f"[{json.dumps(family_of(metric).name)}, ".encode()


def _values_of(child: Any) -> Iterator[SharedValue]:
    """Yield the values of a child, in any attribute."""
    for attribute in vars(child).values():
        for value in attribute if isinstance(attribute, list) else (attribute,):
            if isinstance(value, SharedValue):
                yield value
            else:
                # A value that prometheus_client made before the switch.
                yield from filter(None, [successor_of(value)])
