"""The files of the live page in a shared directory: the history, and the latest snapshot.

All workers read them. One worker at a time writes them. They are removed with the other files of web-prom.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_PREFIX = "live_page."
_HISTORY = f"{_PREFIX}history"
_SNAPSHOT = f"{_PREFIX}snapshot"


def is_live_file(name: str) -> bool:
    """Return whether a file of a shared directory belongs to this module."""
    return name.startswith(_PREFIX)


class LiveFiles:
    """The history and the latest snapshot in a shared directory.

    Each method opens its file and closes it. Safe in any thread and after a fork, except :meth:`new_lines`,
    which one thread at a time may call.

    Args:
        directory: The shared directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._history = directory / _HISTORY
        self._snapshot = directory / _SNAPSHOT
        self._read: tuple[int, int] = (0, 0)  # the file's inode, and the bytes that were read

    def add_line(self, line: bytes) -> None:
        """Add a line to the history.

        Raises:
            OSError: The file cannot be written.
        """
        descriptor = os.open(self._history, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # One call, so that lines of two processes are not mixed.
            os.write(descriptor, line + b"\n")
        finally:
            os.close(descriptor)

    def replace_lines(self, lines: list[bytes]) -> None:
        """Replace the history.

        Raises:
            OSError: The file cannot be written.
        """
        self._replace(self._history, b"".join(line + b"\n" for line in lines))

    def new_lines(self) -> tuple[list[bytes], bool]:
        """Return the complete lines of the history that this object has not returned.

        Returns:
            The lines, and whether the history was replaced. Then they are all of its lines.
        """
        try:
            with self._history.open("rb") as file:
                inode, start = os.fstat(file.fileno()).st_ino, 0
                if inode == self._read[0] and self._read[1] <= os.fstat(file.fileno()).st_size:
                    start = self._read[1]
                file.seek(start)
                data = file.read()
        except OSError:
            return [], False
        complete = data[: data.rfind(b"\n") + 1]
        self._read = inode, start + len(complete)
        return complete.splitlines(), start == 0

    def write_snapshot(self, body: bytes) -> None:
        """Replace the latest snapshot.

        Raises:
            OSError: The file cannot be written.
        """
        self._replace(self._snapshot, body)

    def snapshot(self) -> tuple[float, bytes] | None:
        """Return when the latest snapshot was written, in seconds since the epoch, and its bytes."""
        try:
            with self._snapshot.open("rb") as file:
                return os.fstat(file.fileno()).st_mtime, file.read()
        except OSError:
            return None

    def _replace(self, path: Path, body: bytes) -> None:
        new = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
            os.replace(new, path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
