"""The values of one label that have a place, for all processes that use a directory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from web_prom.multiprocess.directory.label_files import label_file_name
from web_prom.multiprocess.regular_file import open_regular

_MAX_BYTES = 16 * 1024 * 1024


class LabelValueFile:
    """A file with the values of a label, one JSON text a line. The first values in the file have a place.

    Processes append without a lock: an append is atomic, and each process reads the order in the file
    afterwards. So all processes agree, also if one of them is stopped or killed. A line that is not complete,
    because the disk was full, is ignored. Workers that start later read the same file. A server that starts
    removes it with the values of a former deployment.

    Args:
        directory: The shared directory.
        label: The name of the label.
    """

    def __init__(self, directory: str, label: str) -> None:
        self._path = Path(directory, label_file_name(label))

    def add(self, values: Iterable[str], limit: int) -> list[str]:
        """Append values that are not in the file, while there are places, and return those with a place.

        Args:
            values: The values.
            limit: The number of places.

        Raises:
            OSError: The file cannot be read or written.
        """
        descriptor = open_regular(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            present = _read(descriptor)
            missing = [value for value in dict.fromkeys(values) if value not in present]
            if missing and len(present) < limit:
                # A line feed before it, too: it ends an incomplete line.
                lines = "".join(f"\n{json.dumps(value)}\n" for value in missing[: limit - len(present)])
                os.write(descriptor, lines.encode())
                present = _read(descriptor)
            return list(present)[:limit]
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> dict[str, None]:
    """Return the values in the file, in their order."""
    found: dict[str, None] = {}
    os.lseek(descriptor, 0, os.SEEK_SET)
    for line in os.read(descriptor, _MAX_BYTES).split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:  # an empty or incomplete line
            continue
        if isinstance(value, str):
            found[value] = None
    return found
