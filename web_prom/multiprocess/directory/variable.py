"""The environment variable that names the shared directory, in both of its spellings."""

from __future__ import annotations

import os
import warnings
from collections.abc import MutableMapping

from web_prom.multiprocess.directory.slots import VARIABLE

FORMER = "prometheus_multiproc_dir"
"""The spelling of old releases of prometheus_client, which it still reads."""


def shared_path(environ: MutableMapping[str, str] | None = None) -> str:
    """Return the directory that an environment names; an empty string if it names none.

    The upper-case name comes first, as in prometheus_client. If only the lower-case one has a value, that
    value is copied to the upper-case name, with the DeprecationWarning that prometheus_client gives.

    Args:
        environ: The environment; by default that of this process.
    """
    environ = os.environ if environ is None else environ
    path = environ.get(VARIABLE) or environ.get(FORMER) or ""
    if path and not environ.get(VARIABLE):
        environ[VARIABLE] = path
        warnings.warn(
            f"{FORMER} variable has been deprecated in favor of the upper case naming {VARIABLE}",
            DeprecationWarning,
            stacklevel=3,
        )
    return path


def is_empty(environ: MutableMapping[str, str] | None = None) -> bool:
    """Tell whether a spelling is there and no spelling has a value: prometheus_client then shares nowhere."""
    environ = os.environ if environ is None else environ
    present = [environ[name] for name in (VARIABLE, FORMER) if name in environ]
    return bool(present) and not any(present)


def forget(environ: MutableMapping[str, str] | None = None) -> None:
    """Remove both spellings from an environment."""
    environ = os.environ if environ is None else environ
    for name in (VARIABLE, FORMER):
        environ.pop(name, None)
