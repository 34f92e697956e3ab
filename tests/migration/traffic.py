"""The requests that both libraries of a comparison measure."""

from __future__ import annotations

from typing import NamedTuple


class Request(NamedTuple):
    """One request.

    Attributes:
        method: The HTTP method.
        path: The path.
        body: The body.
        ajax: Whether it has the header X-Requested-With of JavaScript libraries.
    """

    method: str
    path: str
    body: bytes = b""
    ajax: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """Its headers."""
        return {"X-Requested-With": "XMLHttpRequest"} if self.ajax else {}


TRAFFIC = (
    Request("GET", "/items/1"),
    Request("GET", "/items/2"),
    Request("GET", "/items/2", ajax=True),
    Request("HEAD", "/items/1"),
    Request("GET", "/items/404"),  # the view answers 404
    Request("GET", "/nowhere/1"),
    Request("GET", "/nowhere/2"),
    Request("POST", "/items/1", b"x"),  # 405
    Request("POST", "/items", b"0123456789"),
    Request("PUT", "/items", b"01234"),
    Request("DELETE", "/items"),
    Request("PATCH", "/items"),
    Request("OPTIONS", "/items"),
    Request("PURGE", "/items"),
    Request("GET", "/error"),  # the view raises
    Request("GET", "/old"),  # a redirect
    Request("GET", "/stream"),
    Request("GET", "/slow"),
    Request("GET", "/health"),  # excluded
)

SLOW_SECONDS = 0.05
"""How long ``/slow`` takes at least."""
