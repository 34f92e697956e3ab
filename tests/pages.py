"""The pages of docs, as tests read them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.rst")), *sorted((ROOT / "docs").rglob("*.rst"))]


def sections(page: Path) -> dict[str, str]:
    """Return the text of each section by its heading."""
    parts = re.split(r"^(\S.*)\n-{3,}\n", page.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def code_blocks(text: str, language: str) -> list[str]:
    """Return the code blocks in a language, in order and without their indentation."""
    found = []
    for rest in text.split(f"\n.. code-block:: {language}\n\n")[1:]:
        lines = re.split(r"\n+(?=\S)", rest)[0].rstrip().splitlines()
        assert all(line.startswith("    ") or not line for line in lines), lines
        found.append("\n".join(line[4:] for line in lines) + "\n")
    return found
