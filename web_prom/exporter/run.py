"""The exporter process itself: from its settings to a server that runs until it is told to stop."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

from web_prom.config.settings import Config
from web_prom.exporter.directory_app import DEFAULT_PATH, DirectoryMetricsApp
from web_prom.exporter.heartbeat import Heart
from web_prom.exporter.memory import give_large_blocks_back
from web_prom.exporter.parent_watch import Lifeline
from web_prom.http_server.listener import address_of, adopt, listen
from web_prom.http_server.server import ScrapeServer
from web_prom.http_server.tls import Certificates

logger = logging.getLogger("web_prom")


def serve(
    directory: Path,
    config: Config,
    *,
    listener: int | None = None,
    parent: int | None = None,
    heartbeat: int | None = None,
) -> None:
    """Answer scrapes until SIGTERM or SIGINT comes, or the parent is gone.

    Args:
        directory: The directory that the workers share.
        config: The settings.
        listener: A listening socket that the parent handed on, by descriptor; without it one is opened.
        parent: The process to end with.
        heartbeat: A pipe to the parent, by descriptor, to show it once a second that this process works.

    Raises:
        ConfigError: A certificate cannot be used.
        ListenError: It cannot listen.
    """
    lifeline = Lifeline(parent)
    give_large_blocks_back()
    certificates = None
    if config.certfile:
        certificates = Certificates(config.certfile, config.keyfile, config.client_cafile)
    if listener is not None:
        listening = adopt(listener)
    else:
        assert config.bind is not None
        listening = listen(config.bind)
    scrapes = DirectoryMetricsApp(directory, config)
    server = ScrapeServer(listening, scrapes, certificates=certificates)
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: server.stop())
    address = address_of(listening)
    scheme = "https" if certificates else "http"
    logger.info("Metrics at: %s://%s%s", scheme, address, config.path or DEFAULT_PATH)
    if scrapes.is_open and not config.client_cafile and not address.is_loopback:
        logger.warning(
            "the metrics are open to whoever can reach %s: what the application's settings say does not "
            "count here; set PROM_BEARER_TOKEN_FILE, PROM_ALLOWED_NETWORKS or the like in the environment",
            address,
        )
    heart = Heart(heartbeat)

    def keep_running() -> bool:
        if not server.is_stuck:
            heart.beat()
        return not lifeline.cut

    server.run(keep_running)
