"""Wrappers that observe the calls of functions of each kind, without a change of the function's behaviour."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import partial, wraps
from time import perf_counter
from types import FunctionType, coroutine
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from web_prom.decorators.call_labels import MISSING, Arguments, Keywords

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")
S = TypeVar("S")

Enter = Callable[[Arguments, Keywords], Any]
Leave = Callable[[Any, Arguments, Keywords, Any, "BaseException | None"], object]

_CACHE_METHODS = ("cache_info", "cache_clear")
"""Methods of ``functools.lru_cache`` that are not in the dictionary that ``wraps`` copies."""


class Observer(NamedTuple):
    """Functions that observe the calls of one decorated function. They never raise.

    Attributes:
        enter: Called with the arguments at the start. It returns the token of the call. None: the token is
            ``perf_counter()``.
        leave: Called at the end with the token, the arguments, the result (MISSING if the call raised) and
            the error.
        leave_later: As ``leave``, for a call that a GeneratorExit ended. It takes no lock, because the
            garbage collector may call it at any time.
    """

    enter: Enter | None
    leave: Leave
    leave_later: Leave


def wrap(function: Any, make_observer: Callable[[Callable[..., Any]], Observer]) -> Any:
    """Return a function, a method descriptor or a property whose calls are observed.

    Args:
        function: A function of any kind; a ``staticmethod``, ``classmethod`` or ``property`` object.
        make_observer: Returns the observer for a function. It raises ConfigError for labels that do not fit.

    Raises:
        TypeError: The object is not a function.
    """
    if isinstance(function, staticmethod | classmethod):
        return type(function)(wrap(function.__func__, make_observer))
    if isinstance(function, property) and function.fget is not None:
        return type(function)(
            wrap(function.fget, make_observer), function.fset, function.fdel, function.__doc__
        )
    is_function = isinstance(function, partial) or (inspect.isroutine(function) and callable(function))
    if inspect.isclass(function) or not is_function:
        raise TypeError(
            f"{function!r} is not a function; put the decorator directly above the function, below "
            "decorators that replace it by another object"
        )
    return _wrap_function(function, make_observer(function))


def _wrap_function(function: Callable[P, R], observer: Observer) -> Callable[P, R]:
    if inspect.isasyncgenfunction(function):
        wrapper: Any = _wrap_async_generator(function, *observer)
    elif inspect.isgeneratorfunction(function):
        wrapper = _wrap_generator(function, *observer)
        code = getattr(function, "__code__", None)  # a partial function has none
        if code is not None and code.co_flags & inspect.CO_ITERABLE_COROUTINE:
            wrapper = coroutine(wrapper)
    elif inspect.iscoroutinefunction(function) or _is_marked_as_coroutine(function):
        wrapper = _wrap_coroutine(cast("Callable[P, Coroutine[Any, Any, Any]]", function), *observer)
    else:
        wrapper = _wrap_sync(function, *observer)
    wrapper = wraps(function)(_with_globals_of(function, wrapper))
    for name in _CACHE_METHODS:
        if hasattr(function, name) and not hasattr(wrapper, name):
            setattr(wrapper, name, getattr(function, name))
    return cast("Callable[P, R]", wrapper)


def _with_globals_of(function: Any, wrapper: FunctionType) -> FunctionType:
    """Return a wrapper with the globals of the function that it wraps.

    FastAPI and others evaluate annotations that are strings in the globals of the function that they get. The
    wrappers below use no global names.
    """
    module_globals = getattr(inspect.unwrap(function), "__globals__", None)
    if type(module_globals) is not dict:
        return wrapper
    return FunctionType(wrapper.__code__, module_globals, wrapper.__name__, None, wrapper.__closure__)


def _is_marked_as_coroutine(function: Any) -> bool:
    """Return whether a function has the mark of asyncio and asgiref for functions that return coroutines.

    Django marks the views of asynchronous class-based views. From Python 3.12 on, ``inspect`` knows the mark.
    """
    mark = getattr(function, "_is_coroutine", None)
    coroutines = sys.modules.get("asyncio.coroutines")
    return mark is not None and mark is getattr(coroutines, "_is_coroutine", None)


# The wrappers use the names of their own scope only (_with_globals_of). The traceback of an exception has one
# frame more: that of the wrapper.


def _wrap_sync(
    function: Callable[P, R], enter: Enter | None, leave: Leave, leave_later: Leave
) -> Callable[P, R]:
    clock, missing, every = perf_counter, MISSING, BaseException

    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        token = clock() if enter is None else enter(args, kwargs)
        try:
            result = function(*args, **kwargs)
        except every as error:
            leave(token, args, kwargs, missing, error)
            raise
        leave(token, args, kwargs, result, None)
        return result

    return wrapper


def _wrap_coroutine(
    function: Callable[P, Coroutine[Any, Any, R]], enter: Enter | None, leave: Leave, leave_later: Leave
) -> Callable[P, Coroutine[Any, Any, R]]:
    clock, missing, every, closed = perf_counter, MISSING, BaseException, GeneratorExit

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        token = clock() if enter is None else enter(args, kwargs)
        try:
            result = await function(*args, **kwargs)
        except closed as error:
            leave_later(token, args, kwargs, missing, error)
            raise
        except every as error:
            leave(token, args, kwargs, missing, error)
            raise
        leave(token, args, kwargs, result, None)
        return result

    return wrapper


def _wrap_generator(
    function: Callable[P, Generator[Y, S, R]], enter: Enter | None, leave: Leave, leave_later: Leave
) -> Callable[P, Generator[Y, S, R]]:
    clock, missing, every, closed = perf_counter, MISSING, BaseException, GeneratorExit

    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Generator[Y, S, R]:
        token = clock() if enter is None else enter(args, kwargs)
        try:
            result = yield from function(*args, **kwargs)
        except closed:
            leave_later(token, args, kwargs, missing, None)
            raise
        except every as error:
            leave(token, args, kwargs, missing, error)
            raise
        leave(token, args, kwargs, result, None)
        return result

    return wrapper


def _wrap_async_generator(
    function: Callable[P, AsyncGenerator[Y, S]], enter: Enter | None, leave: Leave, leave_later: Leave
) -> Callable[P, AsyncGenerator[Y, S]]:
    clock, missing, every = perf_counter, MISSING, BaseException
    closed, end = GeneratorExit, StopAsyncIteration
    get_hooks, set_hooks = sys.get_asyncgen_hooks, sys.set_asyncgen_hooks

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Y, S]:
        token = clock() if enter is None else enter(args, kwargs)
        thrown: list[BaseException] = []
        try:
            generator = function(*args, **kwargs)
            # At its end, an event loop closes all generators that it knows at the same time. It must not know
            # this one, because the wrapper closes it.
            hooks = get_hooks()
            set_hooks(None, None)
            try:
                first = generator.__anext__()
            finally:
                set_hooks(*hooks)
            try:
                value = await first
                while True:
                    try:
                        sent = yield value
                    except every as error:
                        thrown.append(error)
                    # Outside of the `except` block: it would be the context of exceptions of the generator.
                    if thrown:
                        value = await generator.athrow(thrown.pop())
                    else:
                        value = await generator.asend(sent)
            except end:
                result = None
        except closed:
            leave_later(token, args, kwargs, missing, None)
            raise
        except every as error:
            leave(token, args, kwargs, missing, error)
            raise
        leave(token, args, kwargs, result, None)

    return wrapper
