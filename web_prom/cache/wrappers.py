"""Functions in the place of a backend's methods, which measure the caches that are registered.

Each calls the method once, with the cache and the arguments of the caller, and returns its value or raises
its exception. Other objects of the class, and operations inside an operation of the same cache, pass through.
The functions of this module take any arguments. Those of :mod:`web_prom.cache.positional` are faster.
"""

from __future__ import annotations

import functools
import inspect
from threading import get_ident
from time import perf_counter
from types import FunctionType
from typing import Any

from web_prom.cache.calls import CallRule, Rule
from web_prom.cache.conventions import Result
from web_prom.cache.positional import Method, TargetGetter, wrap_by_parameters, wrap_get
from web_prom.cache.running import Call, around, current_call, hide_frame, new_call


def wrap(
    method: FunctionType, operation: str, rule: Rule | CallRule, target_of: TargetGetter, *, exact: bool
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
        function = wrap_get(method, operation, target_of)
    elif (by_parameters := wrap_by_parameters(method, operation, rule, target_of)) is not None:
        function = by_parameters
    elif isinstance(rule, CallRule):
        function = _wrap_call(method, operation, rule, target_of)
    else:
        function = _wrap(method, operation, rule, target_of)
    functools.update_wrapper(function, method)
    function.__signature__ = inspect.signature(method)  # type: ignore[attr-defined] # for getfullargspec()
    return function


def _wrap_call(method: Method, operation: str, rule: CallRule, target_of: TargetGetter) -> Method:
    """Return the function for any method whose rule needs to know more about the call."""
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
        call = new_call(target)
        args, kwargs = prepare(call, args, kwargs)
        threads, thread = target.threads, get_ident()
        started = perf_counter()
        threads[thread] = call
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
    """Return the function for a coroutine function. A context variable holds the operation of a task."""

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
        call = new_call(target)
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


def _wrap(method: Method, operation: str, rule: Rule, target_of: TargetGetter) -> Method:
    """Return the function for any method whose rule needs only the value. It creates no call."""

    def measured(*args: Any, **kwargs: Any) -> Any:
        target = target_of(id(args[0])) if args else None
        thread = get_ident()
        if (
            target is None
            or thread in target.threads
            or ((in_task := current_call.get()) is not None and in_task.target is target)
        ):
            try:
                return method(*args, **kwargs)
            except BaseException as error:
                hide_frame(error)
                raise
        started = perf_counter()
        target.threads[thread] = target
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
