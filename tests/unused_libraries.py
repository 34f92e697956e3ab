"""A plugin of pytest that keeps libraries from being imported that no test uses.

pytest-randomly imports libraries that make data at random, to set their seeds before each test. faker and
polyfactory come with other libraries of the tests. They take half a second at the start of each process.
"""

from __future__ import annotations

import sys

import pytest

_UNUSED = ("faker", "polyfactory")

for _name in _UNUSED:
    # An import of it raises ImportError.
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Allow the imports again: all plugins are loaded."""
    for name in _UNUSED:
        if name in sys.modules and sys.modules[name] is None:
            del sys.modules[name]
