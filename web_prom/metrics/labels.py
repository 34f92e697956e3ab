"""What becomes a label value: methods, routes, statuses, and the cap on how many label sets there may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

OTHER = "_OTHER"
"""The method of a request whose method is none that is known, and a status that is no status."""

EMPTY = ""
"""What there is nothing to say of: to Prometheus a label without a value is no label."""

UNMATCHED = "_unmatched"
"""The route of a request that no route matched."""

OVERFLOW = "_overflow"
"""What stands in the open labels of a label set that came after the cap."""

# OpenTelemetry's list: https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ (http.request.method).
# CVE-2022-21698 and CVE-2023-43810 are what happens when a client may choose the value.
STANDARD_METHODS = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "QUERY",
)

# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ (url.scheme, network.protocol.version), by
# what WSGI's and ASGI's servers write. ASGI's may leave the scheme out.
SCHEMES: Mapping[str | None, str] = {"http": "http", "https": "https", None: "http"}
PROTOCOLS: Mapping[str, str] = {
    "HTTP/1.0": "1.0",
    "HTTP/1.1": "1.1",
    "HTTP/2": "2",
    "HTTP/2.0": "2",
    "HTTP/3": "3",
    "HTTP/3.0": "3",
    "1.0": "1.0",
    "1.1": "1.1",
    "2": "2",
    "3": "3",
}

BOUNDED_ATTRIBUTES = frozenset({"method", "scheme", "protocol", "status"})
"""Facts whose values come from a list that no client and no application can grow."""


def known_methods(extra: Iterable[str] = ()) -> dict[str, str]:
    """Return the methods that are their own label value; anything else is :data:`OTHER`."""
    return {method: method for method in (*STANDARD_METHODS, *extra)}


def status_label(code: str, *, classes: bool = False) -> str:
    """Return the label value of a status code of three digits, given as text.

    Args:
        code: ``"200"``; anything that is not three ASCII digits is :data:`OTHER`, bytes too.
        classes: Give ``2xx`` for ``200``.
    """
    if not isinstance(code, str) or len(code) != 3 or not (code.isascii() and code.isdigit()):
        return OTHER
    return f"{code[0]}xx" if classes else code


def sanitize_label_value(text: str) -> str:
    """Return a label value with a question mark for each character that harms who reads a scrape.

    A lone surrogate would fail every scrape. Control characters and Unicode's line separators end a line for
    readers that use ``str.splitlines()``, and each of them would lose the whole scrape. A line feed stays:
    the format escapes it.
    """
    if text.isprintable():
        return text
    return text.translate(_HARMFUL).encode("utf-8", "replace").decode("utf-8")


# The categories Cc, Zl and Zp of Unicode, without the line feed.
_HARMFUL = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029), "?")
del _HARMFUL[ord("\n")]


def route_is_excluded(route: str, patterns: Sequence[str]) -> bool:
    """Tell whether a route template is one of ``patterns``, or lies below one that ends in ``/*``."""
    return any(
        route == pattern or (pattern.endswith("/*") and route.startswith(pattern[:-1]))
        for pattern in patterns
    )


class LabelSetLimiter:
    """Admits the first ``limit`` label sets of one family and folds every later one into ``_overflow``.

    Nothing is dropped: a label set that comes too late is counted with :data:`OVERFLOW` in every label
    that has a value and whose values are not from a closed list. Safe to share between threads.

    It counts the label sets of this process. Where values are in shared files, those of the slot count:
    :class:`web_prom.multiprocess.writing.slot_cap.SlotCap`.

    Args:
        limit: How many distinct label sets are admitted.
        closed: For each label in order, whether its values are from a closed list.
    """

    def __init__(self, limit: int, closed: Sequence[bool]) -> None:
        self.limit = limit
        self._closed = tuple(closed)
        self._admitted: set[tuple[str, ...]] = set()
        self._lock = Lock()

    def admit(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """Return ``values``, or the overflow label set that stands for them."""
        with self._lock:
            if values in self._admitted:
                return values
            if len(self._admitted) < self.limit:
                self._admitted.add(values)
                return values
        return self.fold(values)

    def fold(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """Return the overflow label set that stands for ``values``."""
        return tuple(
            value if closed or value == EMPTY else OVERFLOW
            for value, closed in zip(values, self._closed, strict=True)
        )

    def is_overflow(self, values: tuple[str, ...]) -> bool:
        """Tell whether a label set stands for others."""
        return OVERFLOW in values and self.fold(values) == values
