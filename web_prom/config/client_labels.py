"""Extra labels whose values clients can choose: an allow-list, or a limit on the number of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from web_prom.config.headers import is_token
from web_prom.errors import ConfigError
from web_prom.hooks import ExtraLabel, is_sync_callable
from web_prom.metrics.labels import EMPTY, clean_label_value

NOT_ALLOWED = "_other"
"""The label value of a value that is not in the allow-list."""

DEFAULT_LIMIT = 50
_MAX_LIMIT = 10_000

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "x-csrf-token"})
_WITHOUT_PREFIX = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})


@dataclass(frozen=True)
class ClientLabel:
    """A function of ``PROM_EXTRA_LABELS`` with an allow-list or a limit. Make it with a function below.

    Attributes:
        function: Returns the value for a request and a response.
        allowed: The allowed values, or None for a limit.
        limit: The maximum number of values. Without meaning if there is an allow-list.
    """

    function: ExtraLabel
    allowed: frozenset[str] | None
    limit: int

    def __call__(self, request: Any, response: Any, /) -> str:
        """Return the value: printable, of limited length, and in the allow-list if there is one."""
        found = self.function(request, response)
        value = EMPTY if found is None else clean_label_value(found)
        if self.allowed is None or not value or value in self.allowed:
            return value
        return NOT_ALLOWED


def limited(
    function: ExtraLabel, *, allowed: Iterable[str] | None = None, limit: int | None = None
) -> ClientLabel:
    """Bound the values of an extra label that clients can choose, for example a tenant.

    ::

        PROM_EXTRA_LABELS = {"tenant": prom.limited(lambda request, response: request.tenant.slug, limit=200)}

    Args:
        function: A function as in ``PROM_EXTRA_LABELS``. If it returns None, the label is empty.
        allowed: The allowed values. Any other value becomes ``_other``.
        limit: Without an allow-list, the maximum number of values; 50 if omitted. The first values get a
            place, each further value becomes ``_overflow`` and is counted in
            ``web_prom_label_overflow_total``. With a shared directory the limit applies to all workers
            together, and the workers that replace them.

    Values are cut to 128 characters, and control characters become ``?``.

    Raises:
        ConfigError: An argument is not allowed.
    """
    if not is_sync_callable(function, 2):
        raise ConfigError(
            f"the function of a label is {function!r}; allowed: a callable that is not async and no "
            "generator, of (request, response)"
        )
    if allowed is not None and limit is not None:
        raise ConfigError(f"a label has allowed={allowed!r} and limit={limit!r}; allowed: one of the two")
    limit = DEFAULT_LIMIT if limit is None else limit
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MAX_LIMIT:
        raise ConfigError(f"limit is {limit!r}; allowed: a whole number from 1 to {_MAX_LIMIT}")
    return ClientLabel(function, _parse_allowed(allowed), limit)


def header(name: str, *, allowed: Iterable[str] | None = None, limit: int | None = None) -> ClientLabel:
    """Return an extra label with the value of a request header, for ``PROM_EXTRA_LABELS``.

    ::

        PROM_EXTRA_LABELS = {
            "api_version": prom.header("X-API-Version", allowed=("1", "2", "3")),
            "tenant": prom.header("X-Tenant", limit=200),
        }

    It is the same under Flask, Django, WSGI and ASGI. The label is empty if the request has no such header.
    The values of a header that is sent several times are joined with commas.

    Args:
        name: The name of the header; upper and lower case are equal.
        allowed: As for :func:`limited`.
        limit: As for :func:`limited`.

    Raises:
        ConfigError: An argument is not allowed. Headers with secrets are not: readers of the metrics would
            read them.
    """
    if not isinstance(name, str) or not is_token(name):
        raise ConfigError(f"the name of a header is {name!r}; allowed: a name, for example 'X-API-Version'")
    if name.lower() in _SECRET_HEADERS:
        raise ConfigError(
            f"the header {name!r} has secrets; allowed: headers whose values may be in the metrics"
        )
    return limited(_header_reader(name), allowed=allowed, limit=limit)


def parse_header_label(text: str) -> ClientLabel:
    """Return the label of a text: ``header:X-Tenant``, or ``header:X-API-Version:1|2|3`` with an allow-list.

    Raises:
        ConfigError: The text is not one of these.
    """
    _, name, *allowed = text.split(":", 2)
    return header(name, allowed=allowed[0].split("|") if allowed else None)


def _parse_allowed(allowed: Iterable[str] | None) -> frozenset[str] | None:
    if allowed is None:
        return None
    if isinstance(allowed, str | bytes) or not isinstance(allowed, Iterable):
        raise ConfigError(f"allowed is {allowed!r}; allowed: a sequence of texts, for example ('1', '2')")
    values = list(allowed)
    for value in values:
        if not isinstance(value, str) or not value or clean_label_value(value) != value:
            raise ConfigError(
                f"allowed has {value!r}; allowed: texts without control characters, of 1 to 128 characters"
            )
    if not values:
        raise ConfigError("allowed is empty; allowed: at least one text")
    return frozenset(values)


def _header_reader(name: str) -> Callable[[Any, Any], str]:
    key = name.upper().replace("-", "_")
    key = key if key in _WITHOUT_PREFIX else f"HTTP_{key}"
    encoded = name.lower().encode()

    def read(request: Any, response: Any, /) -> str:
        environ = _environ_of(request)
        if environ is not None:
            return environ.get(key) or EMPTY
        scope = request if isinstance(request, Mapping) else request.scope
        found = [value for sent, value in scope["headers"] if sent.lower() == encoded]
        return b",".join(found).decode("latin-1")

    return read


def _environ_of(request: Any) -> Mapping[str, Any] | None:
    """Return the environ of a request, or None for a request of ASGI.

    A request of Django has ``META``, also under ASGI. One of Flask has ``environ``. Without an adapter the
    request is the environ or the scope itself.
    """
    if isinstance(request, Mapping):
        return None if "type" in request and "headers" in request else request
    environ = getattr(request, "META", None)
    return getattr(request, "environ", None) if environ is None else environ
