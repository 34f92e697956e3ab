"""References to our names that have no entry on the site: shown as code, and the names must exist."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_PACKAGES = ("web_prom", "flask_prom", "django_prom")


def exists(name: str) -> bool:
    """Say whether a dotted name of the packages is a module, or an attribute in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def _is_in_a_module(name: str) -> bool:
    """Say whether a loaded module of the packages has a short name: a type alias in an annotation."""
    return any(hasattr(sys.modules[module], name) for module in list(sys.modules) if _is_ours(module))


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in _PACKAGES


def _show_internal(app: Sphinx, env: object, node: Any, contents: nodes.Node) -> nodes.Node | None:
    """Return the text of a reference to a name that has no entry on the site; Sphinx warns about None."""
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"]
    return contents if (exists(name) if _is_ours(name) else _is_in_a_module(name)) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("missing-reference", _show_internal)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
