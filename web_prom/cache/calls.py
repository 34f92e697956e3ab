"""The cache operations that run now, and the rules for what came of an operation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from inspect import CO_COROUTINE, iscoroutinefunction
from types import FunctionType
from typing import Any

from web_prom.cache.conventions import Result
from web_prom.cache.recorder import Target

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and the keyword arguments of a method. The first one is the cache."""


_SEQUENCES = frozenset({list, tuple})


class Call:
    """A cache operation that runs now, and what a :class:`CallRule` needs to know.

    Attributes:
        target: The target of the cache. None after the end of the operation: a task that started inside the
            operation may go on.
        found: Whether the first ``get`` inside the operation found its key; None if there was none.
        found_any: Whether a ``get`` inside the operation found its key.
        keys: The keys of an operation on many keys.
        default: The default of a ``get``.
        raised: The exception of the user's function that ``get_or_set`` called.
    """

    # An object of a class without __init__ takes half the time.
    target: Target | None = None
    found: bool | None = None
    found_any: bool = False
    keys: Any = None
    default: Any = None
    raised: BaseException | None = None

    def add_get(self, found: bool) -> None:
        """Keep whether a ``get`` inside the operation found its key."""
        if self.found is None:
            self.found = found
        if found:
            self.found_any = True


current_call: ContextVar[Call | None] = ContextVar("web_prom_cache_call", default=None)
"""The innermost asynchronous operation that runs. Others are in :attr:`Target.threads`."""


def around(target: Target) -> object | None:
    """Return the operation of the same cache around the code that runs now, or None.

    A backend may implement an operation by other operations of the same cache. These are not counted. If the
    operation has no :class:`Call`, it is another object.
    """
    call = target.threads.get(threading.get_ident())
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


# Rules that need to know nothing but the value or the exception.


class Rule:
    """What came of an operation: ``ok`` or ``error``."""

    def result(self, value: Any) -> Result:
        """Return what came of an operation that returned a value."""
        return "ok"

    def failure(self, error: BaseException) -> Result:
        """Return what came of an operation that raised an exception."""
        return "error"


class GetValue(Rule):
    """The value of one key, or None. There is no other default."""

    def result(self, value: Any) -> Result:
        """Count None as a miss."""
        return "miss" if value is None else "hit"


class Set(Rule):
    """A value is stored. The operation returns False if the backend has an error."""

    def result(self, value: Any) -> Result:
        """Count False as an error."""
        return "error" if value is False else "ok"


class HasKey(Rule):
    """The operation returns whether a key is in the cache."""

    def result(self, value: Any) -> Result:
        """Use the answer."""
        return "hit" if value else "miss"


class Touch(Rule):
    """A key is changed if it is in the cache. The operation returns whether it is."""

    def result(self, value: Any) -> Result:
        """Count a key that is not in the cache as a miss."""
        return "ok" if value else "miss"


class Change(Rule):
    """The value of a key is changed. If the key is not in the cache, the operation raises ``ValueError``."""

    def failure(self, error: BaseException) -> Result:
        """Count a key that is not in the cache as a miss."""
        return "miss" if type(error) is ValueError else "error"


class SetMany(Rule):
    """Many values are stored. The operation returns the keys that could not be stored."""

    def result(self, value: Any) -> Result:
        """Count one error if a key could not be stored."""
        return "error" if isinstance(value, list) and value else "ok"


# Rules that need to know more about the call.


class CallRule:
    """What came of an operation. It depends on the arguments, or on the operations inside."""

    finds_keys = False
    """Whether the operation tells an operation around it that a key was found."""

    def found(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> bool:
        """Tell whether a key was found by an operation that returned a value."""
        raise NotImplementedError

    def prepare(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Return the arguments for the backend. They mean the same as those of the caller."""
        return args, kwargs

    def result(self, call: Call, value: Any) -> Result:
        """Return what came of an operation that returned a value."""
        return "ok"

    def failure(self, call: Call, error: BaseException) -> Result:
        """Return what came of an operation that raised an exception."""
        return "error"

    def observe(self, target: Target, operation: str, call: Call, value: Any, seconds: float) -> None:
        """Write an operation that returned a value."""
        target.observe(operation, self.result(call, value), seconds)


class Get(CallRule):
    """The value of one key, or a default: ``get(key, default)``."""

    finds_keys = True

    def found(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> bool:
        """Compare the value with the default."""
        call = Call()
        self.prepare(call, args, kwargs)
        return self.result(call, value) == "hit"

    def prepare(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Keep the default."""
        call.default = args[2] if len(args) > 2 else kwargs.get("default")
        return args, kwargs

    def result(self, call: Call, value: Any) -> Result:
        """Ask the ``get`` inside the operation. If there was none, compare with the default."""
        found = value is not call.default if call.found is None else call.found_any
        return "hit" if found else "miss"


class GetMany(CallRule):
    """The values of many keys: a mapping of those that are in the cache.

    Each key is a hit or a miss. The operation has one duration. A ``get`` may be a ``get_many`` of one key.
    """

    finds_keys = True

    def found(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> bool:
        """Tell whether a key is in the mapping."""
        return bool(value)

    def prepare(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Keep the keys. The keys of an iterator are kept when the backend takes them."""
        keys = args[1] if len(args) > 1 else kwargs.get("keys")
        # A backend may ask for the length of what has one, and what has one can be read twice.
        if type(keys) in _SEQUENCES or hasattr(type(keys), "__len__") or not hasattr(type(keys), "__iter__"):
            call.keys = keys
            return args, kwargs
        call.keys = []
        recorded = _record_keys(keys, call.keys)
        if len(args) > 1:
            return (args[0], recorded, *args[2:]), kwargs
        return args, {**kwargs, "keys": recorded}

    def observe(self, target: Target, operation: str, call: Call, value: Any, seconds: float) -> None:
        """Count the keys."""
        hits, keys = len(value), call.keys
        misses = 0 if type(keys) in _SEQUENCES and hits == len(keys) else len(set(keys)) - hits
        target.observe_keys(operation, hits, misses, seconds)


class GetValues(CallRule):
    """The values of many keys, a list or a dictionary, with None for a key that is not in the cache."""

    def observe(self, target: Target, operation: str, call: Call, value: Any, seconds: float) -> None:
        """Count the keys."""
        values = list(value.values() if isinstance(value, dict) else value)
        misses = sum(each is None for each in values)
        target.observe_keys(operation, len(values) - misses, misses, seconds)


class GetOrSet(CallRule):
    """The value of one key, which is stored if it was not in the cache."""

    def prepare(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Let operations in the user's function count as operations of their own."""
        default = args[2] if len(args) > 2 else kwargs.get("default")
        if not callable(default) or _is_coroutine_function(default):
            return args, kwargs
        outside = partial(_call_outside, call, default)
        if len(args) > 2:
            return (*args[:2], outside, *args[3:]), kwargs
        return args, {**kwargs, "default": outside}

    def result(self, call: Call, value: Any) -> Result:
        """Use what the ``get`` inside found."""
        call.raised = None  # its traceback refers to the call
        return "ok" if call.found is None else "hit" if call.found else "miss"

    def failure(self, call: Call, error: BaseException) -> Result:
        """Count no error of the user's function as one of the cache."""
        of_user, call.raised = call.raised is error, None
        return "miss" if of_user else "error"


def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    # The same as iscoroutinefunction() for the usual kinds of functions, in a tenth of the time. A function
    # with attributes may have a mark of asyncio.
    if type(function) is FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & CO_COROUTINE)
    return type(function) is not type and iscoroutinefunction(function)


def _record_keys(keys: Any, recorded: list[Any]) -> Iterator[Any]:
    for key in keys:
        recorded.append(key)
        yield key


def _call_outside(call: Call, function: Callable[[], Any]) -> Any:
    """Call a function as if it were called outside the operation."""
    target = call.target
    threads, thread = {} if target is None else target.threads, threading.get_ident()
    in_thread, in_task = threads.pop(thread, None), current_call.get()
    if in_task is not None:
        current_call.set(None)
    try:
        return function()
    except BaseException as error:
        call.raised = error
        hide_frame(error)
        raise
    finally:
        if in_thread is not None:
            threads[thread] = in_thread
        if in_task is not None:
            current_call.set(in_task)
