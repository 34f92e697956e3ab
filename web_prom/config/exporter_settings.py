"""The settings of the exporter, and their options on its command line."""

from __future__ import annotations

from collections.abc import Mapping

from web_prom.config.raw_values import PREFIX
from web_prom.config.settings import FIELDS, Config

IMPORT_PATH_VARIABLE = "WEB_PROM_IMPORT_PATH"
"""The environment variable that gives the exporter the import path of its server."""

OPTIONS: Mapping[str, tuple[str, str]] = {
    "bind": ("HOST:PORT", "where to listen: host:port, [IPv6]:port, or :port for all addresses"),
    "path": ("PATH", "the path of the metrics; default: /metrics"),
    "certfile": ("FILE", "serve TLS with this certificate (PEM, with its chain)"),
    "keyfile": ("FILE", "the key of the certificate, if it is in another file"),
    "client_cafile": ("FILE", "require a client certificate that one of these signed (PEM)"),
    "bearer_token_file": ("FILE", "require the bearer token in this file"),
    "basic_auth_file": ("FILE", "require basic authentication with the user:password in this file"),
    "allowed_networks": ("NETWORKS", "allow only these, for example 10.0.0.0/8,127.0.0.1"),
    "trusted_proxies": ("NETWORKS", "trust the X-Forwarded-For header of these"),
    "allow_scrape": ("CALLABLE", "call this callable(environ) for each scrape, by its dotted path"),
}
"""The options of the command line by field of Config, each with its placeholder and help."""

# Other users can see a secret on a command line in the list of processes. Only an exporter in a thread has
# custom collectors.
_ENVIRONMENT_ONLY = frozenset(
    {"bearer_token", "basic_auth", "enabled", "collector_timeout", "runtime", "live", "live_path"}
)


def load_exporter_config(environ: Mapping[str, str], options: Mapping[str, object] | None = None) -> Config:
    """Read the settings of the exporter. Settings of the application are ignored.

    ``PROM_EXTRA_LABELS`` may name callables that only the application can import.

    Raises:
        ConfigError: A value is not allowed.
    """
    used = OPTIONS.keys() | _ENVIRONMENT_ONLY
    others = {PREFIX + name.upper() for name in FIELDS if name not in used}
    return Config.load(options, environ={key: text for key, text in environ.items() if key not in others})
