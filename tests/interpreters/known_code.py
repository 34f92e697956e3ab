"""The code of modules that programs import themselves, so that an import needs no look at files.

The template reads it once. It runs none of it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import machinery
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

_LOADERS = (
    (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
    (machinery.SourceFileLoader, machinery.SOURCE_SUFFIXES),
    (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
)

# By the path of the file.
_code: dict[str, CodeType] = {}


class _Loader(machinery.SourceFileLoader):
    """Loads a module of which the code is known."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the module."""
        return _code[self.path]


class _Finder(machinery.FileFinder):
    """Finds the modules of a folder: those of which the code is known, and all others as usual."""

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> machinery.ModuleSpec | None:
        """Return the spec of a module or a package of this folder."""
        place = f"{self.path}/{fullname.rpartition('.')[2]}"
        files: Sequence[tuple[str, list[str] | None]] = (
            (f"{place}/__init__.py", [place]),
            (f"{place}.py", None),
        )
        for file, folders in files:
            if file in _code:
                loader = _Loader(fullname, file)
                return spec_from_file_location(
                    fullname, file, loader=loader, submodule_search_locations=folders
                )
        return super().find_spec(fullname, target)


def read(package: str) -> None:
    """Read the code of all modules in the folders of an installed package, which is not imported."""
    spec = find_spec(package)
    for top in () if spec is None else spec.submodule_search_locations or ():
        for path in Path(top).rglob("*.py"):
            code = machinery.SourceFileLoader("", str(path)).get_code("")
            assert code is not None
            _code[str(path)] = code
            folder = str(path.parent)
            sys.path_importer_cache[folder] = _Finder(folder, *_LOADERS)
