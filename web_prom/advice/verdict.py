"""The result of a check: how bad it is, what was seen, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How bad a verdict is; its values are in order."""

    OK = 0
    INFO = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A statement about a service. Immutable.

    Attributes:
        name: The check that made it, for example ``workers_full``. Scripts may rely on it.
        severity: How bad it is.
        summary: One sentence with the numbers that it is drawn from.
        remedy: What to do; empty where there is nothing to do.
        numbers: The same numbers by name. Seconds, bytes, ratios (1.0 is all) and counts.
    """

    name: str
    severity: Severity
    summary: str
    remedy: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as what ``json.dumps`` takes."""
        return {
            "name": self.name,
            "severity": self.severity.name.lower(),
            "summary": self.summary,
            "remedy": self.remedy,
            "numbers": dict(self.numbers),
        }


def counted(count: float, noun: str, plural: str = "") -> str:
    """Return a whole number with its noun. The plural is the noun with an s, unless another one is given."""
    return f"{count:.0f} {noun if round(count) == 1 else plural or f'{noun}s'}"
