"""The environment variable that names the shared directory, in its current and its old spelling."""

from __future__ import annotations

import os
import warnings
from collections.abc import MutableMapping

DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The name of the variable, which prometheus_client defines."""

OLD_DIR_VARIABLE = "prometheus_multiproc_dir"
"""The spelling of old releases of prometheus_client. Current releases still read it."""


def configured_directory(environ: MutableMapping[str, str] | None = None) -> str:
    """Return the path of the shared directory that an environment names; empty if it names none.

    The upper-case spelling has precedence, as in prometheus_client. If only the lower-case spelling has a
    value, this copies the value to the upper-case spelling, with the DeprecationWarning of prometheus_client.

    Args:
        environ: The environment; by default that of this process.
    """
    environ = os.environ if environ is None else environ
    path = environ.get(DIR_VARIABLE) or environ.get(OLD_DIR_VARIABLE) or ""
    if path and not environ.get(DIR_VARIABLE):
        environ[DIR_VARIABLE] = path
        warnings.warn(
            f"{OLD_DIR_VARIABLE} variable has been deprecated in favor of the upper case naming "
            f"{DIR_VARIABLE}",
            DeprecationWarning,
            stacklevel=3,
        )
    return path


def is_set_but_empty(environ: MutableMapping[str, str] | None = None) -> bool:
    """Return whether the variable is set in some spelling, and no spelling has a value.

    prometheus_client then writes files to the working directory.
    """
    environ = os.environ if environ is None else environ
    values = [environ[name] for name in (DIR_VARIABLE, OLD_DIR_VARIABLE) if name in environ]
    return bool(values) and not any(values)


def unset_directory(environ: MutableMapping[str, str] | None = None) -> None:
    """Remove both spellings of the variable from an environment."""
    environ = os.environ if environ is None else environ
    for name in (DIR_VARIABLE, OLD_DIR_VARIABLE):
        environ.pop(name, None)
