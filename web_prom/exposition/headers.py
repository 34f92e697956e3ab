"""A request's headers as the environ of WSGI has them."""

from __future__ import annotations

from collections.abc import Iterable


def header_variables(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers as ``HTTP_`` variables, those that come several times joined by commas.

    A name with an underscore is left out: X_Forwarded_For would pass for X-Forwarded-For, which a proxy
    has checked.
    """
    variables: dict[str, str] = {}
    for name, value in headers:
        if "_" not in name:
            key = "HTTP_" + name.upper().replace("-", "_")
            variables[key] = f"{variables[key]},{value.strip()}" if key in variables else value.strip()
    return variables
