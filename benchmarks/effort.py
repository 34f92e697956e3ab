"""How much a benchmark measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Case = TypeVar("Case")


class NoCaseError(Exception):
    """No case has the text in its title that was asked for; the message says what there is."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: In which each variant has its turn.
        requests: In one turn.
        peers: Whether the peers are measured too.
        only: What the title of a case must contain for it to be measured.
        quick: Whether a rough answer will do.
    """

    rounds: int
    requests: int
    peers: bool
    only: str
    quick: bool = False

    def choose(self, cases: Sequence[Case]) -> list[Case]:
        """Return the cases that are to be measured.

        Raises:
            NoCaseError: There is none.
        """
        chosen = [case for case in cases if self.only.lower() in str(case).lower()]
        if not chosen:
            raise NoCaseError(f"{self.only!r} is in no title; there are: {'; '.join(map(str, cases))}")
        return chosen
