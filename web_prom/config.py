"""Every setting of web-prom: one vocabulary for Flask, Django, plain WSGI and the environment."""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from importlib import import_module
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from web_prom.errors import ConfigError

PREFIX = "PROM_"

DEFAULT_DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
DEFAULT_SIZE_BUCKETS = (100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)

# Labels that the metric contract or the exposition format gives a meaning of its own.
RESERVED_LABELS = frozenset({"method", "route", "status", "exception", "le", "quantile", "pid", "worker"})

# https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_METRIC_PREFIX = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
# https://www.rfc-editor.org/rfc/rfc9110#name-tokens
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})

Network = IPv4Network | IPv6Network
LabelFunction = Callable[[Any, Any], object]

logger = logging.getLogger("web_prom")


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return value.strip().lower() in _TRUE
    raise ValueError("true or false")


def _path(value: object) -> str:
    if isinstance(value, str) and (value == "" or re.fullmatch(r"/[^\s?#]+", value)):
        return value
    raise ValueError("a URL path that begins with '/', such as '/metrics', or '' for none")


def _namespace(value: object) -> str:
    if isinstance(value, str) and (value == "" or _METRIC_PREFIX.fullmatch(value)):
        return value
    raise ValueError("letters, digits and '_', not beginning with a digit")


def _items(value: object) -> list[Any]:
    """Return the items of a sequence, or of a comma-separated string."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping):
        return list(value)
    raise ValueError("a list, or in the environment a comma-separated string")


def _pairs(value: object) -> dict[str, Any]:
    """Return a mapping, or the mapping that a string ``name=value,name=value`` writes."""
    if isinstance(value, str):
        if not all("=" in item for item in _items(value)):
            raise ValueError("a mapping, or in the environment 'name=value,name=value'")
        split = (item.split("=", 1) for item in _items(value))
        value = {name.strip(): text.strip() for name, text in split}
    if not isinstance(value, Mapping):
        raise ValueError("a mapping, or in the environment 'name=value,name=value'")
    for name in value:
        _check_label_name(name)
    return dict(value)


def _check_label_name(name: object) -> None:
    if not isinstance(name, str) or not _LABEL_NAME.fullmatch(name):
        raise ValueError(f"label names of letters, digits and '_', not beginning with a digit (not {name!r})")
    if name.startswith("__") or name in RESERVED_LABELS:
        reserved = ", ".join(sorted(RESERVED_LABELS))
        raise ValueError(f"label names that are not reserved; {name!r} is, as are names with '__' first, {reserved}")


def _constant_labels(value: object) -> dict[str, str]:
    return {name: str(text) for name, text in _pairs(value).items()}


def _extra_labels(value: object) -> dict[str, LabelFunction]:
    return {name: _callable(function) for name, function in _pairs(value).items()}


def _callable(value: object) -> Callable[..., Any]:
    if callable(value):
        return value
    if isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)*[:.]\w+", value):
        module, name = re.split(r"[:.](?=\w+$)", value)
        found = getattr(import_module(module), name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    raise ValueError("a callable, or the dotted path of one that can be imported")


def _optional_callable(value: object) -> Callable[..., Any] | None:
    return None if value is None else _callable(value)


def _buckets(value: object) -> tuple[float, ...]:
    allowed = "upper bounds as numbers in ascending order, at least one, such as 0.1, 0.5, 1"
    try:
        bounds = [float(item) for item in _items(value)]
    except (TypeError, ValueError):
        raise ValueError(allowed) from None
    if bounds and bounds[-1] == math.inf:
        bounds.pop()
    if not bounds or not all(map(math.isfinite, bounds)) or bounds != sorted(set(bounds)):
        raise ValueError(allowed)
    return tuple(bounds)


def _methods(value: object) -> tuple[str, ...]:
    methods = _items(value)
    if all(isinstance(item, str) and _METHOD.fullmatch(item) for item in methods):
        return tuple(methods)
    raise ValueError("HTTP method names, such as PROPFIND, LOCK")


def _routes(value: object) -> tuple[str, ...]:
    routes = _items(value)
    if all(isinstance(item, str) and item.startswith("/") for item in routes):
        return tuple(routes)
    raise ValueError("route templates that begin with '/', such as /health or /internal/*")


def _positive(value: object) -> int:
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        number = 0
    if number < 1 or isinstance(value, bool | float):
        raise ValueError("a whole number of at least 1")
    return int(number)


def _secret(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError("a string that is not empty")


def _credentials(value: object) -> str | None:
    if value is None or (isinstance(value, str) and re.fullmatch(r"[^:]+:.+", value)):
        return value
    raise ValueError("'user:password'")


def _secret_file(value: object) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("the path of a file that holds the secret")
    path = Path(value)
    try:
        content = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"a file that this process can read ({error})") from None
    if not content:
        raise ValueError("a file that is not empty")
    return path


def _networks(value: object) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(str(item)) for item in _items(value))
    except ValueError as error:
        raise ValueError(f"networks such as 10.0.0.0/8, 127.0.0.1 or fd00::/8 ({error})") from None


def _setting(default: object, parse: Callable[[object], Any], meaning: str, *, secret: bool = False) -> Any:
    """Declare one setting: its default, what turns a raw value into it, and what it means to a user."""
    metadata = {"parse": parse, "meaning": meaning, "secret": secret}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one application, checked and immutable.

    Build it with :meth:`load`, which reads the three sources and checks every value; the plain
    constructor takes values that are checked already. Instances share no state and may be used from
    any thread.
    """

    enabled: bool = _setting(True, _boolean, "Measure this application at all.")
    path: str = _setting("/metrics", _path, "Where the application answers a scrape; empty: nowhere.")
    namespace: str = _setting("", _namespace, "Prefix of the `http_*` metric names.")
    constant_labels: Mapping[str, str] = _setting({}, _constant_labels, "Labels with one fixed value.")
    extra_labels: Mapping[str, LabelFunction] = _setting(
        {}, _extra_labels, "Labels computed from each request: name to `callable(request, response)`."
    )
    duration_buckets: tuple[float, ...] = _setting(
        DEFAULT_DURATION_BUCKETS, _buckets, "Upper bounds of the duration histogram, in seconds."
    )
    duration_status: bool = _setting(False, _boolean, "Add the `status` label to the duration histogram.")
    status_classes: bool = _setting(False, _boolean, "Record `2xx` instead of `200`.")
    extra_methods: tuple[str, ...] = _setting(
        (), _methods, "HTTP methods to tell apart besides the standard ones."
    )
    exclude: tuple[str, ...] = _setting(
        (), _routes, "Route templates that are not measured; `/admin/*` excludes everything below `/admin/`."
    )
    max_label_sets: int = _setting(
        10_000, _positive, "Label sets in each family, after which `_overflow` takes the rest."
    )
    request_size: bool = _setting(False, _boolean, "Measure the bytes of request bodies that were read.")
    response_size: bool = _setting(False, _boolean, "Measure the bytes of response bodies that were sent.")
    size_buckets: tuple[float, ...] = _setting(
        DEFAULT_SIZE_BUCKETS, _buckets, "Upper bounds of both size histograms, in bytes."
    )
    first_byte: bool = _setting(False, _boolean, "Measure the time to the first byte of the response.")
    queue_time: bool = _setting(False, _boolean, "Measure the time since the proxy's `X-Request-Start`.")
    bearer_token: str | None = _setting(None, _secret, "Token that a scrape must bear.", secret=True)
    bearer_token_file: Path | None = _setting(None, _secret_file, "File that holds the bearer token.")
    basic_auth: str | None = _setting(
        None, _credentials, "`user:password` that a scrape must give.", secret=True
    )
    basic_auth_file: Path | None = _setting(None, _secret_file, "File that holds `user:password`.")
    allowed_networks: tuple[Network, ...] = _setting((), _networks, "Networks that may scrape.")
    trusted_proxies: tuple[Network, ...] = _setting(
        (), _networks, "Proxies whose `X-Forwarded-For` is believed for `PROM_ALLOWED_NETWORKS`."
    )
    allow_scrape: Callable[[Mapping[str, Any]], object] | None = _setting(
        None, _optional_callable, "`callable(environ)`: true where the scrape may go on."
    )
    install_middleware: bool = _setting(
        True, _boolean, "Django: put the middleware first in `MIDDLEWARE` when it is not there."
    )

    @classmethod
    def load(
        cls,
        options: Mapping[str, object] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Config:
        """Read and check the settings; the first source that names one wins.

        Args:
            options: Explicit arguments, by field name (``duration_buckets``).
            settings: A framework's configuration, by key (``PROM_DURATION_BUCKETS``); other keys are ignored.
            environ: The process environment, by the same keys, with strings as values.

        Raises:
            ConfigError: An option or a ``PROM_`` key of ``settings`` is unknown, or a value is not
                allowed. An unknown key of ``environ`` is logged as a warning instead: Kubernetes puts
                ``PROM_PORT`` there when a service is called ``prom``.
        """
        raw: dict[str, tuple[str, object]] = {}
        for key in _prom_keys(environ):
            name = key.removeprefix(PREFIX).lower()
            if name in FIELDS:
                raw[name] = (f"{key} in the environment", (environ or {})[key])
            else:
                logger.warning("%s in the environment is not a setting of web-prom and is ignored", key)
        for key in _prom_keys(settings):
            raw[_known(key.removeprefix(PREFIX).lower(), key)] = (key, (settings or {})[key])
        for name, value in (options or {}).items():
            raw[_known(name, f"option {name!r}")] = (f"option {name!r}", value)
        config = cls(**{name: _parse(FIELDS[name], source, value) for name, (source, value) in raw.items()})
        config._check_together()
        return config

    def _check_together(self) -> None:
        both = self.constant_labels.keys() & self.extra_labels.keys()
        if both:
            raise ConfigError(
                f"label {sorted(both)[0]!r} is in PROM_CONSTANT_LABELS and in PROM_EXTRA_LABELS; "
                "keep it in one of them"
            )
        for name in ("bearer_token", "basic_auth"):
            if getattr(self, name) and getattr(self, f"{name}_file"):
                key = PREFIX + name.upper()
                raise ConfigError(f"{key} and {key}_FILE are both set; keep one of them")


FIELDS: Mapping[str, Field[Any]] = {item.name: item for item in fields(Config)}
"""Every setting by field name; the key in settings and environment is ``PROM_`` + the name in capitals."""


def _prom_keys(source: Mapping[str, object] | None) -> list[str]:
    return [key for key in source or {} if isinstance(key, str) and key.startswith(PREFIX)]


def _known(name: str, shown: str) -> str:
    if name in FIELDS:
        return name
    close = difflib.get_close_matches(name, FIELDS, n=1)
    hint = f" (did you mean {PREFIX}{close[0].upper()}?)" if close else ""
    known = ", ".join(PREFIX + item.upper() for item in FIELDS)
    raise ConfigError(f"{shown} is not a setting of web-prom{hint}; the settings are {known}")


def _parse(setting: Field[Any], source: str, value: object) -> Any:
    try:
        return setting.metadata["parse"](value)
    except (ValueError, ImportError) as error:
        shown = "a value that is not shown" if setting.metadata["secret"] else repr(value)
        raise ConfigError(f"{source} is {shown}; allowed: {error}") from None
