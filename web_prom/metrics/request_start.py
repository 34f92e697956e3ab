"""What a request begins with: the facts that are known before it is served, and its step of the gauge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from web_prom.metrics.labels import EMPTY, OTHER, PROTOCOLS, SCHEMES
from web_prom.metrics.writers import GaugeUpdater

# Where a server tells the facts of a beginning: in the environ of WSGI, and in the scope of ASGI.
WSGI_KEYS: Mapping[str, str] = {
    "method": "REQUEST_METHOD",
    "scheme": "wsgi.url_scheme",
    "protocol": "SERVER_PROTOCOL",
}
ASGI_KEYS: Mapping[str, str] = {"method": "method", "scheme": "scheme", "protocol": "http_version"}

_UNKNOWN: Mapping[str, str] = {"method": OTHER, "scheme": OTHER, "protocol": EMPTY}


def start_key_getter(
    attributes: Sequence[str], keys: Mapping[str, str]
) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that reads the key of :class:`RequestStartCache` from an environ or a scope.

    A single fact is read without a call of a Python function, which is what every request of most
    applications pays for this.

    Args:
        attributes: Which; of a naming.
        keys: Where each of them is: :data:`WSGI_KEYS` or :data:`ASGI_KEYS`.
    """
    names = [keys[attribute] for attribute in attributes]
    get = itemgetter(*names)
    if len(names) == 1:
        return get

    def read(place: Mapping[str, Any]) -> Any:
        try:
            return get(place)
        except KeyError:  # ASGI's scheme may be missing
            return tuple(map(place.get, names))

    return read


class RequestStart:
    """What the requests have in common that begin alike. Safe to share between threads.

    Attributes:
        attributes: Label values by fact.
        inc_in_progress: Takes the gauge of requests in progress up, called with 1.
        dec_in_progress: Takes it down, called with -1.
    """

    __slots__ = ("attributes", "dec_in_progress", "inc_in_progress")

    inc_in_progress: GaugeUpdater
    dec_in_progress: GaugeUpdater

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self.attributes = attributes


class RequestStartCache(dict[Any, RequestStart]):
    """The openings of one application by what :func:`start_key_getter` returns; made when first asked for.

    There are never more than the closed lists of their facts allow, whatever clients send: what is not in
    the lists is looked up each time, and is not kept. Safe to share between threads.

    Args:
        attributes: Which facts an opening has; of a naming.
        methods: The methods that are told apart, with their label values.
        steps: Returns what takes the gauge up and down for an opening's facts.
    """

    def __init__(
        self,
        attributes: Sequence[str],
        methods: Mapping[str, str],
        steps: Callable[[Mapping[str, str]], tuple[GaugeUpdater, GaugeUpdater]],
    ) -> None:
        super().__init__()
        known: dict[str, Mapping[Any, str]] = {"method": methods, "scheme": SCHEMES, "protocol": PROTOCOLS}
        self._facts = tuple(attributes)
        self._known = [known[attribute] for attribute in attributes]
        self._unknown = [_UNKNOWN[attribute] for attribute in attributes]
        self._steps = steps
        self._made: dict[tuple[str, ...], RequestStart] = {}

    def __missing__(self, told: Any) -> RequestStart:
        parts = told if len(self._facts) > 1 else (told,)
        found = [known.get(part) for known, part in zip(self._known, parts, strict=True)]
        values = tuple(
            other if value is None else value for value, other in zip(found, self._unknown, strict=True)
        )
        request_start = self._made.get(values)
        if request_start is None:
            request_start = RequestStart(dict(zip(self._facts, values, strict=True)))
            request_start.inc_in_progress, request_start.dec_in_progress = self._steps(
                request_start.attributes
            )
            request_start = self._made.setdefault(values, request_start)
        if None not in found:
            self[told] = request_start
        return request_start

    def rebind_values(self) -> None:
        """Bind the gauges anew, of requests that are under way too."""
        for request_start in list(self._made.values()):
            request_start.inc_in_progress, request_start.dec_in_progress = self._steps(
                request_start.attributes
            )
