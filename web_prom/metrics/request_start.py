"""Attributes that are known when a request starts, and the updates of the gauge of requests in progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from web_prom.metrics.labels import EMPTY, OTHER, PROTOCOLS, SCHEMES
from web_prom.metrics.writers import GaugeUpdater

WSGI_KEYS: Mapping[str, str] = {
    "method": "REQUEST_METHOD",
    "scheme": "wsgi.url_scheme",
    "protocol": "SERVER_PROTOCOL",
}
"""The keys of the attributes in a WSGI environ."""

ASGI_KEYS: Mapping[str, str] = {"method": "method", "scheme": "scheme", "protocol": "http_version"}
"""The keys of the attributes in an ASGI scope."""

_UNKNOWN: Mapping[str, str] = {"method": OTHER, "scheme": OTHER, "protocol": EMPTY}


def start_key_getter(
    attributes: Sequence[str], keys: Mapping[str, str]
) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that reads the key of a :class:`RequestStartCache` from an environ or a scope.

    A single attribute is read without a call of a Python function. Most applications have only this one, so
    it is the cost for each of their requests.

    Args:
        attributes: The attributes to read, :attr:`web_prom.metrics.conventions.Naming.start_attributes`.
        keys: Their keys: :data:`WSGI_KEYS` or :data:`ASGI_KEYS`.
    """
    names = [keys[attribute] for attribute in attributes]
    get = itemgetter(*names)
    if len(names) == 1:
        return get

    def read(mapping: Mapping[str, Any]) -> Any:
        try:
            return get(mapping)
        except KeyError:  # an ASGI scope may have no scheme
            return tuple(map(mapping.get, names))

    return read


class RequestStart:
    """What all requests with the same attributes at their start share. Safe to share between threads.

    Attributes:
        attributes: The label values by attribute.
        add_at_start: Adds to the gauge of requests in progress at the start of a request. Called with 1.
        add_at_end: Adds to it at the end of a request. Called with -1.
    """

    __slots__ = ("add_at_end", "add_at_start", "attributes")

    add_at_start: GaugeUpdater
    add_at_end: GaugeUpdater

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self.attributes = attributes


class RequestStartCache(dict[Any, RequestStart]):
    """The request starts of one application by the keys that :func:`start_key_getter` reads.

    A request start is created when it is needed for the first time. Its attributes have a bounded number of
    values. A key with an unknown value is mapped each time and is never kept, so clients cannot make the
    cache grow. Safe to share between threads.

    Args:
        attributes: The attributes of a request start, in the order of the keys.
        methods: The known methods with their label values.
        gauge_updaters: Returns the functions that increment and decrement the gauge for these attributes.
    """

    def __init__(
        self,
        attributes: Sequence[str],
        methods: Mapping[str, str],
        gauge_updaters: Callable[[Mapping[str, str]], tuple[GaugeUpdater, GaugeUpdater]],
    ) -> None:
        super().__init__()
        known: dict[str, Mapping[Any, str]] = {"method": methods, "scheme": SCHEMES, "protocol": PROTOCOLS}
        self._attributes = tuple(attributes)
        self._known = [known[attribute] for attribute in attributes]
        self._unknown = [_UNKNOWN[attribute] for attribute in attributes]
        self._gauge_updaters = gauge_updaters
        self._by_values: dict[tuple[str, ...], RequestStart] = {}

    def __missing__(self, key: Any) -> RequestStart:
        parts = key if len(self._attributes) > 1 else (key,)
        found = [known.get(part) for known, part in zip(self._known, parts, strict=True)]
        values = tuple(
            unknown if value is None else value for value, unknown in zip(found, self._unknown, strict=True)
        )
        request_start = self._by_values.get(values)
        if request_start is None:
            request_start = RequestStart(dict(zip(self._attributes, values, strict=True)))
            self._bind(request_start)
            request_start = self._by_values.setdefault(values, request_start)
        if None not in found:
            self[key] = request_start
        return request_start

    def rebind_values(self) -> None:
        """Look up the gauges again, also for requests in progress."""
        for request_start in list(self._by_values.values()):
            self._bind(request_start)

    def _bind(self, request_start: RequestStart) -> None:
        updaters = self._gauge_updaters(request_start.attributes)
        request_start.add_at_start, request_start.add_at_end = updaters
