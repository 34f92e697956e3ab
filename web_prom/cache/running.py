"""The cache operations that run now."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from inspect import CO_COROUTINE, iscoroutinefunction
from threading import get_ident
from types import FunctionType
from typing import Any

from web_prom.cache.recorder import Target


class Call:
    """A cache operation that runs now, and what a rule of :mod:`web_prom.cache.calls` needs.

    Called, it calls the user's function: see :meth:`outside`. :func:`new_call` creates one.

    Attributes:
        target: The target of the cache. None after the end of the operation: a task that started inside the
            operation may go on.
        found: Whether the first ``get`` inside the operation found its key; None if there was none.
        found_any: Whether a ``get`` inside the operation found its key.
        keys: The keys of an operation on many keys.
        default: The default of a ``get``, or the user's function of a ``get_or_set``.
        raised: The exception of the user's function.
    """

    __slots__ = ("default", "found", "found_any", "keys", "raised", "target")

    target: Target | None
    found: bool | None
    found_any: bool
    keys: Any
    default: Any
    raised: BaseException | None

    def add_get(self, found: bool) -> None:
        """Keep whether a ``get`` inside the operation found its key."""
        if self.found is None:
            self.found = found
        if found:
            self.found_any = True

    def outside(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Return what the backend calls in the place of the user's function.

        Operations in the function then count as operations of their own. A coroutine function is returned
        unchanged, because a backend may look for one.
        """
        # iscoroutinefunction() takes ten times as long as the flag. An attribute may be a mark of asyncio.
        if type(function) is FunctionType and not function.__dict__:
            if function.__code__.co_flags & CO_COROUTINE:
                return function
        elif type(function) is not type and iscoroutinefunction(function):
            return function
        self.default = function
        return self

    def __call__(self) -> Any:
        """Call the user's function as if it were called outside the operation."""
        threads, thread = {} if self.target is None else self.target.threads, get_ident()
        in_thread, in_task = threads.pop(thread, None), current_call.get()
        if in_task is not None:
            current_call.set(None)
        try:
            return self.default()
        except BaseException as error:
            self.raised = error
            hide_frame(error)
            raise
        finally:
            if in_thread is not None:
                threads[thread] = in_thread
            if in_task is not None:
                current_call.set(in_task)


def new_call(target: Target) -> Call:
    """Return the call of an operation that starts. An ``__init__`` takes 1.5 times as long."""
    call = Call()
    call.target = target
    call.found = None
    call.found_any = False
    call.keys = None
    call.default = None
    call.raised = None
    return call


current_call: ContextVar[Call | None] = ContextVar("web_prom_cache_call", default=None)
"""The innermost asynchronous operation that runs. Others are in :attr:`Target.threads`."""


def around(target: Target) -> object | None:
    """Return the operation of the same cache around the code that runs now, or None.

    A backend may implement an operation by other operations of the same cache. These are not counted. If the
    operation has no :class:`Call`, it is another object.
    """
    call = target.threads.get(get_ident())
    if call is not None:
        return call
    in_task = current_call.get()
    return in_task if in_task is not None and in_task.target is target else None


def hide_frame(error: BaseException) -> None:
    """Remove the first frame of a traceback, the caller's. Its bare ``raise`` does not add it again.

    Python 3.10 adds it.
    """
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
