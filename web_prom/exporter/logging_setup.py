"""The log of the exporter's processes: its format, which is gunicorn's."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import sys
from pathlib import Path


def configure(path: Path | None = None) -> None:
    """Send what is worth telling to standard error, or to a file, opened anew when it was rotated away."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if path is not None:
        with contextlib.suppress(OSError):  # standard error will have to do
            handler = logging.handlers.WatchedFileHandler(path)
    handler.setFormatter(
        logging.Formatter(
            "[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s", datefmt="%Y-%m-%d %H:%M:%S %z"
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
