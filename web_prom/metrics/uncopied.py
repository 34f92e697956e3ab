"""Objects that a copy of an environ or of a scope shares with the original."""

from __future__ import annotations

from typing import TypeVar

Self = TypeVar("Self", bound="Uncopied")


class Uncopied:
    """An object that belongs to one request. A copy of it is the object itself.

    Middlewares copy an environ or a scope with everything in it, for example hypercorn's
    ``ProxyFixMiddleware``. The copy is the same request.
    """

    def __copy__(self: Self) -> Self:
        return self

    def __deepcopy__(self: Self, _memo: object) -> Self:
        return self
