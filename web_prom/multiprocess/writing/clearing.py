"""``remove()``, ``remove_by_labels()`` and ``clear()`` of instruments whose values are in shared files.

prometheus_client only forgets the child there, and warns: the files keep its values. These methods take the
place of its own at the switch (``takeover.share_values``). They remove the label sets from the slot of this
process as well, those included that a former holder of the slot has left. Other processes keep theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from itertools import islice
from typing import Any

from prometheus_client.metrics import Counter, Gauge, Histogram, MetricWrapperBase, Summary

from web_prom.multiprocess.writing.process_files import current
from web_prom.multiprocess.writing.removal import labels_of
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.multiprocess.writing.slot_cap import first_key, is_in_slots
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
    """Put the methods of this module in the place of prometheus_client's; safe to call again.

    Where values are not shared, and for arguments that are wrong, they call prometheus_client's own. If
    the children of metrics cannot be found, nothing is replaced: prometheus_client's methods warn.
    """
    if not has_removal():
        return
    for name in _METHODS:
        method = getattr(MetricWrapperBase, name, None)  # older versions have no remove_by_labels()
        if method is not None and method.__module__ != __name__:
            setattr(MetricWrapperBase, name, _wrapped(method, globals()[f"_{name}"]))


def _wrapped(former: Callable[..., None], method: Callable[..., bool]) -> Callable[..., None]:
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
        cells = [] if child is None else list(_cells(child))

        def choose(file: ValueFile) -> Iterable[bytes]:
            if child is None and file.has(first_key(family_of(metric), names, wanted)):
                # Of an instrument that this one has replaced, perhaps.
                return [key for key in file.keys(_start(metric)) if labels_of(key) == labels]
            return [*(cell.key for cell in cells), *file.left(_start(metric)).get(labels, ())]

        _remove_from_slot(metric, choose, cells)
    current().report()
    return True


def _remove_by_labels(metric: Any, labels: dict[str, str]) -> bool:
    names = label_names(metric)
    if not (isinstance(labels, dict) and labels and all(name in names for name in labels)):
        return False
    wanted = {names.index(name): str(value) for name, value in labels.items()}
    # As they stand in a key. Quotation marks inside of a text have a backslash before them.
    parts = [f"{json.dumps(name)}: {json.dumps(str(value))}".encode() for name, value in labels.items()]
    with children_lock(metric):
        children = children_by_values(metric)
        gone = [each for each in children if all(each[place] == value for place, value in wanted.items())]
        cells = [cell for each in gone for cell in _cells(children.pop(each))]

        def choose(file: ValueFile) -> Iterable[bytes]:
            return [key for key in file.keys(_start(metric)) if all(part in key for part in parts)]

        _remove_from_slot(metric, choose, cells)
    current().report()
    return True


def _clear(metric: Any) -> bool:
    with children_lock(metric):
        cells = [cell for child in take_children(metric) for cell in _cells(child)]
        _remove_from_slot(metric, lambda file: file.keys(_start(metric)), cells)
    current().report()
    return True


def _remove_from_slot(
    metric: Any, choose: Callable[[ValueFile], Iterable[bytes]], cells: Iterable[SharedValue]
) -> None:
    kind = family_of(metric).type
    prefix = f"gauge_{multiprocess_mode(metric)}" if kind == "gauge" else kind
    storage = current()
    rest = iter(cells)
    while some := list(islice(rest, 500)):
        with storage.lock:  # which requests want too, and so not for long
            for cell in some:
                cell.detach()
    with storage.lock:
        storage.remove(prefix, choose)


def _start(metric: Any) -> bytes:
    """Return how all keys of a metric begin."""
    return f"[{json.dumps(family_of(metric).name)}, ".encode()


def _cells(child: Any) -> Iterator[SharedValue]:
    """Give the cells of a child, whatever its attributes are called."""
    for attribute in vars(child).values():
        for value in attribute if isinstance(attribute, list) else (attribute,):
            if isinstance(value, SharedValue):
                yield value
            else:
                # One that prometheus_client made before the switch gets its successor here.
                yield from filter(None, [successor_of(value)])
