"""Functions in the place of methods that have the same parameters as Django's.

They give the arguments to the method by position. The functions of :mod:`web_prom.cache.wrappers` take any
arguments. Python packs these into a tuple and a dictionary, which takes longer. In many backends
``get_or_set`` and ``get_many`` call other operations. Then one call runs several functions of this module.

Each function does itself what :func:`web_prom.cache.running.around` and other short functions do, because a
call of these takes longer than their work.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import CO_VARARGS, CO_VARKEYWORDS
from threading import get_ident
from time import perf_counter
from types import FunctionType
from typing import Any

from web_prom.cache.calls import SEQUENCES, CallRule, GetMany, GetOrSet, Rule, record_keys
from web_prom.cache.conventions import Result
from web_prom.cache.recorder import Target
from web_prom.cache.running import Call, around, current_call, hide_frame

Method = Callable[..., Any]

TargetGetter = Callable[[int], Target | None]
"""Returns the target of the object with an ``id()``, or None if the object is not measured."""

MISSING = object()
"""The default for a ``get`` that only returns it. No stored value is this object."""

GET = ("self", "key", "default", "version")
GET_MANY = ("self", "keys", "version")
GET_OR_SET = ("self", "key", "default", "timeout", "version")
STORE = ("self", "key", "value", "timeout", "version")


def parameters_of(method: FunctionType) -> tuple[str, ...] | None:
    """Return the names of a function's parameters, or None if one is not simply a name.

    A function that a decorator returned has the parameters of this function, not those of the decorated one.
    """
    code = method.__code__
    if code.co_flags & (CO_VARARGS | CO_VARKEYWORDS) or code.co_kwonlyargcount or code.co_posonlyargcount:
        return None
    return code.co_varnames[: code.co_argcount]


def wrap_by_parameters(
    method: FunctionType, operation: str, rule: Rule | CallRule, target_of: TargetGetter
) -> Method | None:
    """Return the function for a method with the parameters of one of Django's, or None.

    The arguments are those of :func:`web_prom.cache.wrappers.wrap`.
    """
    parameters = parameters_of(method)
    if isinstance(rule, GetOrSet) and parameters == GET_OR_SET:
        function = _wrap_get_or_set(method, operation, rule, target_of)
    elif isinstance(rule, GetMany) and parameters == GET_MANY:
        function = _wrap_get_many(method, operation, target_of)
    elif isinstance(rule, Rule) and parameters == STORE:
        function = _wrap_store(method, operation, rule, target_of)
    else:
        return None
    function.__defaults__ = method.__defaults__
    return function


def wrap_get(method: Method, operation: str, target_of: TargetGetter) -> Method:
    """Return the function for a ``get`` that does nothing with its default but return it.

    It gives another default to the method, and so tells a stored value from the default without the rule.
    """

    def get(self: Any, key: Any, default: Any = None, version: Any = None) -> Any:
        target = target_of(id(self))
        outer: object | None = None
        if target is not None:
            threads = target.threads
            outer = threads.get(get_ident()) if threads else None
            if outer is None and (in_task := current_call.get()) is not None and in_task.target is target:
                outer = in_task
        if target is None or outer is not None:
            try:
                value = method(self, key, default if target is None else MISSING, version)
            except BaseException as error:
                hide_frame(error)
                raise
            found = value is not MISSING
            if type(outer) is Call:
                if outer.found is None:
                    outer.found = found
                outer.found_any |= found
            return value if found else default
        started = perf_counter()
        try:
            value = method(self, key, MISSING, version)
        except BaseException as error:
            target.observe(operation, "error", perf_counter() - started)
            hide_frame(error)
            raise
        seconds = perf_counter() - started
        found = value is not MISSING
        result: Result = "hit" if found else "miss"
        try:
            target.source.writers[target.name, operation, result](seconds, None)
        except Exception:
            target.observe(operation, result, seconds)
        return value if found else default

    return get


def _wrap_store(method: Method, operation: str, rule: Rule, target_of: TargetGetter) -> Method:
    """Return the function for a ``set`` or an ``add``. The ``add`` of a ``get_or_set`` passes through."""

    def store(self: Any, key: Any, value: Any, timeout: Any = None, version: Any = None) -> Any:
        target, thread = target_of(id(self)), get_ident()
        if (
            target is None
            or thread in target.threads
            or ((in_task := current_call.get()) is not None and in_task.target is target)
        ):
            try:
                return method(self, key, value, timeout, version)
            except BaseException as error:
                hide_frame(error)
                raise
        started = perf_counter()
        target.threads[thread] = target
        try:
            stored = method(self, key, value, timeout, version)
            seconds = perf_counter() - started
        except BaseException as error:
            target.observe(operation, rule.failure(error), perf_counter() - started)
            hide_frame(error)
            raise
        finally:
            target.threads.pop(thread, None)
        result: Result = "ok"
        try:
            result = rule.result(stored)
            target.source.writers[target.name, operation, result](seconds, None)
        except Exception:
            target.observe(operation, result, seconds)
        return stored

    return store


def _wrap_get_or_set(method: Method, operation: str, rule: GetOrSet, target_of: TargetGetter) -> Method:
    """Return the function for a ``get_or_set``. The ``get`` inside it keeps what it found in the call."""

    def get_or_set(self: Any, key: Any, default: Any, timeout: Any = None, version: Any = None) -> Any:
        target, thread = target_of(id(self)), get_ident()
        if (
            target is None
            or thread in target.threads
            or ((in_task := current_call.get()) is not None and in_task.target is target)
        ):
            try:
                return method(self, key, default, timeout, version)
            except BaseException as error:
                hide_frame(error)
                raise
        call = Call()  # as in new_call(), without what other rules need
        call.target = target
        call.found = None
        call.found_any = False
        call.raised = None
        if callable(default):
            default = call.outside(default)
        started = perf_counter()
        target.threads[thread] = call
        try:
            value = method(self, key, default, timeout, version)
            seconds = perf_counter() - started
        except BaseException as error:
            target.observe(operation, rule.failure(call, error), perf_counter() - started)
            hide_frame(error)
            raise
        finally:
            target.threads.pop(thread, None)
        result = rule.result(call, value)
        try:
            target.source.writers[target.name, operation, result](seconds, None)
        except Exception:
            target.observe(operation, result, seconds)
        return value

    return get_or_set


def _wrap_get_many(method: Method, operation: str, target_of: TargetGetter) -> Method:
    """Return the function for a ``get_many``. It counts the keys of the mapping that the method returns."""

    def get_many(self: Any, keys: Any, version: Any = None) -> Any:
        target, thread = target_of(id(self)), get_ident()
        if (
            target is None
            or thread in target.threads
            or ((in_task := current_call.get()) is not None and in_task.target is target)
        ):
            try:
                value = method(self, keys, version)
            except BaseException as error:
                hide_frame(error)
                raise
            outer = None if target is None else around(target)
            if isinstance(outer, Call) and outer.found is None:  # a get may be a get_many of one key
                outer.add_get(bool(value))
            return value
        counted = keys
        if type(keys) not in SEQUENCES:
            keys, counted = record_keys(keys)
        started = perf_counter()
        target.threads[thread] = target
        try:
            value = method(self, keys, version)
            seconds = perf_counter() - started
        except BaseException as error:
            target.observe(operation, "error", perf_counter() - started)
            hide_frame(error)
            raise
        finally:
            target.threads.pop(thread, None)
        try:
            hits = len(value)
            misses = 0 if type(counted) in SEQUENCES and hits == len(counted) else len(set(counted)) - hits
            write = None if misses else target.source.found_all_writers.get((target.name, operation))
            if write is None:
                target.observe_keys(operation, hits, misses, seconds)
            else:
                write(hits, seconds)
        except Exception:
            target.record_internal_error()
        return value

    return get_many
