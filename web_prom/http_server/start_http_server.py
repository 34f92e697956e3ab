"""``start_http_server``: the scrape server in a thread of a process that has no web server."""

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

from web_prom.config.addresses import Address
from web_prom.config.exporter_settings import load_exporter_config
from web_prom.config.settings import Config
from web_prom.errors import ConfigError, ListenError
from web_prom.exposition.encoding.encoder import MetricSource
from web_prom.exposition.http import Exposition
from web_prom.http_server.handler import Respond
from web_prom.http_server.listener import address_of, listen
from web_prom.http_server.server import ScrapeServer
from web_prom.http_server.tls import Certificates
from web_prom.multiprocess.writing.activation import share_values
from web_prom.multiprocess.writing.fork_locks import free
from web_prom.posix import at_fork

# The name is visible in a list of threads.
_THREAD_NAME = "web-prom-http"

# Equal to the default of prometheus_client, but not the same object as an equal text in a caller's program.
_DEFAULT_ADDR = ".".join("0000")

# The running servers and their registries.
_servers: WeakKeyDictionary[MetricsServer, MetricSource] = WeakKeyDictionary()


class MetricsServer(ScrapeServer):
    """A server that runs in its own daemon thread. :func:`start_http_server` creates it.

    Its methods may be called from any thread. They do nothing in a forked child process.

    Attributes:
        server_address: The host and the port of the listening socket.
        server_port: The port. If port 0 was requested, the port that was chosen.
    """

    def __init__(self, listener: socket.socket, respond: Respond, certificates: Certificates | None) -> None:
        super().__init__(listener, respond, certificates=certificates)
        self.server_address = address_of(listener)
        self.server_port = self.server_address.port
        self.thread = threading.Thread(target=self.run, name=_THREAD_NAME, daemon=True)

    def shutdown(self) -> None:
        """Stop the server and free its port. Answers that are being built are still sent."""
        self.stop()
        if self.thread is not threading.current_thread():
            self.thread.join()

    def server_close(self) -> None:
        """Stop the server, like :meth:`shutdown`. The server of prometheus_client has both methods."""
        self.shutdown()


def start_http_server(  # noqa: PLR0917 - prometheus_client's parameters, in its order
    port: int,
    addr: str = _DEFAULT_ADDR,
    registry: MetricSource = REGISTRY,
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
    """Answer scrapes from a daemon thread, as prometheus_client's function of the same name does.

    For processes without a web server: a queue worker, a batch job, a script. Every path is answered. If
    PROMETHEUS_MULTIPROC_DIR is set, the answer contains the totals of all processes that share the
    directory. Call the function once, in the parent process. A child process that is forked afterwards
    closes the inherited socket and does not serve. If the server runs no at-fork hooks (uWSGI), the child
    keeps the port open until it ends.

    Settings that are not given as arguments are read from the environment once, during this call:
    ``PROM_CERTFILE``, ``PROM_BEARER_TOKEN_FILE`` and so on, as for the exporter. ``PROM_BIND`` and
    ``PROM_PATH`` are not used here.

    Args:
        port: The port to listen on. 0 chooses a free port, which is then in ``server.server_port``.
        addr: The address to listen on. ``::``, ``""`` and no ``addr`` stand for all addresses of IPv4 and
            IPv6. ``0.0.0.0`` stands for all addresses of IPv4.
        registry: The registry to expose.
        certfile: Serve TLS with this certificate (PEM, with its chain).
        keyfile: The private key, if ``certfile`` does not contain it.
        client_cafile: The CA certificates for client certificates (PEM). As with prometheus_client, clients
            need a certificate only with ``client_auth_required``. With ``PROM_CLIENT_CAFILE`` they always
            need one.
        client_capath: A directory of such CA certificates.
        protocol: The protocol of the :class:`ssl.SSLContext`.
        client_auth_required: Refuse clients without a certificate.
        tls_min_version: The oldest version of TLS that is accepted; 1.2 by default.
        tls_max_version: The newest version of TLS that is accepted.
        bearer_token: The token that a scrape has to send.
        bearer_token_file: A file that contains the token.
        basic_auth: The ``user:password`` that a scrape has to send.
        basic_auth_file: A file that contains ``user:password``.
        allowed_networks: The networks that may scrape.
        trusted_proxies: The proxies whose ``X-Forwarded-For`` is used for ``allowed_networks``.
        allow_scrape: ``callable(environ)``, or its dotted path. A true result allows the scrape.
        collector_timeout: The seconds that custom collectors may take in one scrape; 0 for no limit.

    Returns:
        The server and its thread. ``server.shutdown()`` stops it and frees the port.

    Raises:
        ConfigError: A value is not allowed, or a certificate cannot be used.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
        ListenError: The address cannot be used. Its ``errno`` is that of the system call.
        TypeError: ``registry`` has no method ``collect``.
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
    exposition = Exposition(registry, config)
    server = MetricsServer(_listen(port, addr), exposition.respond, certificates)
    _register_fork_hook()
    _servers[server] = registry
    server.thread.start()
    return server, server.thread


def _load(options: Mapping[str, object]) -> Config:
    """Load the settings.

    An argument also replaces the environment's settings of the same group: the key file of a certificate,
    and the other source of a secret.

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
    return load_exporter_config(environ, options)


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
        # The server of prometheus_client accepts IPv4 on "::" too.
        all_addresses = addr is _DEFAULT_ADDR or addr == "::"
        return listen(Address("" if all_addresses else addr, port))
    except ListenError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        failure = ListenError(
            f"{error}; only one process can listen at a port: call start_http_server once, in the parent and "
            "not in each worker, and set PROMETHEUS_MULTIPROC_DIR so that it answers for all; under gunicorn "
            "set PROM_BIND instead; programs that share nothing need a port each"
        )
        failure.errno = error.errno
        raise failure from error


@functools.cache
def _register_fork_hook() -> None:
    at_fork(after_in_child=_close_inherited_servers)


def _close_inherited_servers() -> None:
    for server, registry in list(_servers.items()):
        server.close_inherited()
        if isinstance(registry, CollectorRegistry):
            free(registry)
    _servers.clear()
