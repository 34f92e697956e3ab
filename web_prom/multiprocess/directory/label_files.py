"""The names of the files that hold the values of labels (``multiprocess.writing.label_values``)."""

from __future__ import annotations

import re

_NAME = re.compile(r"label_[a-zA-Z0-9_]+\.values")


def label_file_name(label: str) -> str:
    """Return the name of the file of a label."""
    return f"label_{label}.values"


def is_label_file(name: str) -> bool:
    """Return whether a file has the name of a file of a label."""
    return _NAME.fullmatch(name) is not None
