"""Calls of a library that other libraries carry out, so that each request is counted once."""

from __future__ import annotations

from contextvars import ContextVar
from time import perf_counter
from typing import Any

from web_prom.http_client.targets import Targets


class Call:
    """A call that is running.

    The innermost library that sees a request counts it. The outer one counts a call only if no request of it
    was counted.

    Args:
        targets: Who measures it.
        owner: What is sent or called. A call inside the call with the same owner is one of its base class.
        is_requests: Whether exceptions of urllib3 are raised as exceptions of requests.

    Attributes:
        is_counted: Whether a request of the call was counted.
        started: ``perf_counter()`` at its start.
    """

    __slots__ = ("is_counted", "is_requests", "owner", "started", "targets")

    def __init__(self, targets: Targets, owner: Any, *, is_requests: bool) -> None:
        self.targets = targets
        self.owner = owner
        self.is_requests = is_requests
        self.is_counted = False
        self.started = perf_counter()


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call of requests, or of a pool manager, that this thread or task carries out."""
