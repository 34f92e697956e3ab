"""Intersphinx without a network: inventories that are kept as text.

Each file of ``docs/inventories`` names a project's public address and the objects that our pages refer to.
A line of it is a line of the project's own ``objects.inv``, which Sphinx reads only in compressed form.
"""

from __future__ import annotations

import zlib
from pathlib import Path


def mapping(texts: Path, compressed: Path) -> dict[str, tuple[str, str]]:
    """Compress each inventory, and return what ``intersphinx_mapping`` takes: name to address and file."""
    compressed.mkdir(parents=True, exist_ok=True)
    found = {}
    for path in sorted(texts.glob("*.txt")):
        lines = path.read_text("utf-8").splitlines()
        address = lines[0].removeprefix("# address: ")
        objects = [line for line in lines if line and not line.startswith("#")]
        head = f"# Sphinx inventory version 2\n# Project: {path.stem}\n# Version: \n# zlib\n"
        target = compressed / f"{path.stem}.inv"
        target.write_bytes(head.encode() + zlib.compress("".join(f"{line}\n" for line in objects).encode()))
        found[path.stem] = address, str(target)
    return found
