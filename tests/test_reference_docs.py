"""The reference pages list every public name, and the pages name only things that exist in the code."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.manifests import named
from tests.pages import PAGES, ROOT

REFERENCE = ROOT / "docs" / "reference"
CORE = ("web_prom", "flask_prom", "django_prom")


def sources() -> list[Path]:
    """Return the files of the three packages."""
    return [path for package in CORE for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize(
    "name",
    [
        "web_prom",
        "web_prom.wsgi",
        "web_prom.asgi",
        "web_prom.database",
        "web_prom.live",
        "web_prom.jobs",
        "flask_prom",
        "django_prom",
    ],
)
def test_api_page_has_every_public_name(name: str) -> None:
    page = (REFERENCE / "api.rst").read_text("utf-8")
    documented = set(re.findall(rf"^\.\. (?:auto|py:)\w+:: {name}\.(\w+)$", page, re.MULTILINE))
    # The errors have a page of their own, which lists the whole module.
    errors = {kind for kind in vars(import_module("web_prom.errors")) if kind.endswith("Error")}
    assert documented >= set(import_module(name).__all__) - errors
    assert "automodule:: web_prom.errors\n   :members:" in (REFERENCE / "errors.rst").read_text("utf-8")


def test_gunicorn_page_has_every_hook() -> None:
    """The page lists the module's public functions; its ``__all__`` names the same ones."""
    tree = ast.parse((ROOT / "web_prom" / "gunicorn.py").read_text("utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"}
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert functions == set(names)
    assert ".. gunicorn-hooks::" in (REFERENCE / "api.rst").read_text("utf-8")


def test_errors_page_quotes_messages_of_the_code() -> None:
    """Each heading of its log messages is a part of a string in the code."""
    strings = [
        node.value
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    page = (REFERENCE / "errors.rst").read_text("utf-8")
    part = page.split(".. log messages begin")[1].split(".. log messages end")[0]
    quoted = re.findall(r"^``(.+)``\n    ", part, re.MULTILINE)
    assert len(quoted) > 20
    assert [text for text in quoted if not any(text in string for string in strings)] == []


@named(PAGES)
def test_page_names_files_that_exist(path: Path) -> None:
    """Whole paths from the root of the repository."""
    text = path.read_text("utf-8")
    found = re.findall(
        r"(?<![\w/.-])((?:web_prom|flask_prom|django_prom|docs|tests|examples|benchmarks)/[\w./-]*\w)", text
    )
    missing = {name for name in found if not (ROOT / name).exists()}
    assert missing == set()


@named(PAGES)
def test_page_names_modules_that_exist(path: Path) -> None:
    """Dotted names, and the short names of files in literals (``slots.py``)."""
    text = path.read_text("utf-8")
    for name in re.findall(r"``((?:web_prom|flask_prom|django_prom)(?:\.\w+)+)", text):
        assert exists(name), name
    files = {source.name for source in sources()}
    if path.parent.name == "explanation":
        shown = set(re.findall(r"(?<![\w/.-])(\w+\.py)\b", text))
        assert shown - files - {path.name for path in (ROOT / "tests").rglob("*.py")} == set()


def exists(name: str) -> bool:
    """Say whether a dotted name is a module, an attribute of one, or a check or label of Django."""
    if name == "web_prom.gunicorn" or re.fullmatch(r"django_prom\.[EW]\d{3}|web_prom\.recording", name):
        return True
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def test_architecture_page_draws_every_folder_and_top_module() -> None:
    """The tree of the page is that of ``web_prom``."""
    page = (ROOT / "docs" / "explanation" / "architecture.rst").read_text("utf-8")
    tree = page.split("    web_prom/\n")[1].split("\n\n")[0]
    core = ROOT / "web_prom"
    folders = {f"{path.parent.name}/" for path in core.rglob("__init__.py")} - {"web_prom/"}
    modules = {path.stem for path in core.glob("[!_]*.py")}
    shown = set(re.findall(r"\w+/?", tree))
    assert folders | modules <= shown
