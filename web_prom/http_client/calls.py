"""Calls of a library that other libraries carry out, so that each request is counted once."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from web_prom.http_client.targets import Targets


class Call:
    """A call that is running.

    The innermost library that sees a request counts it. The outer one counts a call only if no request of it
    was counted.

    Args:
        targets: Who measures it.
        owner: What is sent or called. A call inside the call with the same owner is one of its base class.

    Attributes:
        is_counted: Whether a request of the call was counted.
    """

    __slots__ = ("is_counted", "owner", "targets")

    def __init__(self, targets: Targets, owner: Any) -> None:
        self.targets = targets
        self.owner = owner
        self.is_counted = False


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call of a session, an adapter or a pool manager that this thread or task carries out."""
