"""Functions in the place of a backend's methods, which measure the caches that are registered.

Each calls the method once, with the cache and the arguments of the caller, and returns its value or raises
its exception. Other objects of the class, and operations inside an operation of the same cache, pass through.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from threading import get_ident
from time import perf_counter
from typing import Any

from web_prom.cache.calls import Call, CallRule, Rule, around, current_call, hide_frame
from web_prom.cache.conventions import Result
from web_prom.cache.recorder import Target

Method = Callable[..., Any]

TargetGetter = Callable[[int], Target | None]
"""Returns the target of the object with an ``id()``, or None if the object is not measured."""

MISSING = object()
"""The default for a ``get`` that only returns it. No stored value is this object."""


def wrap(
    method: Method, operation: str, rule: Rule | CallRule, target_of: TargetGetter, *, exact: bool
) -> Method:
    """Return the function for the place of a method.

    Args:
        method: The method, a plain function.
        operation: The name of the operation.
        rule: What came of an operation.
        target_of: Returns the target of an object.
        exact: Whether the method is a ``get(key, default=None, version=None)`` that does nothing with its
            default but return it, and calls no other operation.
    """
    if inspect.iscoroutinefunction(method):
        function = _wrap_async(method, operation, _as_call_rule(rule), target_of)
    elif exact:
        function = _wrap_exact_get(method, operation, target_of)
    elif isinstance(rule, CallRule):
        function = _wrap_call(method, operation, rule, target_of)
    else:
        function = _wrap(method, operation, rule, target_of)
    functools.update_wrapper(function, method)
    function.__signature__ = inspect.signature(method)  # type: ignore[attr-defined] # for getfullargspec()
    return function


def _wrap_call(method: Method, operation: str, rule: CallRule, target_of: TargetGetter) -> Method:
    writes_result = type(rule).observe is CallRule.observe
    prepare, result_of = rule.prepare, rule.result

    def measured(*args: Any, **kwargs: Any) -> Any:
        target = target_of(id(args[0])) if args else None
        outer = None
        if target is None or (
            (target.threads or current_call.get() is not None) and (outer := around(target)) is not None
        ):
            try:
                value = method(*args, **kwargs)
            except BaseException as error:
                hide_frame(error)
                raise
            _keep_found(outer, rule, value, args, kwargs)
            return value
        call = Call()
        call.target = target
        args, kwargs = prepare(call, args, kwargs)
        threads, thread = target.threads, get_ident()
        threads[thread] = call
        started = perf_counter()
        try:
            value = method(*args, **kwargs) if kwargs else method(*args)
            seconds = perf_counter() - started
        except BaseException as error:
            target.observe(operation, rule.failure(call, error), perf_counter() - started)
            hide_frame(error)
            raise
        finally:
            threads.pop(thread, None)
        try:
            write = None
            if writes_result:
                write = target.source.writers.get((target.name, operation, result_of(call, value)))
            if write is None:
                rule.observe(target, operation, call, value, seconds)
            else:
                write(seconds, None)
        except Exception:
            target.record_internal_error()
        return value

    return measured


def _wrap_async(method: Method, operation: str, rule: CallRule, target_of: TargetGetter) -> Method:
    async def measured(*args: Any, **kwargs: Any) -> Any:
        target = target_of(id(args[0])) if args else None
        outer = None if target is None else around(target)
        if target is None or outer is not None:
            try:
                value = await method(*args, **kwargs)
            except BaseException as error:
                hide_frame(error)
                raise
            _keep_found(outer, rule, value, args, kwargs)
            return value
        call = Call()
        call.target = target
        args, kwargs = rule.prepare(call, args, kwargs)
        before = current_call.get()
        current_call.set(call)
        started = perf_counter()
        try:
            value = await method(*args, **kwargs)
        except BaseException as error:
            _leave(call, before)
            target.observe(operation, rule.failure(call, error), perf_counter() - started)
            hide_frame(error)
            raise
        seconds = perf_counter() - started
        _leave(call, before)
        try:
            rule.observe(target, operation, call, value, seconds)
        except Exception:
            target.record_internal_error()
        return value

    return measured


# The two functions below contain what the others call, because calls take half of the time of a measurement.


def _wrap(method: Method, operation: str, rule: Rule, target_of: TargetGetter) -> Method:
    def measured(*args: Any, **kwargs: Any) -> Any:
        target = target_of(id(args[0])) if args else None
        if target is None or (
            (target.threads or current_call.get() is not None) and around(target) is not None
        ):
            try:
                return method(*args, **kwargs)
            except BaseException as error:
                hide_frame(error)
                raise
        thread = get_ident()
        target.threads[thread] = target
        started = perf_counter()
        try:
            value = method(*args, **kwargs) if kwargs else method(*args)
            seconds = perf_counter() - started
        except BaseException as error:
            target.observe(operation, rule.failure(error), perf_counter() - started)
            hide_frame(error)
            raise
        finally:
            target.threads.pop(thread, None)
        result: Result = "ok"
        try:
            result = rule.result(value)
            target.source.writers[target.name, operation, result](seconds, None)
        except Exception:
            target.observe(operation, result, seconds)
        return value

    return measured


def _wrap_exact_get(method: Method, operation: str, target_of: TargetGetter) -> Method:
    """Return the function for a ``get`` of which :func:`wrap` says what it does."""

    def get(self: Any, key: Any, default: Any = None, version: Any = None) -> Any:
        target = target_of(id(self))
        outer: object | None = None
        if target is not None:  # the same as around(), without the call
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
            if outer.__class__ is Call:
                outer.add_get(value is not MISSING)
            return default if value is MISSING else value
        started = perf_counter()
        try:
            value = method(self, key, MISSING, version)
        except BaseException as error:
            target.observe(operation, "error", perf_counter() - started)
            hide_frame(error)
            raise
        seconds = perf_counter() - started
        result: Result = "hit"
        if value is MISSING:
            value, result = default, "miss"
        try:
            target.source.writers[target.name, operation, result](seconds, None)
        except Exception:
            target.observe(operation, result, seconds)
        return value

    return get


def _keep_found(
    outer: object | None, rule: CallRule, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Keep whether a ``get`` inside an operation found its key, unless a ``get`` inside it has done so."""
    if rule.finds_keys and isinstance(outer, Call) and outer.found is None:
        outer.add_get(rule.found(args, kwargs, value))


def _leave(call: Call, before: Call | None) -> None:
    """End an operation. The one around it goes on."""
    call.target = None
    current_call.set(before)


def _as_call_rule(rule: Rule | CallRule) -> CallRule:
    return rule if isinstance(rule, CallRule) else _SimpleRule(rule)


class _SimpleRule(CallRule):
    """A rule that needs nothing of the call."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def result(self, call: Call, value: Any) -> Result:
        """Ask the rule."""
        return self._rule.result(value)

    def failure(self, call: Call, error: BaseException) -> Result:
        """Ask the rule."""
        return self._rule.failure(error)
