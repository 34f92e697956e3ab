"""Removed entries of a value file: marked by the writer, completed after a kill, and restored.

The functions write into the ``view`` of a file. The caller holds the lock of the file. Each store is one
aligned double: a reader sees the number before the store or after it, and so does the next writer after a
kill.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

from web_prom.multiprocess.file_format import REMOVED, REMOVING, VALUE, FileName, removed_value


class View(Protocol):
    """A file as doubles."""

    def __getitem__(self, position: int, /) -> float: ...

    def __setitem__(self, position: int, value: float, /) -> None: ...


_TYPES_WITH_SEVERAL_ENTRIES = ("histogram", "summary")  # for each label set
_REMOVING_BYTES = VALUE.pack(REMOVING, 0.0)[:8]
_BOUND = re.compile(rb'"le": "[^"]*", |, "le": "[^"]*"(?=})|"le": "[^"]*"(?=})')
_BUCKET, _COUNT = b'_bucket", {', b'_count", {'


def remove(name: FileName, view: View, entries: Iterable[tuple[bytes, int]]) -> None:
    """Remove label sets from a file.

    A histogram or a summary has several entries. The *first* of them, by which readers see the removal, is
    the sum of a histogram and the count of a summary. It is marked before the others are written, and once
    more at the end. If the process is killed in between, :func:`restore` or :func:`finish_all` writes the
    rest.

    Args:
        name: The parsed name of the file.
        view: The file as doubles.
        entries: The key and the position of each entry of the label sets.
    """
    value = removed_value(name.mode)
    if name.metric_type not in _TYPES_WITH_SEVERAL_ENTRIES:
        for _, position in entries:
            view[position + 1] = 0.0  # from here on, a gauge of the mode mostrecent is not in scrapes
            view[position] = value
        return
    is_histogram = name.metric_type == "histogram"
    first: list[int] = []
    others: list[int] = []
    for key, position in entries:
        (first if _is_first(name.metric_type, key) else others).append(position)
    for position in first:
        view[position] = REMOVING
    for position in others:
        # The buckets of a histogram must be zero when it is used again. Readers see its removal by the sum.
        view[position] = 0.0 if is_histogram else REMOVED
    for position in first:
        view[position] = REMOVED
        if is_histogram:
            view[position + 1] += 1.0  # the revision


def restore(name: FileName, view: View, positions: Mapping[bytes, int], key: bytes) -> None:
    """Let a removed entry count again, from zero. An entry that was not removed does not change."""
    position = positions[key]
    if view[position] == REMOVING and name.metric_type in _TYPES_WITH_SEVERAL_ENTRIES:
        finish(name, view, positions, key)
    if view[position] == removed_value(name.mode):
        if name.metric_type != "histogram":  # whose timestamp is the revision
            view[position + 1] = 0.0
        view[position] = 0.0


def finish_all(name: FileName, data: bytes, view: View, positions: Mapping[bytes, int]) -> None:
    """Finish the removals of summaries that a killed process has begun. Called when a file is opened.

    Without it, readers show the sum of such a summary without its count. They do not show such a histogram,
    and :func:`restore` finishes its removal when it is used again.

    Args:
        name: The parsed name of the file.
        data: The bytes of the file that are in use.
        view: The file as doubles.
        positions: The position of the value of each key.
    """
    if name.metric_type == "summary" and _REMOVING_BYTES in data:
        for key in [key for key, position in positions.items() if view[position] == REMOVING]:
            finish(name, view, positions, key)


def finish(name: FileName, view: View, positions: Mapping[bytes, int], first: bytes) -> None:
    """Finish the removal of one label set, given the key of its first entry."""
    metric, labels = first.partition(b", ")[0], labels_of(first)
    entries = [
        (key, position)
        for key, position in positions.items()
        if key.startswith(metric) and labels_of(key) == labels
    ]
    remove(name, view, entries)


def labels_of(key: bytes) -> bytes:
    """Return the labels in a key as JSON, without the label ``le`` of a bucket."""
    # A quotation mark inside a text has a backslash before it, so these are the ends of the labels.
    labels = key[key.index(b", {") + 2 : key.rindex(b', "')]
    return _BOUND.sub(b"", labels, count=1) if _BUCKET in key else labels


def _is_first(metric_type: str, key: bytes) -> bool:
    return _BUCKET not in key if metric_type == "histogram" else _COUNT in key
