"""The entry points of the installed distributions, read once for each set of folders that have any.

gevent asks for them 25 times while it patches modules, in each worker. Each time, ``importlib.metadata``
reads the files of all distributions of ``sys.path``. That is half of the time of the worker's start.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from functools import cache
from typing import Any


def remember() -> None:
    """Replace ``importlib.metadata.entry_points``, and read the entry points of ``sys.path``."""
    read, known = importlib.metadata.entry_points, {}

    def entry_points(**wanted: Any) -> Any:
        places = tuple(filter(_has_distributions, map(os.path.abspath, sys.path)))
        if places not in known:
            known[places] = read()
        return known[places].select(**wanted)

    importlib.metadata.entry_points = entry_points
    entry_points()


@cache
def _has_distributions(place: str) -> bool:
    try:
        return any(name.endswith((".dist-info", ".egg-info", ".egg")) for name in os.listdir(place))
    except OSError:  # not a folder
        return False
