"""All settings of web-prom. Flask, Django, WSGI, ASGI and the environment use the same names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from web_prom.config import addresses, credentials, networks, parsers
from web_prom.config.addresses import Address
from web_prom.config.consistency import check_together
from web_prom.config.credentials import Secret
from web_prom.config.naming_defaults import naming_defaults
from web_prom.config.networks import Network
from web_prom.config.raw_values import check_value, read_raw_values
from web_prom.hooks import ExtraLabel, ScrapeCheck
from web_prom.metrics.conventions import DEFAULT_SIZE_BUCKETS, NAMINGS, PROMETHEUS

DEFAULT_DURATION_BUCKETS = PROMETHEUS.duration_buckets


def _setting(
    default: object,
    parse: Callable[[object], Any],
    meaning: str,
    *,
    secret: bool = False,
    is_printable: Callable[[object], bool] | None = None,
) -> Any:
    """Declare one setting.

    Args:
        default: The value if no source has the setting.
        parse: Returns the checked value of a raw value, or raises ValueError.
        meaning: The description for users.
        secret: Whether the value is a secret. Then no message contains it.
        is_printable: Returns whether a message may contain a raw value.
    """
    metadata = {
        "parse": parse,
        "meaning": meaning,
        "secret": secret,
        "is_printable": is_printable or (lambda value: not secret),
    }
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The checked settings of one application. Immutable.

    Create it with :meth:`load`, which reads the three sources and checks every value. The constructor expects
    checked values. Instances share no state and may be used from any thread.
    """

    enabled: bool = _setting(True, parsers.parse_boolean, "Measure this application.")
    path: str = _setting(
        "/metrics", parsers.parse_url_path, "Path at which the application answers scrapes; empty: none."
    )
    naming: str = _setting(
        "prometheus",
        parsers.parse_naming,
        "Names of the request families: `prometheus`, `opentelemetry`, or those of another library, for a "
        "migration: `prometheus-flask-exporter`, `django-prometheus`, `starlette-exporter`, "
        "`fastapi-instrumentator`.",
    )
    namespace: str = _setting(
        "", parsers.parse_namespace, "Prefix of the names of the families of requests and WebSockets."
    )
    constant_labels: Mapping[str, str] = _setting(
        {}, parsers.parse_constant_labels, "Labels with one fixed value."
    )
    extra_labels: Mapping[str, ExtraLabel] = _setting(
        {},
        parsers.parse_extra_labels,
        "Labels computed from each request: name to `callable(request, response)`, or "
        "`header:X-API-Version:1|2|3`.",
    )
    duration_buckets: tuple[float, ...] = _setting(
        DEFAULT_DURATION_BUCKETS, parsers.parse_buckets, "Upper bounds of the duration histogram, in seconds."
    )
    duration_status: bool = _setting(
        False, parsers.parse_boolean, "Add the `status` label to the duration histogram."
    )
    status_classes: bool = _setting(False, parsers.parse_boolean, "Record `2xx` instead of `200`.")
    extra_methods: tuple[str, ...] = _setting(
        (), parsers.parse_methods, "HTTP methods to record in addition to the standard ones."
    )
    exclude: tuple[str, ...] = _setting(
        (),
        parsers.parse_routes,
        "Route templates that are not measured; `/admin/*` excludes everything below `/admin/`.",
    )
    max_label_sets: int = _setting(
        10_000,
        parsers.parse_positive_integer,
        "Label sets of each family in one process, or with shared values in one slot; further ones are "
        "counted under `_overflow`.",
    )
    request_size: bool = _setting(
        False, parsers.parse_boolean, "Measure the bytes of request bodies that were read."
    )
    response_size: bool = _setting(
        False, parsers.parse_boolean, "Measure the bytes of response bodies that were sent."
    )
    size_buckets: tuple[float, ...] = _setting(
        DEFAULT_SIZE_BUCKETS, parsers.parse_buckets, "Upper bounds of both size histograms, in bytes."
    )
    first_byte: bool = _setting(
        False, parsers.parse_boolean, "Measure the time to the first byte of the response."
    )
    queue_time: bool | Literal["auto"] = _setting(
        "auto",
        parsers.parse_auto_boolean,
        "Measure how long requests wait for a worker: `auto` where that can be known, `True` from the start, "
        "`False` never.",
    )
    worker_capacity: int | None = _setting(
        None,
        parsers.parse_optional_positive_integer,
        "How many requests a worker serves at once, if the server's configuration does not contain it.",
    )
    runtime: bool = _setting(
        False,
        parsers.parse_boolean,
        "Measure the interpreter, its garbage collector, threads and page faults of each worker.",
    )
    database: bool = _setting(
        False,
        parsers.parse_boolean,
        "Measure database queries, connection pools and transactions, and the queries of each route.",
    )
    cache: bool = _setting(
        False, parsers.parse_boolean, "Measure the operations of the caches of Django and of Flask-Caching."
    )
    http_client: bool = _setting(
        False,
        parsers.parse_boolean,
        "Measure the outgoing HTTP requests of requests, httpx and urllib3 in the process.",
    )
    live: bool = _setting(
        False,
        parsers.parse_boolean,
        "Show the live page: what the service does now and did in the last 15 minutes.",
    )
    live_path: str = _setting(
        "/live", parsers.parse_live_path, "Path of the live page. Its files are below this path."
    )
    zero_errors: bool = _setting(
        True,
        parsers.parse_boolean,
        "Create the counter of server errors of a route at 0, so that `increase()` sees the first error.",
    )
    bearer_token: Secret | None = _setting(
        None, credentials.parse_secret, "Token that a scrape must send.", secret=True
    )
    bearer_token_file: Path | None = _setting(
        None,
        credentials.parse_secret_file,
        "File that holds the bearer token.",
        is_printable=credentials.looks_like_path,
    )
    basic_auth: Secret | None = _setting(
        None, credentials.parse_credentials, "`user:password` that a scrape must send.", secret=True
    )
    basic_auth_file: Path | None = _setting(
        None,
        credentials.parse_credentials_file,
        "File that holds `user:password`.",
        is_printable=credentials.looks_like_path,
    )
    allowed_networks: tuple[Network, ...] = _setting((), networks.parse_networks, "Networks that may scrape.")
    trusted_proxies: tuple[Network | str, ...] = _setting(
        (),
        networks.parse_proxies,
        "Proxies whose `X-Forwarded-For` is used for `PROM_ALLOWED_NETWORKS`; `unix` for a proxy that "
        "connects through a UNIX socket.",
    )
    allow_scrape: ScrapeCheck | None = _setting(
        None,
        parsers.parse_scrape_check,
        "`callable(environ)` that returns true if the scrape is allowed.",
    )
    collector_timeout: float = _setting(
        5, parsers.parse_timeout, "Seconds that custom collectors may take in a scrape; 0: no limit."
    )
    models: tuple[str, ...] = _setting(
        (),
        parsers.parse_model_names,
        "Django: models whose created, changed and deleted objects are counted, for example `shop.Order`.",
    )
    migrations: bool = _setting(
        False, parsers.parse_boolean, "Django: show how many migrations each database has and lacks."
    )
    templates: bool = _setting(
        False, parsers.parse_boolean, "Django and Flask: measure how long templates are rendered."
    )
    install_middleware: bool = _setting(
        True, parsers.parse_boolean, "Django: put the middleware first in `MIDDLEWARE` if it is not there."
    )
    instrument: bool = _setting(
        False,
        parsers.parse_boolean,
        "gunicorn: measure the application that it loads, without a change of the application; in the "
        "environment only.",
    )
    bind: Address | None = _setting(
        None,
        addresses.parse_address,
        "Address and port of the exporter, a separate process; in the environment only.",
    )
    certfile: Path | None = _setting(
        None, parsers.parse_file, "The exporter's TLS certificate; in the environment only."
    )
    keyfile: Path | None = _setting(
        None,
        parsers.parse_file,
        "The certificate's key, if `PROM_CERTFILE` does not contain it; in the environment only.",
    )
    client_cafile: Path | None = _setting(
        None,
        parsers.parse_file,
        "Authorities that sign the client certificates of scrapers; in the environment only.",
    )

    @classmethod
    def load(
        cls,
        options: Mapping[str, object] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Config:
        """Read and check the settings. If several sources have a setting, the first source wins.

        Args:
            options: Explicit arguments, by field name (``duration_buckets``).
            settings: A framework's configuration, by key (``PROM_DURATION_BUCKETS``). Other keys are ignored.
            environ: The environment of the process, by the same keys, with strings as values.

        Raises:
            ConfigError: An option or a ``PROM_`` key of ``settings`` is unknown, or a value is not
                allowed. An unknown key of ``environ`` is only logged as a warning, because Kubernetes sets
                ``PROM_PORT`` for a service with the name ``prom``.
        """
        raw = read_raw_values(FIELDS, options or {}, settings or {}, environ or {})
        # A debug page may show the local variables of a traceback.
        del options, settings, environ
        checked = {name: check_value(FIELDS[name], source, value) for name, (source, value) in raw.items()}
        naming = NAMINGS[checked.get("naming", cls.naming)]
        config = cls(**naming_defaults(naming, checked))
        check_together(config)
        return config


FIELDS: Mapping[str, Field[Any]] = {item.name: item for item in fields(Config)}
"""All settings by field name. The key in settings and environment is ``PROM_`` and the name in capitals."""
