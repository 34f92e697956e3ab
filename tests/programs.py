"""Programs from Debian that some tests use."""

from __future__ import annotations

import os
import shutil

import pytest


def needs_program(name: str, *, package: str) -> str:
    """Return the path of a program; without it skip the test, or in CI fail it.

    Args:
        name: The program.
        package: Debian's package that brings it.
    """
    # Debian has servers in /usr/sbin, which is not in the PATH of every user.
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if path is None:
        told = f"needs {name}: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    return path
