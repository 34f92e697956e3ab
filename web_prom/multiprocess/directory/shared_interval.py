"""Work that one of the processes of a shared directory does at intervals."""

from __future__ import annotations

import os
import time
from pathlib import Path

_PREFIX = "interval_"


class SharedInterval:
    """Says which process does a piece of work next. Safe to share between threads, and after a fork.

    The time of the last turn is the modification time of a file in the directory. Two processes that ask in
    the same moment can both get the turn.

    Args:
        name: The name of the work, as a part of the name of the file.
        seconds: The time between two turns.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name = _PREFIX + name
        self._seconds = seconds

    def take(self, directory: Path) -> bool:
        """Return whether it is the turn of this process, and begin the next interval.

        If the file cannot be used, it is always the turn of this process. Never raises.

        Args:
            directory: The shared directory.
        """
        path = directory / self._name
        try:
            if 0 <= time.time() - path.stat().st_mtime < self._seconds:
                return False
            os.utime(path)
        except FileNotFoundError:
            return _create(path)
        except OSError:
            return True
        return True


def is_interval_file(name: str) -> bool:
    """Return whether a file of a shared directory belongs to this module."""
    return name.startswith(_PREFIX)


def _create(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return False
    except OSError:
        return True
    return True
