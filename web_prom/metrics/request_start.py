"""What a request begins with: the facts that are known before it is served, and its step of the gauge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from web_prom.metrics.labels import ABSENT, OTHER, PROTOCOLS, SCHEMES
from web_prom.metrics.writers import Step

# Where a server tells the facts of a beginning: in the environ of WSGI, and in the scope of ASGI.
ENVIRON: Mapping[str, str] = {
    "method": "REQUEST_METHOD",
    "scheme": "wsgi.url_scheme",
    "protocol": "SERVER_PROTOCOL",
}
SCOPE: Mapping[str, str] = {"method": "method", "scheme": "scheme", "protocol": "http_version"}

_UNKNOWN: Mapping[str, str] = {"method": OTHER, "scheme": OTHER, "protocol": ABSENT}


def reader(facts: Sequence[str], keys: Mapping[str, str]) -> Callable[[Mapping[str, Any]], Any]:
    """Return what reads from an environ or a scope how a request begins, as a key of :class:`Openings`.

    A single fact is read without a call of a Python function, which is what every request of most
    applications pays for this.

    Args:
        facts: Which; of a naming.
        keys: Where each of them is: :data:`ENVIRON` or :data:`SCOPE`.
    """
    names = [keys[fact] for fact in facts]
    get = itemgetter(*names)
    if len(names) == 1:
        return get

    def read(place: Mapping[str, Any]) -> Any:
        try:
            return get(place)
        except KeyError:  # ASGI's scheme may be missing
            return tuple(map(place.get, names))

    return read


class Opening:
    """What the requests have in common that begin alike. Safe to share between threads.

    Attributes:
        facts: Label values by fact.
        enter: Takes the gauge of requests in progress up, called with 1.
        leave: Takes it down, called with -1.
    """

    __slots__ = ("enter", "facts", "leave")

    enter: Step
    leave: Step

    def __init__(self, facts: Mapping[str, str]) -> None:
        self.facts = facts


class Openings(dict[Any, Opening]):
    """The openings of one application by what :func:`reader` returns; made when first asked for.

    There are never more than the closed lists of their facts allow, whatever clients send: what is not in
    the lists is looked up each time, and is not kept. Safe to share between threads.

    Args:
        facts: Which facts an opening has; of a naming.
        methods: The methods that are told apart, with their label values.
        steps: Returns what takes the gauge up and down for an opening's facts.
    """

    def __init__(
        self,
        facts: Sequence[str],
        methods: Mapping[str, str],
        steps: Callable[[Mapping[str, str]], tuple[Step, Step]],
    ) -> None:
        super().__init__()
        known: dict[str, Mapping[Any, str]] = {"method": methods, "scheme": SCHEMES, "protocol": PROTOCOLS}
        self._facts = tuple(facts)
        self._known = [known[fact] for fact in facts]
        self._unknown = [_UNKNOWN[fact] for fact in facts]
        self._steps = steps
        self._made: dict[tuple[str, ...], Opening] = {}

    def __missing__(self, told: Any) -> Opening:
        parts = told if len(self._facts) > 1 else (told,)
        found = [known.get(part) for known, part in zip(self._known, parts, strict=True)]
        values = tuple(
            other if value is None else value for value, other in zip(found, self._unknown, strict=True)
        )
        opening = self._made.get(values)
        if opening is None:
            opening = Opening(dict(zip(self._facts, values, strict=True)))
            opening.enter, opening.leave = self._steps(opening.facts)
            opening = self._made.setdefault(values, opening)
        if None not in found:
            self[told] = opening
        return opening

    def bind(self) -> None:
        """Bind the gauges anew, of requests that are under way too."""
        for opening in list(self._made.values()):
            opening.enter, opening.leave = self._steps(opening.facts)
