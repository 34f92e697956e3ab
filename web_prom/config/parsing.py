"""From the raw value of a setting to a checked one; each raises ValueError saying what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from inspect import iscoroutinefunction
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, NamedTuple

from web_prom.config.secret import Secret
from web_prom.metrics.conventions import NAMINGS
from web_prom.metrics.labels import sanitize_label_value

Network = IPv4Network | IPv6Network
LabelFunction = Callable[[Any, Any], object]

UNIX = "unix"
"""The word for a proxy that connects through a UNIX socket, which has no address."""


class Address(NamedTuple):
    """Where a server listens.

    Attributes:
        host: A name or an address; empty for every address of the machine.
        port: The port; 0 for one that is free.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# Labels that the metric contract or the exposition format gives a meaning of its own.
RESERVED_LABELS = frozenset({"method", "route", "status", "exception", "le", "quantile", "pid", "worker"})

# https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels
# A metric name may have colons too, which are reserved for the recording rules of users.
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# https://www.rfc-editor.org/rfc/rfc9110#name-tokens
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


def boolean(value: object) -> bool:
    """Accept a bool, or a word for one."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return value.strip().lower() in _TRUE
    raise ValueError("true or false")


def path(value: object) -> str:
    """Accept a URL path, or an empty string for none."""
    if isinstance(value, str) and (value == "" or re.fullmatch(r"/[^\s?#]+", value)):
        return value
    raise ValueError("a URL path that begins with '/', such as '/metrics', or '' for none")


def naming(value: object) -> str:
    """Accept the name of a naming."""
    if isinstance(value, str) and value in NAMINGS:
        return value
    raise ValueError(" or ".join(map(repr, NAMINGS)))


def namespace(value: object) -> str:
    """Accept what may begin a metric name."""
    if isinstance(value, str) and (value == "" or _LABEL_NAME.fullmatch(value)):
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
        raise ValueError(
            f"label names that are not reserved; {name!r} is, as are names with '__' first, {reserved}"
        )


def constant_labels(value: object) -> dict[str, str]:
    """Accept label names with their values."""
    labels = {name: str(text) for name, text in _pairs(value).items()}
    for name, text in labels.items():
        if text != sanitize_label_value(text):
            raise ValueError(f"values that UTF-8 can encode (not that of {name!r})")
    return labels


def extra_labels(value: object) -> dict[str, LabelFunction]:
    """Accept label names with the callables, or their dotted paths, that give the values."""
    return {name: _callable(function) for name, function in _pairs(value).items()}


def _callable(value: object) -> Callable[..., Any]:
    allowed = "a callable that is not async, or the dotted path of one that can be imported"
    found: Any = value
    if isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)*[:.]\w+", value):
        module, name = re.split(r"[:.](?=\w+$)", value)
        try:
            found = getattr(import_module(module), name, None)
        except ImportError as error:
            raise ValueError(f"{allowed} ({error})") from None
    # A coroutine is true whatever comes of it: it would let everybody scrape.
    if not callable(found) or iscoroutinefunction(found):
        raise ValueError(allowed)
    return found  # type: ignore[no-any-return]


def optional_callable(value: object) -> Callable[..., Any] | None:
    """Accept a callable, the dotted path of one, or None."""
    return None if value is None else _callable(value)


def buckets(value: object) -> tuple[float, ...]:
    """Accept ascending upper bounds; ``+Inf`` at the end may be left out."""
    allowed = "upper bounds as numbers from 0 on in ascending order, at least one, such as 0.1, 0.5, 1"
    try:
        bounds = [float(item) for item in _items(value)]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(allowed) from None
    if bounds and bounds[-1] == math.inf:
        bounds.pop()
    # prometheus_client leaves a histogram's sum out where a bound is negative.
    finite = bool(bounds) and all(map(math.isfinite, bounds))
    if not finite or bounds[0] < 0 or bounds != sorted(set(bounds)):
        raise ValueError(allowed)
    return tuple(bounds)


def methods(value: object) -> tuple[str, ...]:
    """Accept names of HTTP methods."""
    methods = _items(value)
    if all(isinstance(item, str) and _METHOD.fullmatch(item) for item in methods):
        return tuple(methods)
    raise ValueError("HTTP method names, such as PROPFIND, LOCK")


def routes(value: object) -> tuple[str, ...]:
    """Accept route templates."""
    routes = _items(value)
    if all(isinstance(item, str) and item.startswith("/") for item in routes):
        return tuple(routes)
    raise ValueError("route templates that begin with '/', such as /health or /internal/*")


def positive(value: object) -> int:
    """Accept a whole number of at least 1."""
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        number = 0
    if number < 1 or isinstance(value, bool | float):
        raise ValueError("a whole number of at least 1")
    return int(number)


def seconds(value: object) -> float:
    """Accept a number of seconds, of which 0 stands for no limit."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= 3600 or isinstance(value, bool):
        raise ValueError("a number of seconds from 0 to 3600, 0 for no limit")
    return number


def secret(value: object) -> Secret | None:
    """Accept a string that is not empty, a :class:`Secret`, or None."""
    if value is None:
        return None
    found = _secret(value)
    if found is None or not found.reveal().strip():
        raise ValueError("a string that is not empty")
    return found


def credentials(value: object) -> Secret | None:
    """Accept ``user:password`` as a string or a :class:`Secret`, or None."""
    if value is None:
        return None
    found = _secret(value)
    if found is None or not re.fullmatch(r"[^:]+:.+", found.reveal()):
        raise ValueError("'user:password'")
    return found


def _secret(value: object) -> Secret | None:
    if isinstance(value, Secret):
        return value
    return Secret(value) if isinstance(value, str) else None


def secret_text(path: Path) -> str:
    """Return the secret that a file holds, without white space around it and without a byte order mark.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: It holds something else than UTF-8.
    """
    return path.read_text("utf-8-sig").strip()


def looks_like_path(value: object) -> bool:
    """Tell whether a value is a path rather than the secret itself, written in the place of its path.

    A path begins with a folder that exists, or is plain: absolute, of two names at least, in small letters.
    """
    if not isinstance(value, str | Path) or len(str(value)) > 4096 or "\0" in str(value):
        return False
    if isinstance(value, Path) or re.fullmatch(r"(/[a-z0-9_.-]{1,64}){2,}", value):
        return True
    folders = Path(value).parent.parts
    first = Path(*folders[: 2 if Path(value).is_absolute() else 1])
    try:
        return len(first.parts) > Path(value).is_absolute() and first.is_dir()
    except (OSError, ValueError):
        return False


def secret_file(value: object) -> Path | None:
    """Accept the path of a readable file that is not empty, or None."""
    if value is None:
        return None
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("the path of a file that holds the secret")
    path = Path(value)
    try:
        content = secret_text(path)
    except OSError as error:
        # Without the path, which may be the secret itself.
        raise ValueError(f"the path of a file that this process can read ({error.strerror})") from None
    except ValueError:
        raise ValueError("the path of a file that holds the secret in UTF-8") from None
    if not content:
        raise ValueError("a file that is not empty")
    return path


def credentials_file(value: object) -> Path | None:
    """Accept the path of a readable file that holds ``user:password``, or None."""
    path = secret_file(value)
    if path is not None and not re.fullmatch(r"[^:]+:.+", secret_text(path)):
        raise ValueError("a file that holds 'user:password'")
    return path


def networks(value: object) -> tuple[Network, ...]:
    """Accept networks or single addresses."""
    if isinstance(value, str) and not _items(value):
        # A variable that was never filled in would open what it was meant to close.
        raise ValueError("networks such as 10.0.0.0/8, 127.0.0.1 or fd00::/8, at least one")
    try:
        return tuple(_network(item) for item in _items(value))
    except ValueError as error:
        raise ValueError(f"networks such as 10.0.0.0/8, 127.0.0.1 or fd00::/8 ({error})") from None


def _network(item: object) -> Network:
    found = ip_network(str(item))
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    if mapped is None or found.prefixlen < 96:
        return found
    # Addresses are compared as IPv4, so that a socket for both versions gives the same answer.
    return IPv4Network((mapped, found.prefixlen - 96))


def proxies(value: object) -> tuple[Network | str, ...]:
    """Accept networks, single addresses, and ``unix`` for whatever connects through a UNIX socket."""
    if isinstance(value, str) and not _items(value):
        raise ValueError("networks such as 10.0.0.0/8 or 127.0.0.1, or unix for a UNIX socket, at least one")
    items = _items(value)
    addresses = [item for item in items if item != UNIX]
    found = networks(addresses) if addresses else ()
    return (*found, UNIX) if UNIX in items else found


def address(value: object) -> Address | None:
    """Accept where a server is to listen, as ``host:port``, ``[IPv6]:port`` or ``:port``; or None."""
    if value is None or isinstance(value, Address):
        return value
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+(?:%\w+)?)\]|([^\s:/\[\]@]*)):([0-9]{1,5})", str(value))
    if not found or int(found[3]) > 65535:
        raise ValueError("host:port, [IPv6]:port, or :port for every address; port 0 takes a free one")
    return Address(found[1] or found[2] or "", int(found[3]))


def file(value: object) -> Path | None:
    """Accept the path of a file, which only the process that uses it may be able to read, or None."""
    if value is None:
        return None
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("the path of a file")
    return Path(value)
