"""The rules of Werkzeug's URL maps (Flask, Quart, Connexion). No framework is imported."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

# A wrong method of a path that leads to another path by two redirects, for a slash and for a default value.
_MAX_MATCHES = 4


def find_rule(adapter: Any, error: Exception | None = None) -> Any:
    """Return the rule that the request of a URL adapter is for, or None.

    If the method is not allowed, an allowed method is tried. If the application redirects to the canonical
    URL, the path of that URL is tried. A redirect to another host leads to no rule.

    Args:
        adapter: An adapter that is bound to the request (``MapAdapter``).
        error: The exception of the match, if it is known. Otherwise the request is matched.
    """
    path = method = None  # those of the request
    for _ in range(_MAX_MATCHES):
        if error is None:
            try:
                return adapter.match(path, method, return_rule=True)[0]
            except Exception as raised:  # one of Werkzeug, or an error in a converter of the application
                error = raised
        allowed, url = getattr(error, "valid_methods", None), getattr(error, "new_url", None)
        error = None
        if allowed:
            method = min(allowed)
        elif url:
            target = urlsplit(url)
            if target.netloc != adapter.get_host(None):
                return None
            # Werkzeug encodes the path, but not the root before it.
            path = unquote(target.path.removeprefix(adapter.script_name.rstrip("/")))
        else:
            return None
    return None
