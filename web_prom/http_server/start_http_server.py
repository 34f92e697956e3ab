"""``start_http_server``: the exporter's server in a thread of a process that has no web server."""

from __future__ import annotations

import errno
import functools
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.config.exporter_settings import load
from web_prom.config.parsing import Address
from web_prom.config.settings import Config
from web_prom.errors import ConfigError, ListenError
from web_prom.exposition.http import Exposition
from web_prom.http_server.handler import Respond
from web_prom.http_server.listener import address_of, listen
from web_prom.http_server.server import ScrapeServer
from web_prom.http_server.tls import Certificates
from web_prom.multiprocess.writing.activation import share_values
from web_prom.multiprocess.writing.fork_locks import free
from web_prom.posix import at_fork

# The name that other programs see in a list of threads.
_NAME = "web-prom-http"

# Equal to prometheus_client's default, and another object than the same text in a caller's program.
_NOT_GIVEN = ".".join("0000")

# Each with its registry.
_servers: WeakKeyDictionary[MetricsServer, Any] = WeakKeyDictionary()


class MetricsServer(ScrapeServer):
    """A server that runs in a daemon thread of its own; make it with :func:`start_http_server`.

    Its methods may be called from any thread, and do nothing in a child that was forked.

    Attributes:
        server_address: Host and port that it listens at.
        server_port: The port, also where any free one was asked for.
    """

    def __init__(self, listener: socket.socket, respond: Respond, certificates: Certificates | None) -> None:
        super().__init__(listener, respond, certificates=certificates)
        self.server_address = address_of(listener)
        self.server_port = self.server_address.port
        self.thread = threading.Thread(target=self.run, name=_NAME, daemon=True)

    def shutdown(self) -> None:
        """End the server: answers that are being made are still sent, then its port is free."""
        self.stop()
        if self.thread is not threading.current_thread():
            self.thread.join()

    def server_close(self) -> None:
        """Do the same; prometheus_client's server has both."""
        self.shutdown()


def start_http_server(  # noqa: PLR0917 - prometheus_client's parameters, in its order
    port: int,
    addr: str = _NOT_GIVEN,
    registry: Any = REGISTRY,
    certfile: str | None = None,
    keyfile: str | None = None,
    client_cafile: str | None = None,
    client_capath: str | None = None,
    protocol: int = ssl.PROTOCOL_TLS_SERVER,
    client_auth_required: bool = False,
    tls_min_version: ssl.TLSVersion | None = None,
    tls_max_version: ssl.TLSVersion | None = None,
    *,
    bearer_token: str | None = None,
    bearer_token_file: str | Path | None = None,
    basic_auth: str | None = None,
    basic_auth_file: str | Path | None = None,
    allowed_networks: str | Sequence[str] | None = None,
    trusted_proxies: str | Sequence[str] | None = None,
    allow_scrape: str | Callable[[Mapping[str, Any]], object] | None = None,
    collector_timeout: float | None = None,
) -> tuple[MetricsServer, threading.Thread]:
    """Answer scrapes from a daemon thread of this process, as prometheus_client's of the same name does.

    For what has no web server: a queue's worker, a batch job, a script. It answers on every path. With
    PROMETHEUS_MULTIPROC_DIR set it answers for all processes that share the directory: call it once,
    in the parent. A child that is forked afterwards closes the socket that it inherits and serves
    nothing; where no hooks are run at a fork (uWSGI), it keeps the port for as long as it lives.

    What is not given as an argument is read from the environment, once, now: ``PROM_CERTFILE``,
    ``PROM_BEARER_TOKEN_FILE`` and so on, as for the exporter; ``PROM_BIND`` and ``PROM_PATH`` do not
    count here.

    Args:
        port: Where to listen; 0 takes a free port, which ``server.server_port`` tells.
        addr: The address to listen at. ``::``, ``""`` and no ``addr`` stand for every address of IPv4 and
            IPv6; ``0.0.0.0`` stands for every address of IPv4.
        registry: What to expose.
        certfile: Serve TLS with this certificate (PEM, with its chain).
        keyfile: The key to it, if it is in a file of its own.
        client_cafile: Roots of the certificates that clients show (PEM). As with prometheus_client, none is
            asked for without ``client_auth_required``; ``PROM_CLIENT_CAFILE`` needs no such word.
        client_capath: A folder of such roots.
        protocol: As :class:`ssl.SSLContext` takes it.
        client_auth_required: Refuse clients that show no certificate.
        tls_min_version: The oldest version that is spoken; 1.2 if none is named.
        tls_max_version: The newest.
        bearer_token: Token that a scrape must bear.
        bearer_token_file: File that holds the token.
        basic_auth: ``user:password`` that a scrape must give.
        basic_auth_file: File that holds ``user:password``.
        allowed_networks: Networks that may scrape.
        trusted_proxies: Proxies whose ``X-Forwarded-For`` is believed for them.
        allow_scrape: ``callable(environ)``, or its dotted path: true where the scrape may go on.
        collector_timeout: Seconds that custom collectors may take in a scrape; 0: no limit.

    Returns:
        The server and its thread. ``server.shutdown()`` ends it and frees the port.

    Raises:
        ConfigError: A value is not allowed, or a certificate cannot be used.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
        ListenError: The address cannot be listened at; its ``errno`` tells why.
    """
    given = {
        "certfile": certfile,
        "keyfile": keyfile,
        "client_cafile": client_cafile,
        "bearer_token": bearer_token,
        "bearer_token_file": bearer_token_file,
        "basic_auth": basic_auth,
        "basic_auth_file": basic_auth_file,
        "allowed_networks": allowed_networks,
        "trusted_proxies": trusted_proxies,
        "allow_scrape": allow_scrape,
        "collector_timeout": collector_timeout,
    }
    config = _load({name: value for name, value in given.items() if value is not None})
    certificates = _certificates(
        config,
        client_capath=Path(client_capath) if client_capath else None,
        client_required=client_auth_required or (client_cafile is None and config.client_cafile is not None),
        protocol=protocol,
        minimum=tls_min_version or ssl.TLSVersion.TLSv1_2,
        maximum=tls_max_version,
    )
    share_values(*[registry] if isinstance(registry, CollectorRegistry) else [])
    listener = _listen(port, addr)
    server = MetricsServer(listener, Exposition(registry, config).respond, certificates)
    _mind_forks()
    _servers[server] = registry
    server.thread.start()
    return server, server.thread


def _load(options: Mapping[str, object]) -> Config:
    """Read the settings; what belongs to an argument in the environment goes with what it belongs to.

    Raises:
        ConfigError: A value is not allowed.
    """
    environ = dict(os.environ)
    if "certfile" in options:
        environ.pop("PROM_KEYFILE", None)
    for name in ("bearer_token", "basic_auth"):
        if name in options or f"{name}_file" in options:
            environ.pop(f"PROM_{name.upper()}", None)
            environ.pop(f"PROM_{name.upper()}_FILE", None)
    return load(environ, options)


def _certificates(config: Config, *, client_capath: Path | None, **options: Any) -> Certificates | None:
    if config.certfile:
        files = (config.certfile, config.keyfile, config.client_cafile)
        return Certificates(*files, client_capath=client_capath, **options)
    if client_capath or options["client_required"]:
        raise ConfigError(
            "client certificates are asked for without TLS; give a certfile, or set PROM_CERTFILE, too"
        )
    return None


def _listen(port: int, addr: str) -> socket.socket:
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise ConfigError(f"port is {port!r}; allowed: a number from 0 to 65535, 0 for a free port")
    try:
        # prometheus_client's server takes IPv4 at "::" too.
        every = addr is _NOT_GIVEN or addr == "::"
        return listen(Address("" if every else addr, port))
    except ListenError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        failure = ListenError(
            f"{error}; a port has room for one process: call start_http_server once, in the parent and "
            "not in each worker, and set PROMETHEUS_MULTIPROC_DIR so that it answers for all; under gunicorn "
            "set PROM_BIND instead; programs that share nothing need a port each"
        )
        failure.errno = error.errno
        raise failure from error


@functools.cache
def _mind_forks() -> None:
    at_fork(after_in_child=_disown)


def _disown() -> None:
    for server, registry in list(_servers.items()):
        server.disown()
        free(registry)
    _servers.clear()
