"""The measurement of single caches. Nothing in a cache changes.

A cache keeps its class, its attributes and its ``__dict__``. It can be pickled and copied as before, and is
freed as before, because it does not refer to the measurement. The functions that measure are put once into
the classes that define the methods, and look up which objects are measured.

Functions in the objects themselves would make each cache a reference cycle. Its connections would then stay
open until the garbage collector runs, and under ASGI each request has caches of its own. A copy of a cache
would have the functions, too, and change the original.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import RLock
from types import FunctionType
from typing import Any, NamedTuple
from weakref import ref

from web_prom.cache.calls import CallRule, Rule
from web_prom.cache.positional import GET, parameters_of
from web_prom.cache.recorder import RecorderSource, Target
from web_prom.cache.wrappers import wrap
from web_prom.posix import at_fork


class Library(NamedTuple):
    """The operations of the caches of one library.

    Attributes:
        methods: For each name of a method, the name of the operation and its rule.
        exact_modules: The start of the names of modules whose ``get`` does nothing with its default but
            return it.
    """

    methods: Mapping[str, tuple[str, Rule | CallRule]]
    exact_modules: tuple[str, ...] = ()

    def is_exact_get(self, method: FunctionType) -> bool:
        """Return whether a method is a ``get`` as :func:`web_prom.cache.wrappers.wrap` describes it.

        A method that names another operation may call it.
        """
        others = self.methods.keys() - {"get"}
        return (
            method.__module__.startswith(self.exact_modules)
            and method.__name__ == "get"
            and parameters_of(method) == GET
            and method.__defaults__ == (None, None)
            and others.isdisjoint(method.__code__.co_names)
        )


_lock = RLock()
_targets: dict[int, Target] = {}
_references: dict[int, Callable[[], Any]] = {}
_replaced: dict[type, tuple[Library, dict[str, tuple[Any, Any]]]] = {}
"""For each class its library, and for each name the original method and the function in its place."""

at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


def measure(cache: Any, name: str, source: RecorderSource, library: Library) -> None:
    """Measure a cache from now on. A second call replaces the name and the source.

    Safe to call from any thread.

    Args:
        cache: The cache. Only a weak reference to it is kept.
        name: The value of the label ``cache``.
        source: Finds the recorder of its operations.
        library: The operations of its library.
    """
    kind = type(cache)
    if kind not in _replaced:
        with _lock:
            for each in kind.__mro__:
                _replace_methods(each, library)
    identity = id(cache)

    def remove(dead: object) -> None:
        if _references.get(identity) is dead:
            del _references[identity]
            _targets.pop(identity, None)

    _references[identity] = ref(cache, remove)
    _targets[identity] = Target(name, source, f"{kind.__module__}.{kind.__qualname__}")


def is_measured(cache: Any) -> bool:
    """Return whether a cache is measured."""
    return id(cache) in _targets


def source_of(cache: Any) -> RecorderSource | None:
    """Return what finds the recorder of a measured cache, or None."""
    target = _targets.get(id(cache))
    return None if target is None else target.source


def is_known(cache: Any) -> bool:
    """Return whether a cache is measured, or was measured before :func:`forget`."""
    return id(cache) in _references


def forget(cache: Any) -> None:
    """Stop the measurement of a cache. A cache that is not measured is left alone."""
    _targets.pop(id(cache), None)


def restore(library: Library) -> None:
    """Put the original methods back into the classes of a library, unless other code has replaced them."""
    with _lock:
        for kind, (owner, methods) in list(_replaced.items()):
            if owner is library:
                for name, (original, function) in methods.items():
                    if vars(kind).get(name) is function:
                        setattr(kind, name, original)
                del _replaced[kind]


def _replace_methods(kind: type, library: Library) -> None:
    if kind in _replaced:
        return
    methods: dict[str, tuple[Any, Any]] = {}
    for name, (operation, rule) in library.methods.items():
        method = vars(kind).get(name)
        if isinstance(method, FunctionType):
            exact = library.is_exact_get(method)
            function = wrap(method, operation, rule, _targets.get, exact=exact)
            methods[name] = method, function
            setattr(kind, name, function)
    _replaced[kind] = library, methods
