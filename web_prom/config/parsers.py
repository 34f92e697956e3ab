"""Parsers of settings: each returns the checked value of a raw value.

A parser raises ValueError with a text that says which values are allowed.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from web_prom.config.client_labels import parse_header_label
from web_prom.config.headers import is_token
from web_prom.errors import ConfigError
from web_prom.hooks import ExtraLabel, ScrapeCheck, is_sync_callable
from web_prom.metrics.conventions import NAMINGS
from web_prom.metrics.labels import sanitize_label_value

logger = logging.getLogger("web_prom")

RESERVED_LABELS = frozenset({"method", "route", "status", "exception", "le", "quantile", "pid", "worker"})
"""Label names that the families of web-prom or the text format use."""

# https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels
# Metric names may also contain colons, but these are for the recording rules of users.
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

# Of a route template. The converter of a parameter can have a regular expression as its argument.
_PARAMETER = re.compile(r"<[^<>]*>|\{[^{}]*\}")
# The only usual sign of these is a last segment "*".
_REGEX_SIGN = re.compile(r"\\|\(\?|\$$|[\[|]|\.\+|[^/]\*|\*.")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


def parse_boolean(value: object) -> bool:
    """Accept a bool, or a word for one."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return value.strip().lower() in _TRUE
    raise ValueError("true or false")


def parse_auto_boolean(value: object) -> bool | Literal["auto"]:
    """Accept ``auto``, or a boolean as text or object."""
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    try:
        return parse_boolean(value)
    except ValueError:
        raise ValueError("'auto', true or false") from None


def parse_url_path(value: object) -> str:
    """Accept a URL path, or an empty string for none."""
    if isinstance(value, str) and (value == "" or re.fullmatch(r"/[^\s?#]+", value)):
        return value
    raise ValueError("a URL path that begins with '/', for example '/metrics', or '' for none")


def parse_live_path(value: object) -> str:
    """Accept a URL path that has a name, without characters that a URL encodes."""
    if isinstance(value, str) and re.fullmatch(r"(/[A-Za-z0-9_.~-]+)+/?", value):
        return value.rstrip("/")
    raise ValueError("a URL path that begins with '/' and has a name, for example '/live'")


def parse_naming(value: object) -> str:
    """Accept the name of a naming."""
    if isinstance(value, str) and value in NAMINGS:
        return value
    raise ValueError(" or ".join(map(repr, NAMINGS)))


def parse_namespace(value: object) -> str:
    """Accept a prefix of metric names."""
    if isinstance(value, str) and (value == "" or _LABEL_NAME.fullmatch(value)):
        return value
    raise ValueError("letters, digits and '_', not beginning with a digit")


def parse_constant_labels(value: object) -> dict[str, str]:
    """Accept label names with their values."""
    labels = {name: str(text) for name, text in _parse_mapping(value).items()}
    for name, text in labels.items():
        if text != sanitize_label_value(text):
            raise ValueError(
                "values that UTF-8 can encode, without control characters other than a line feed "
                f"(not that of {name!r})"
            )
    return labels


def parse_extra_labels(value: object) -> dict[str, ExtraLabel]:
    """Accept label names with the callables that compute the values, their dotted paths, or headers."""
    return {name: _parse_extra_label(name, function) for name, function in _parse_mapping(value).items()}


def _parse_extra_label(name: str, value: object) -> ExtraLabel:
    if isinstance(value, str) and value.startswith("header:"):
        try:
            return parse_header_label(value)
        except ConfigError as error:
            raise ConfigError(f"label {name!r}: {error}") from None
    try:
        return _parse_callable(value, "request", "response")
    except ValueError as error:
        raise ValueError(
            f"{error}; or a header, for example 'header:X-API-Version:1|2|3' (label {name!r})"
        ) from None


def parse_scrape_check(value: object) -> ScrapeCheck | None:
    """Accept a callable with one argument, the dotted path of one, or None."""
    return None if value is None else _parse_callable(value, "environ")


def parse_buckets(value: object) -> tuple[float, ...]:
    """Accept ascending upper bounds from 0 on. ``+Inf`` at the end may be omitted."""
    allowed = "upper bounds as numbers from 0 on in ascending order, at least one, for example 0.1, 0.5, 1"
    try:
        bounds = parse_bounds(value)
    except ValueError:
        raise ValueError(allowed) from None
    # prometheus_client omits the sum of a histogram with a negative bound.
    if bounds[0] < 0:
        raise ValueError(allowed)
    return bounds


def parse_bounds(value: object) -> tuple[float, ...]:
    """Accept ascending upper bounds of any sign. ``+Inf`` at the end may be omitted."""
    allowed = "upper bounds as numbers in ascending order, at least one, for example 1, 2, 5"
    try:
        bounds = [float(item) for item in parse_items(value)]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(allowed) from None
    if bounds and bounds[-1] == math.inf:
        bounds.pop()
    if not bounds or not all(map(math.isfinite, bounds)) or bounds != sorted(set(bounds)):
        raise ValueError(allowed)
    return tuple(bounds)


def parse_methods(value: object) -> tuple[str, ...]:
    """Accept names of HTTP methods."""
    methods = parse_items(value)
    if all(isinstance(item, str) and is_token(item) for item in methods):
        return tuple(methods)
    raise ValueError("names of HTTP methods, for example PROPFIND, LOCK")


def parse_routes(value: object) -> tuple[str, ...]:
    """Accept route templates, with ``/*`` at the end for all below. Log those that may match nothing.

    The settings of other libraries are regular expressions. Some templates look like one, too.
    """
    routes = parse_items(value)
    if not all(isinstance(item, str) and item.startswith("/") for item in routes):
        raise ValueError("route templates that begin with '/', for example /health or /internal/*")
    for route in filter(_looks_like_regex, routes):
        logger.warning(
            "PROM_EXCLUDE has %r, which looks like a regular expression; it excludes only a route template "
            "that is exactly this text; write the template, for example /health or /users/<id>, or "
            "/internal/* for all below /internal/",
            route,
        )
    return tuple(routes)


def _looks_like_regex(route: str) -> bool:
    outside, count = route, 1
    while count:  # a parameter can have one inside
        outside, count = _PARAMETER.subn("x", outside)
    return bool(_REGEX_SIGN.search(outside))


def parse_model_names(value: object) -> tuple[str, ...]:
    """Accept names of Django's models: the label of the app, a dot, the name of the class."""
    names = parse_items(value)
    if all(isinstance(item, str) and re.fullmatch(r"\w+\.\w+", item) for item in names):
        return tuple(names)
    raise ValueError("names of models with the labels of their apps, for example shop.Order, auth.User")


def parse_positive_integer(value: object) -> int:
    """Accept a whole number of at least 1."""
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        number = 0
    if number < 1 or isinstance(value, bool | float):
        raise ValueError("a whole number of at least 1")
    return int(number)


def parse_optional_positive_integer(value: object) -> int | None:
    """Accept a whole number of at least 1, or None."""
    return None if value is None else parse_positive_integer(value)


def parse_timeout(value: object) -> float:
    """Accept a number of seconds. 0 means no limit."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= 3600 or isinstance(value, bool):
        raise ValueError("a number of seconds from 0 to 3600, 0 for no limit")
    return number


def parse_file(value: object) -> Path | None:
    """Accept the path of a file, or None.

    The file is not read here: perhaps only the process that uses it is allowed to read it.
    """
    if value is None:
        return None
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("the path of a file")
    return Path(value)


def parse_items(value: object) -> list[Any]:
    """Return the items of a sequence or of a comma-separated string."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping):
        return list(value)
    raise ValueError("a list, or in the environment a comma-separated string")


def _parse_mapping(value: object) -> dict[str, Any]:
    """Return a mapping from label names, also from a string ``name=value,name=value``."""
    if isinstance(value, str):
        if not all("=" in item for item in parse_items(value)):
            raise ValueError("a mapping, or in the environment 'name=value,name=value'")
        split = (item.split("=", 1) for item in parse_items(value))
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
        raise ValueError(
            f"label names that are not reserved; {name!r} is reserved, as are names that begin with '__', "
            f"and {reserved}"
        )


def _parse_callable(value: object, *arguments: str) -> Callable[..., Any]:
    call = ", ".join(arguments)
    allowed = (
        f"a callable that is not async and no generator, of ({call}), or the dotted path of one that can be "
        "imported"
    )
    found: Any = value
    if isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)*[:.]\w+", value):
        module, name = re.split(r"[:.](?=\w+$)", value)
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{allowed} ({error})") from None
    if not is_sync_callable(found, len(arguments)):
        raise ValueError(allowed)
    return found  # type: ignore[no-any-return]
