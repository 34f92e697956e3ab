"""Checks of groups of private names: run once per process, with a warning where they fail."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence

logger = logging.getLogger("web_prom")

PROBE = "web_prom_probe"
"""The name of the throwaway metrics. No registry has them, and no value file."""


def checked(
    what: str, without: str, *, needs: Sequence[Callable[[], bool]] = ()
) -> Callable[[Callable[[], bool]], Callable[[], bool]]:
    """Make a check of a function that returns whether a group of names behaves as web-prom expects.

    A name that is missing may raise an exception in the function.

    Args:
        what: What the names are, for the warning.
        without: What is different if they are missing, for the warning.
        needs: Checks that have to pass, too. If one of them fails, there is no second warning.
    """

    def decorate(passes: Callable[[], bool]) -> Callable[[], bool]:
        @functools.cache
        @functools.wraps(passes)
        def check() -> bool:
            if not all(need() for need in needs):
                return False
            try:
                if passes():
                    return True
            except Exception:
                logger.debug("%s: the %s cannot be used", installed(), what, exc_info=True)
            logger.warning("%s does not have the %s that web-prom uses: %s", installed(), what, without)
            return False

        return check

    return decorate


def installed() -> str:
    """Return the name and the version of the installed prometheus_client, for messages."""
    from importlib import metadata  # which takes as long to import as all of web_prom.upstream

    try:
        return f"prometheus_client {metadata.version('prometheus_client')}"
    except metadata.PackageNotFoundError:  # a copy without metadata
        return "prometheus_client of an unknown version"
