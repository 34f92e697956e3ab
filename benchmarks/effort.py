"""The extent of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Case = TypeVar("Case")


class NoCaseError(Exception):
    """No title contains the requested text. The message lists the titles."""


@dataclass(frozen=True)
class Effort:
    """The extent of a measurement.

    Attributes:
        rounds: The number of rounds. Each variant runs once in each.
        requests: The number of requests of one variant in one round.
        peers: Whether other exporters are measured too.
        only: A text that the title of a measured case contains.
        quick: Whether a rough result is sufficient.
    """

    rounds: int
    requests: int
    peers: bool
    only: str
    quick: bool = False

    def choose(self, cases: Sequence[Case]) -> list[Case]:
        """Return the cases to measure.

        Raises:
            NoCaseError: There are none.
        """
        chosen = [case for case in cases if self.only.lower() in str(case).lower()]
        if not chosen:
            raise NoCaseError(f"{self.only!r} is in no title. The titles are: {'; '.join(map(str, cases))}")
        return chosen
