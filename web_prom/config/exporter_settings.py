"""The settings that concern the exporter, and how they are named on its command line."""

from __future__ import annotations

from collections.abc import Mapping

from web_prom.config.settings import FIELDS, PREFIX, Config

IMPORT_PATH = "WEB_PROM_IMPORT_PATH"
"""The environment variable that tells the exporter where its server imports from."""

OPTIONS: Mapping[str, tuple[str, str]] = {
    "bind": ("HOST:PORT", "where to listen: host:port, [IPv6]:port, or :port for every address"),
    "path": ("PATH", "where the metrics are; default: /metrics"),
    "certfile": ("FILE", "serve TLS with this certificate (PEM, with its chain)"),
    "keyfile": ("FILE", "the key to it, if it is in a file of its own"),
    "client_cafile": ("FILE", "ask for a client certificate that one of these signed (PEM)"),
    "bearer_token_file": ("FILE", "ask for the bearer token in this file"),
    "basic_auth_file": ("FILE", "ask for basic authentication with the user:password in this file"),
    "allowed_networks": ("NETWORKS", "answer these alone, such as 10.0.0.0/8,127.0.0.1"),
    "trusted_proxies": ("NETWORKS", "believe the X-Forwarded-For of these"),
    "allow_scrape": ("CALLABLE", "ask this callable(environ), by its dotted path"),
}
"""The command line's options, by field of Config, each with its placeholder and help."""

# A secret on a command line is in everybody's process list; only who serves from a thread has collectors.
_IN_THE_ENVIRONMENT_ONLY = frozenset({"bearer_token", "basic_auth", "enabled", "collector_timeout"})


def load(environ: Mapping[str, str], options: Mapping[str, object] | None = None) -> Config:
    """Read what concerns the exporter; settings of the application are left alone.

    ``PROM_EXTRA_LABELS`` may name callables that only the application can import.

    Raises:
        ConfigError: A value is not allowed.
    """
    concerned = OPTIONS.keys() | _IN_THE_ENVIRONMENT_ONLY
    others = {PREFIX + name.upper() for name in FIELDS if name not in concerned}
    return Config.load(options, environ={key: text for key, text in environ.items() if key not in others})


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    return host in ("localhost", "::1") or host.startswith("127.")
