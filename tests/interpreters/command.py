"""The command line of a Python program, as far as a fork of the template can run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Command:
    """What a command line asks of the interpreter.

    Attributes:
        kind: Whether ``target`` is code, the name of a module, or the path of a script.
        target: What is run.
        arguments: The rest of the command line.
        warnings: The filters for warnings.
        unbuffered: Whether the output is written at once.
        writes_bytecode: Whether imports write .pyc files.
    """

    kind: Literal["code", "module", "script"]
    target: str
    arguments: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    unbuffered: bool = False
    writes_bytecode: bool = True


def parse(words: Sequence[str]) -> Command | None:
    """Return what a command line asks for, or None if it has options that only a fresh interpreter knows.

    Args:
        words: The words after the path of the interpreter.
    """
    rest = list(words)
    warnings: list[str] = []
    unbuffered, writes_bytecode = False, True
    while rest:
        word = rest.pop(0)
        if word == "-B":
            writes_bytecode = False
        elif word == "-u":
            unbuffered = True
        elif word == "-W" and rest:
            warnings.append(rest.pop(0))
        elif word in {"-c", "-m"} and rest:
            kind: Literal["code", "module"] = "code" if word == "-c" else "module"
            target = rest.pop(0)
            return Command(kind, target, tuple(rest), tuple(warnings), unbuffered, writes_bytecode)
        elif word.startswith("-"):
            return None
        else:
            return Command("script", word, tuple(rest), tuple(warnings), unbuffered, writes_bytecode)
    return None
