"""The limit on log messages of one kind."""

from __future__ import annotations

from tests.web_prom.support import Clock
from web_prom.log_limit import LogLimit


def test_admit_allows_one_event_of_each_kind_in_a_minute() -> None:
    clock = Clock()
    limit = LogLimit(clock=clock)
    assert [limit.admit(kind) for kind in "aab"] == ["", None, ""]
    clock.go(59)
    assert limit.admit("a") is None
    clock.go(2)
    assert limit.admit("a") == " (2 more were not logged)"
    assert limit.admit("a") is None


def test_number_of_kinds_in_memory_is_bounded() -> None:
    limit = LogLimit(clock=Clock())
    for number in range(10_000):
        limit.admit(number)
    assert len(limit._next) <= 100
