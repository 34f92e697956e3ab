"""Tracebacks of exceptions that pass through a hook."""

from __future__ import annotations


def remove_own_frame(error: BaseException) -> None:
    """Remove the first frame of a traceback, the caller's. Its bare ``raise`` does not add it again.

    Python 3.10 adds it again.
    """
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
