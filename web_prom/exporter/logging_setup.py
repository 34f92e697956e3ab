"""The logging of the exporter and its supervisor, in gunicorn's format."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path


def configure_logging(path: Path | None = None) -> None:
    """Log messages of the level INFO and above to standard error or to a file.

    Args:
        path: The file. It is opened again after log rotation. If it cannot be opened, standard error is used.
    """
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if path is not None:
        from logging.handlers import WatchedFileHandler

        with contextlib.suppress(OSError):
            handler = WatchedFileHandler(path)
    handler.setFormatter(
        logging.Formatter(
            "[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s", datefmt="%Y-%m-%d %H:%M:%S %z"
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
