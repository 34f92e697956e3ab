"""A scrape that lasts as long as its client wants."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def wait_for_file(environ: Mapping[str, Any]) -> bool:
    """Allow every scrape; one that names a file writes the process id to it, and waits until it is gone."""
    name = environ.get("HTTP_X_WAIT_FOR")
    if name:
        path = Path(name)
        written = path.with_suffix(".new")
        written.write_text(str(os.getpid()))
        written.rename(path)
        while path.exists():
            time.sleep(0.005)
    return True
