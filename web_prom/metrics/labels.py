"""Label values of methods, statuses and protocols, and the limit on the label sets of a family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

OTHER = "_OTHER"
"""The label value of an unknown method, of an unknown scheme and of an invalid status."""

EMPTY = ""
"""The label value if there is nothing to record. For Prometheus an empty label does not exist."""

UNMATCHED = "_unmatched"
"""The route of a request that no route matched."""

UNNAMED_TEMPLATE = "_string"
"""The name of a template that was created from a string."""

OVERFLOW = "_overflow"
"""The value of the unbounded labels of a label set that is over the limit."""

INTERNAL_SERVER_ERROR = "500"
"""The status that a server sends if the application raises before the response starts."""

CLIENT_CLOSED_REQUEST = "499"
"""The status of a request whose client disconnected before the response started. The code is nginx's."""

STATUS_TEXTS: Mapping[int, str] = {code: str(code) for code in range(100, 600)}
"""The texts of the status codes, because a look-up is faster than a conversion."""

# OpenTelemetry's list: https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ (http.request.method).
# CVE-2022-21698 and CVE-2023-43810 show what happens if the client can choose the value.
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

# The keys are what servers of WSGI and ASGI write. ASGI's servers may omit the scheme. The label values are
# those of https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ (url.scheme and
# network.protocol.version).
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
"""Attributes of a request whose values are from a list that no client and no application can extend."""


def known_methods(extra: Iterable[str] = ()) -> dict[str, str]:
    """Return the label values of the known methods. Any other method is :data:`OTHER`."""
    return {method: method for method in (*STANDARD_METHODS, *extra)}


def status_label(code: str, *, classes: bool = False) -> str:
    """Return the label value of a status code.

    Args:
        code: The code as text, for example ``"200"``. Anything but three ASCII digits is :data:`OTHER`,
            also bytes.
        classes: Return the class, for example ``2xx`` for ``200``.
    """
    if not isinstance(code, str) or len(code) != 3 or not (code.isascii() and code.isdigit()):
        return OTHER
    return f"{code[0]}xx" if classes else code


def sanitize_label_value(text: str) -> str:
    """Return a label value with a question mark for each character that would break a scrape.

    A lone surrogate cannot be encoded, so every scrape would fail. Control characters and Unicode's line
    separators end a line for readers that use ``str.splitlines()``, so these would lose the whole scrape. A
    line feed is kept, because the text format escapes it.
    """
    if text.isprintable():
        return text
    return text.translate(_HARMFUL).encode("utf-8", "replace").decode("utf-8")


MAX_LABEL_LENGTH = 128
"""The length to which :func:`clean_label_value` cuts a label value, in characters."""


def clean_label_value(value: object) -> str:
    """Return the label value of an object that a client may have chosen: printable, and of limited length.

    Raises:
        Exception: Any exception of ``str(value)``.
    """
    text = str(value)[:MAX_LABEL_LENGTH]
    return text if text.isprintable() else sanitize_label_value(text).replace("\n", "?")


# The categories Cc, Zl and Zp of Unicode, without the line feed.
_HARMFUL = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029), "?")
del _HARMFUL[ord("\n")]


class LabelSetLimiter:
    """Admits the first ``limit`` label sets of one family and folds every later one into ``_overflow``.

    No observation is lost. A label set over the limit is counted with :data:`OVERFLOW` as the value of each
    label that has a value and is not bounded. Safe to share between threads.

    It counts the label sets of this process. If values are in shared files, the label sets of the slot count:
    :class:`web_prom.multiprocess.writing.slot_limiter.SlotLimiter`.

    Args:
        limit: The maximum number of label sets.
        bounded: For each label in order, whether the number of its values is bounded.
    """

    def __init__(self, limit: int, bounded: Sequence[bool]) -> None:
        self.limit = limit
        self._bounded = tuple(bounded)
        self._admitted: set[tuple[str, ...]] = set()
        self._lock = Lock()

    def admit(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """Return ``values`` if the label set is admitted, else its overflow label set."""
        with self._lock:
            if values in self._admitted:
                return values
            if len(self._admitted) < self.limit:
                self._admitted.add(values)
                return values
        return self.fold(values)

    def fold(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """Return the overflow label set of ``values``."""
        return tuple(
            value if bounded or value == EMPTY else OVERFLOW
            for value, bounded in zip(values, self._bounded, strict=True)
        )

    def is_overflow(self, values: tuple[str, ...]) -> bool:
        """Tell whether a label set is an overflow label set."""
        return OVERFLOW in values and self.fold(values) == values
