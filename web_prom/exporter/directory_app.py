"""The exporter's application: scrapes of a shared directory at one path."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from web_prom.config.settings import Config
from web_prom.exposition.http import Exposition, Response, text_response

if TYPE_CHECKING:
    from web_prom.live.mount import LiveMount

logger = logging.getLogger("web_prom")

DEFAULT_PATH = "/metrics"


class DirectoryMetricsApp:
    """Answers scrapes with the totals of all workers that share a directory. Safe to call from any thread.

    It writes no values and does not lock the directory, which may be mounted read-only. An exporter that
    belongs to the server merges the files of dead processes. A lock of a sidecar would mark the directory as
    used, also after the server has stopped.

    Args:
        directory: The directory that the workers share.
        config: The settings for access control, and the path.
    """

    def __init__(self, directory: Path, config: Config) -> None:
        self._directory = directory
        # The path is empty if the application itself does not answer scrapes. The exporter always does.
        self._path = config.path or DEFAULT_PATH
        # WSGI represents each byte of a path as one character.
        self._path_info = self._path.rstrip("/").encode().decode("latin-1")
        self._exposition = Exposition(config=config, directory=str(directory))
        self._unreadable = False
        self._live: LiveMount | None = None
        if config.live:
            from web_prom.live.mount import LiveMount

            self._live = LiveMount(self._exposition, config, str(directory), directory=str(directory))
            # This process serves from its start on.
            self._live.keeper.start()

    @property
    def is_open(self) -> bool:
        """Whether every client may scrape."""
        return self._exposition.access.is_open

    def __call__(self, environ: Mapping[str, Any]) -> Response:
        """Answer one request, which is described by a WSGI environ. Never raises."""
        try:
            if self._live is not None and self._live.is_inside(environ["PATH_INFO"]):
                return self._live.respond_at(environ, environ["PATH_INFO"])
            if environ["PATH_INFO"].rstrip("/") != self._path_info:
                # Only clients that may scrape see the path.
                refusal = self._exposition.refusal_for(environ)
                return refusal or text_response("404 Not Found", f"metrics are at {self._path}\n")
            if not self._is_readable():
                text = "the shared directory cannot be read; see the log\n"
                return self._exposition.refusal_for(environ) or text_response("503 Service Unavailable", text)
            return self._exposition.respond(environ)
        except Exception:
            logger.exception("a scrape failed")
            return text_response("500 Internal Server Error", "the scrape failed; see the log\n")

    def _is_readable(self) -> bool:
        """Return whether the directory can be read, and log each change.

        The directory may be created after this process starts.
        """
        try:
            os.scandir(self._directory).close()
        except OSError as error:
            if not self._unreadable:
                logger.warning("no metrics until the shared directory can be read: %s", error)
            self._unreadable = True
            return False
        if self._unreadable:
            logger.info("the shared directory %s can be read again", self._directory)
        self._unreadable = False
        return True
