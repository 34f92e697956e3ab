"""docs/how-to/products.rst names settings, hooks and files that exist."""

from __future__ import annotations

import re
import shlex

from tests.pages import ROOT, code_blocks
from tests.web_prom.support import python
from web_prom.config import FIELDS, PREFIX

PAGE = ROOT / "docs" / "how-to" / "products.rst"
TEXT = PAGE.read_text("utf-8")
PYTHON = code_blocks(TEXT, "python")


def commands() -> list[list[str]]:
    """Return the words of each command in the page's blocks without a language."""
    blocks = re.findall(r"::\n\n((?: {4}.*\n|\n)+)", re.sub(r"\.\. code-block::.*", "", TEXT))
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def test_fault_86_settings_on_the_page_exist() -> None:
    known = {PREFIX + name.upper() for name in FIELDS}
    assert known.issuperset(named := set(re.findall(r"PROM_[A-Z_]+", TEXT)))
    assert "PROM_INSTRUMENT" in named


def test_fault_86_gunicorn_commands_of_the_page_have_the_hooks() -> None:
    """With the settings that the recipe needs."""
    starts = [words for words in commands() if words[0] in ("gunicorn", "mlflow")]
    assert len(starts) == 5
    for words in starts:
        assert "--config python:web_prom.gunicorn" in " ".join(words)
    needed = [
        words[1:] for words in commands() if words[0] == "export" and words[1].startswith("PROM_INSTRUMENT")
    ]
    assert needed == [["PROM_INSTRUMENT=1", "PROM_BIND=127.0.0.1:9464", "PROM_PATH="]] * len(starts)


def test_fault_86_python_of_the_page_compiles_and_has_all_hooks() -> None:
    for block in PYTHON:
        compile(block, "docs/how-to/products.rst", "exec")
    importing = [block for block in PYTHON if "from web_prom.gunicorn import" in block]
    assert len(importing) == 2
    # In an interpreter of its own: the hooks make a shared directory and name it in the environment.
    check = """
    import sys
    from web_prom import gunicorn
    found = {}
    exec(sys.argv[1], found)
    assert found.keys() >= set(gunicorn.__all__), found.keys()
    assert "PROM_INSTRUMENT=1" in found["raw_env"]
    """
    for block in importing:
        python(check, block)


def test_fault_86_links_of_the_page_exist() -> None:
    for target in re.findall(r"<([\w./]+\.rst)>", TEXT):
        assert (PAGE.parent / target).exists(), target
    assert "<docs/how-to/products.rst>" in (ROOT / "README.rst").read_text("utf-8")
