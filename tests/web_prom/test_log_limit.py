"""How often one kind of event is logged."""

from __future__ import annotations

from tests.web_prom.support import Clock
from web_prom.log_limit import LogLimit


def test_an_event_is_admitted_once_a_minute_for_each_kind() -> None:
    clock = Clock()
    limit = LogLimit(clock=clock)
    assert [limit.admit(kind) for kind in "aab"] == ["", None, ""]
    clock.go(59)
    assert limit.admit("a") is None
    clock.go(2)
    assert limit.admit("a") == " (2 more were not logged)"
    assert limit.admit("a") is None


def test_kinds_without_end_take_no_memory() -> None:
    limit = LogLimit(clock=Clock())
    for number in range(10_000):
        limit.admit(number)
    assert len(limit._next) <= 100
