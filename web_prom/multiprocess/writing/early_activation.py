"""The switch to shared values when a process makes its first value, or imports prometheus_client."""

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

    Until then nothing is read and no file is created. Nothing happens if values are not shared, or if
    web-prom shares them already. Safe to call any number of times.
    """
    from web_prom.multiprocess.writing import activation

    activation.defer_activation()


def switch_at_import() -> None:
    """Call :func:`switch_at_first_value` when prometheus_client is imported, and not before.

    This is for servers. Their application may create metrics before it imports web-prom. prometheus_client
    would write them to files per process id, and raise an error in the application if the directory cannot be
    written.
    """
    if _PACKAGE in sys.modules:
        switch_at_first_value()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds prometheus_client once, by the other finders, and adds one step after its import."""

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
    """Runs the loader of the package, and then the additional step."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module that the loader creates."""
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        """Execute the package, and give it its own loader back."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        switch_at_first_value()
