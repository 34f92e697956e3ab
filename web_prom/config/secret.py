"""A secret that a traceback, a debug page and a log cannot show."""

from __future__ import annotations

import hmac


class Secret:
    """A token or a password, hidden wherever an object is printed.

    Immutable, and safe to share between threads. ``repr()``, ``str()``, ``dataclasses.asdict()`` and the
    local variables of a traceback show ``Secret('***')``.

    Args:
        value: The secret itself. White space around it does not count.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def matches(self, given: bytes) -> bool:
        """Tell whether a client gave this secret, in a time that does not depend on what it gave."""
        return hmac.compare_digest(given, self._value.strip().encode("utf-8", "surrogateescape"))

    def reveal(self) -> str:
        """Return the secret as it was configured."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret('***')"
