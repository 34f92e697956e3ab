"""The files of the page: their size, what is vendored, and that nothing in them breaks the policy."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import web_prom.advice
import web_prom.live.assets
from tests.live_page.pictures import MAX_BYTES, PICTURES
from web_prom.live.assets import assets, page

FOLDER = Path(web_prom.live.assets.__file__).with_name("assets")
DOCS = Path(__file__).parents[2] / "docs"
VENDORED = json.loads((FOLDER / "vendor" / "vendored.json").read_text("utf-8"))


def test_page_is_under_60_kb_compressed() -> None:
    sizes = {name: len(asset.compressed) for name, asset in assets().items()} | {"": len(page().compressed)}

    assert sum(sizes.values()) < 60_000, sizes


def test_vendored_files_are_those_that_are_recorded() -> None:
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (FOLDER / "vendor").iterdir()
        if path.name != "vendored.json"
    }

    assert found == {name: recorded["sha256"] for name, recorded in VENDORED["files"].items()}


def test_vendored_script_states_the_recorded_version_and_licence() -> None:
    script = (FOLDER / "vendor" / "uPlot.iife.min.js").read_text("utf-8")

    assert f"(v{VENDORED['version']})" in script[:200]
    assert VENDORED["licence"] in (FOLDER / "vendor" / "LICENSE").read_text("utf-8")


@pytest.mark.parametrize("name", [path.name for path in FOLDER.glob("*.html")])
def test_documents_have_no_inline_script_or_style(name: str) -> None:
    html = (FOLDER / name).read_text("utf-8")

    assert not re.findall(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:", html)


def test_page_asks_for_nothing_from_elsewhere() -> None:
    own = [path for path in FOLDER.iterdir() if path.suffix in (".html", ".css", ".js")]
    # An address of a namespace is a name.
    texts = {path.name: path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "") for path in own}

    assert {name for name, text in texts.items() if re.search(r"https?:|@import|url\(", text)} == set()


def test_each_verdict_has_a_place_with_its_numbers() -> None:
    advice = Path(web_prom.advice.__file__).parent.glob("*.py")
    names = {name for path in advice for name in re.findall(r'\bname="([a-z_]+)"', path.read_text("utf-8"))}
    script = (FOLDER / "parts.js").read_text("utf-8").split("const places = {")[1].split("};")[0]

    assert set(re.findall(r"^  ([a-z_]+):", script, re.MULTILINE)) == names


def test_pictures_of_the_documentation_are_small_and_used() -> None:
    pictures = {path.name: path.stat().st_size for path in (DOCS / "pictures").iterdir()}
    text = "".join(
        path.read_text("utf-8") for path in (DOCS / "how-to" / "live.rst", DOCS.parent / "README.rst")
    )

    assert {name: size for name, size in pictures.items() if size >= MAX_BYTES} == {}
    assert set(pictures) == {picture.name for picture in PICTURES}
    assert {name for name in pictures if f"pictures/{name}" not in text} == set()
