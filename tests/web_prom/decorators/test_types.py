"""The types of decorated functions, as mypy sees them: those of the functions."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.web_prom.support import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar, overload
import web_prom as prom

T = TypeVar("T")

{decorator}
def plain(order: int, *, size: str = "") -> list[int]: ...
{decorator}
def no_arguments() -> None: ...
{decorator}
def generic(value: T) -> T: ...
{decorator}
async def coroutine(order: int) -> str: ...
{decorator}
def generator(order: int) -> Generator[int, str, bytes]:
    yield 1
    return b""
{decorator}
async def async_generator() -> AsyncGenerator[int, str]:
    yield 1

@overload
def either(value: int) -> int: ...
@overload
def either(value: str) -> str: ...
{decorator}
def either(value: int | str) -> int | str: ...

class Shop:
    {decorator}
    def method(self, order: int) -> str: ...
    {decorator}
    async def async_method(self, order: int) -> str: ...
    @classmethod
    {decorator}
    def above(cls, order: int) -> str: ...
    {decorator}
    @classmethod
    def below(cls, order: int) -> str: ...
    @staticmethod
    {decorator}
    def static(order: int) -> str: ...
    {decorator}
    @staticmethod
    def static_below(order: int) -> str: ...
    @property
    {decorator}
    def name(self) -> str: ...

reveal_type(plain)
reveal_type(no_arguments)
reveal_type(generic)
reveal_type(coroutine)
reveal_type(generator)
reveal_type(async_generator)
reveal_type(either)
reveal_type(Shop.method)
reveal_type(Shop().method)
reveal_type(Shop().async_method)
reveal_type(Shop.above)
reveal_type(Shop.below)
reveal_type(Shop().below)
reveal_type(Shop.static)
reveal_type(Shop().static_below)
reveal_type(Shop().name)
plain("text")
"""

DECORATORS = {
    "count": '@prom.count("a_total", "A.", labels={"kind": lambda order: order, "shop": "a"})',
    "time": '@prom.time("a_seconds", "A.", buckets=(1, 2))',
    "observe": '@prom.observe("a", "A.", lambda result: len(result))',
    "track_in_progress": '@prom.track_in_progress("a", "A.")',
}


def check(path: Path, program: str) -> list[str]:
    """Return the types and errors that mypy finds in a program."""
    path.write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-color-output", "--python-version", "3.10"]
    done = subprocess.run(
        [*command, "--cache-dir", str(path.parent.parent / "cache"), str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if "[empty-body]" not in line]
    lines = [line for line in lines if line.startswith(str(path)) and "[empty-body]" not in line]
    return [re.sub(r"^.*?:\d+: ", "", line) for line in lines if "If the method is meant" not in line]


def test_mypy_sees_decorated_functions_as_they_were(tmp_path: Path) -> None:
    """All decorators in one program, whose names have the decorator's name; and one without a decorator."""
    folder = tmp_path / "programs"
    folder.mkdir()
    expected = check(folder / "undecorated.py", PROGRAM.replace("{decorator}\n", "\n"))
    assert len(expected) == 17
    assert any("error" in line and "expected" in line for line in expected)
    assert any("Overload" in line for line in expected)
    for name, decorator in DECORATORS.items():
        found = check(folder / f"{name}.py", PROGRAM.replace("{decorator}", decorator))
        assert [line.replace(f"{name}.", "undecorated.") for line in found] == expected
