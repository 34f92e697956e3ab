"""Removed entries of a value file: marked by the writer, completed after a kill, and restored.

The functions write into a file's ``view``; the caller holds the file's lock. Each store is one aligned
double: a reader sees the number before the store or after it, and a kill leaves one of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

from web_prom.multiprocess.file_format import REMOVED, REMOVING, VALUE, FileName, removed_value


class View(Protocol):
    """The doubles of a file."""

    def __getitem__(self, at: int, /) -> float: ...

    def __setitem__(self, at: int, value: float, /) -> None: ...


_SEVERAL = ("histogram", "summary")  # have several entries for a label set
_REMOVING_BYTES = VALUE.pack(REMOVING, 0.0)[:8]
_BOUND = re.compile(rb'"le": "[^"]*", |, "le": "[^"]*"(?=})|"le": "[^"]*"(?=})')
_BUCKET, _COUNT = b'_bucket", {', b'_count", {'


def remove(name: FileName, view: View, places: Iterable[tuple[bytes, int]]) -> None:
    """Remove whole label sets from a file.

    A histogram or a summary has several entries. The *first* of them, which readers go by (the sum or the
    count), is marked before the others are written and once more at the end. If the process is killed in
    between, :func:`restore` or :func:`finish_all` does the rest.

    Args:
        name: What the file's name tells.
        view: The file's doubles.
        places: The keys of all entries of the label sets, and where their values are.
    """
    value = removed_value(name.mode)
    if name.metric_type not in _SEVERAL:
        for _, at in places:
            view[at + 1] = 0.0  # a gauge of the mode mostrecent is not shown from here on
            view[at] = value
        return
    first: list[int] = []
    others: list[int] = []
    for key, at in places:
        (first if _is_first(name.metric_type, key) else others).append(at)
    for at in first:
        view[at] = REMOVING
    for at in others:
        # The sum of a histogram stands for its buckets, which have to be zero when it is used again.
        view[at] = 0.0 if name.metric_type == "histogram" else REMOVED
    for at in first:
        view[at] = REMOVED
        if name.metric_type == "histogram":
            view[at + 1] += 1.0  # the mark


def restore(name: FileName, view: View, positions: Mapping[bytes, int], key: bytes) -> None:
    """Let a removed entry count again, from zero; does nothing where it was not removed."""
    at = positions[key]
    if view[at] == REMOVING and name.metric_type in _SEVERAL:
        finish(name, view, positions, key)
    if view[at] == removed_value(name.mode):
        if name.metric_type != "histogram":  # where the timestamp is the mark
            view[at + 1] = 0.0
        view[at] = 0.0


def finish_all(name: FileName, data: bytes, view: View, positions: Mapping[bytes, int]) -> None:
    """Finish the removals of summaries that a killed process has begun, as a file is opened.

    Readers show the sum of such a summary without its count. They do not show such a histogram, and
    :func:`restore` finishes its removal when it is used again.

    Args:
        name: What the file's name tells.
        data: The bytes of the file in use.
        view: The file's doubles.
        positions: Where the value of each key is.
    """
    if name.metric_type == "summary" and _REMOVING_BYTES in data:
        for key in [key for key, at in positions.items() if view[at] == REMOVING]:
            finish(name, view, positions, key)


def finish(name: FileName, view: View, positions: Mapping[bytes, int], first: bytes) -> None:
    """Finish the removal of the label set that has this key, which a killed process has begun."""
    metric, whose = first.partition(b", ")[0], labels_of(first)
    places = [
        (key, at) for key, at in positions.items() if key.startswith(metric) and labels_of(key) == whose
    ]
    remove(name, view, places)


def labels_of(key: bytes) -> bytes:
    """Return the labels in a key as JSON, without a bucket's ``le``."""
    # A quotation mark inside of a text has a backslash before it, so that these are the labels' own.
    labels = key[key.index(b", {") + 2 : key.rindex(b', "')]
    return _BOUND.sub(b"", labels, count=1) if _BUCKET in key else labels


def _is_first(kind: str, key: bytes) -> bool:
    return _BUCKET not in key if kind == "histogram" else _COUNT in key
