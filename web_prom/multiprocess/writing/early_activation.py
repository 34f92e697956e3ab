"""The switch to shared values when a process makes its first value, before anybody asks for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_PACKAGE = "prometheus_client"


def switch_at_first_value() -> None:
    """Have the first value that prometheus_client makes for its own files call ``share_values``.

    Nothing is read and nothing is made before. It does nothing where values are not shared, or shared by
    web-prom already. Safe to call any number of times.
    """
    from web_prom.multiprocess.writing import activation

    activation.defer()


def switch_at_import() -> None:
    """Do the same as soon as somebody imports prometheus_client, and not before.

    For a server, whose application may make instruments before it imports web-prom: prometheus_client would
    write files per process id, and raise an error in the application where the directory cannot be written.
    """
    if _PACKAGE in sys.modules:
        switch_at_first_value()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds prometheus_client once, as the other finders do, and adds one step after its import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the package, and None for any other module."""
        if fullname != _PACKAGE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """The loader of the package itself, and the step after it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return what the loader makes."""
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        """Run the package, which from then on has its own loader alone."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        switch_at_first_value()
