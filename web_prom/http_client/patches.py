"""Replacing methods of classes of other packages, at once or when a package is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from threading import RLock
from types import ModuleType
from typing import Any

MakeWrapper = Callable[[Any], Any]
"""Takes a method of a class, and returns the function that replaces it."""

_lock = RLock()
_patched: dict[tuple[type, str], tuple[Any, Any]] = {}


def patch_method(cls: type, name: str, make: MakeWrapper) -> bool:
    """Replace a method, once, and return whether the class defines it. Safe from any thread.

    The replacement has the name, the module and the signature of the method. Further calls change nothing.

    Args:
        cls: The class.
        name: The name of the method. A class that does not define it itself stays as it is.
        make: Returns the replacement.
    """
    with _lock:
        original = cls.__dict__.get(name)
        if original is None:
            return False
        if (cls, name) not in _patched:
            wrapper = wraps(original)(make(original))
            _patched[cls, name] = wrapper, original
            setattr(cls, name, wrapper)
        return True


def restore_methods() -> None:
    """Restore all replaced methods that no other code has replaced. No request may be running."""
    with _lock:
        for (cls, name), (wrapper, original) in list(_patched.items()):
            if cls.__dict__.get(name) is wrapper:
                setattr(cls, name, original)
                del _patched[cls, name]


def drop_frame(error: BaseException) -> None:
    """Remove the frame of the caller from the traceback of an exception that it handles and raises again.

    So the traceback is that of a program that is not measured. Python 3.10 keeps the frame.
    """
    traceback = error.__traceback__
    if traceback is not None and traceback.tb_next is not None:
        error.__traceback__ = traceback.tb_next


class _ImportHook(MetaPathFinder):
    """Calls a function when a module has been imported. It changes nothing else of the import."""

    def __init__(self) -> None:
        self.waiting: dict[str, Callable[[ModuleType], None]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find."""
        if name not in self.waiting:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    self._watch(spec)
                    return spec
        return None

    def _watch(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        execute: Any = getattr(loader, "exec_module", None)

        def exec_module(module: ModuleType) -> None:
            loader.__dict__.pop("exec_module", None)
            execute(module)
            callback = self.waiting.pop(spec.name, None)
            if callback is not None:
                callback(module)

        if hasattr(loader, "__dict__") and execute is not None:
            loader.exec_module = exec_module


_import_hook = _ImportHook()


def when_imported(name: str, callback: Callable[[ModuleType], None]) -> None:
    """Call a function with a package: at once if it is imported, else as soon as it is.

    The package is not imported for this. Only the last function for each package is called.

    Args:
        name: The name of a package that is no part of another one.
        callback: The function. It must not raise.
    """
    if name in sys.modules:
        callback(import_module(name))  # another thread may not have finished the import
        return
    with _lock:
        _import_hook.waiting[name] = callback
        if _import_hook not in sys.meta_path:
            sys.meta_path.insert(0, _import_hook)
