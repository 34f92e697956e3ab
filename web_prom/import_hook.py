"""Functions that are called when a module of another package is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from threading import RLock
from types import ModuleType
from typing import Any

_lock = RLock()


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
    """Call a function with a module: at once if it is imported, else as soon as it is.

    The module is not imported for this. Only the last function for each module is called.

    Args:
        name: The full name of the module.
        callback: The function. It must not raise.
    """
    if sys.modules.get(name) is not None:
        callback(import_module(name))  # another thread may not have finished the import
        return
    with _lock:
        _import_hook.waiting[name] = callback
        if _import_hook not in sys.meta_path:
            sys.meta_path.insert(0, _import_hook)
