"""Runs the exporter in this process: opens the socket, serves scrapes, ends with the parent."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import signal
import sys
from pathlib import Path

from web_prom.config.settings import Config
from web_prom.exporter.directory_app import DEFAULT_PATH, DirectoryMetricsApp
from web_prom.exporter.heartbeat import HeartbeatSender
from web_prom.exporter.parent_watch import ParentWatch
from web_prom.http_server.listener import address_of, adopt, listen
from web_prom.http_server.server import ScrapeServer
from web_prom.http_server.tls import Certificates

logger = logging.getLogger("web_prom")

# From <malloc.h>.
_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK_BYTES = 1_048_576


def serve(
    directory: Path,
    config: Config,
    *,
    listener: int | None = None,
    parent: int | None = None,
    heartbeat: int | None = None,
) -> None:
    """Answer scrapes until SIGTERM or SIGINT arrives, or the parent dies.

    Args:
        directory: The directory that the workers share.
        config: The settings.
        listener: The descriptor of a listening socket that the parent passed; by default one is opened.
        parent: The id of the process with which this one ends.
        heartbeat: The descriptor of a pipe to the parent, for a heartbeat each second.

    Raises:
        ConfigError: A certificate cannot be used.
        ListenError: The address cannot be used.
    """
    parent_watch = ParentWatch(parent)
    _return_large_blocks()
    certificates = None
    if config.certfile:
        certificates = Certificates(config.certfile, config.keyfile, config.client_cafile)
    if listener is not None:
        listening = adopt(listener)
    else:
        assert config.bind is not None
        listening = listen(config.bind)
    app = DirectoryMetricsApp(directory, config)
    server = ScrapeServer(listening, app, certificates=certificates)
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: server.stop())
    address = address_of(listening)
    scheme = "https" if certificates else "http"
    logger.info("Metrics at: %s://%s%s", scheme, address, config.path or DEFAULT_PATH)
    if app.is_open and not config.client_cafile and not address.is_loopback:
        logger.warning(
            "the metrics are open to every client that can reach %s: the exporter does not use the "
            "application's settings; set PROM_BEARER_TOKEN_FILE, PROM_ALLOWED_NETWORKS or a similar variable "
            "in the environment",
            address,
        )
    sender = HeartbeatSender(heartbeat)

    def keep_running() -> bool:
        if not server.is_stuck:
            sender.send()
        return not parent_watch.has_exited

    server.run(keep_running)


def _return_large_blocks() -> None:
    """Make the C library return each large block of memory to the system when it is freed.

    The text of a scrape may have megabytes. glibc keeps freed blocks of that size for each thread: with 64
    connections the process took three times the memory that it needed. Without glibc this has no effect.
    Call it only in a process that web-prom started, before the process has threads.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without mallopt
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
