"""The queries of one request: tallies, their threads, and their memory."""

from __future__ import annotations

import contextvars
import gc
import threading
import weakref

import pytest

from web_prom.metrics.query_tally import (
    MAX_PENDING,
    MAX_TEMPLATES,
    QueryTally,
    QueryTotals,
    current_tally,
    open_tally,
)


@pytest.fixture(autouse=True)
def _in_a_context_of_its_own() -> None:
    current_tally.set(None)


def test_tally_counts_executions_beyond_the_second() -> None:
    tally = open_tally(None)
    for sql in ("a", "a", "a", "b", "a", "b", "b"):
        assert tally.add(sql, 0.5)
    assert tally.close() == QueryTotals(7, 3.5, 3)


def test_closed_tally_counts_nothing() -> None:
    tally = open_tally(None)
    assert tally.close() == QueryTotals(0, 0.0, 0)
    assert not tally.add("a", 1.0)
    assert not tally.add_totals(QueryTotals(1, 1.0, 0))
    assert tally.close() is None
    assert tally.totals() == QueryTotals(0, 0.0, 0)


def test_close_restores_the_tally_of_the_outer_request() -> None:
    """An application can call itself inside the process."""
    outer = open_tally(None)
    inner = open_tally(None)
    inner.close()
    assert current_tally.get() is outer
    outer.close()
    assert current_tally.get() is None


def test_close_in_another_context_leaves_the_tally_there() -> None:
    tally = open_tally(None)
    contextvars.Context().run(tally.close)
    assert current_tally.get() is tally
    after = open_tally(None)
    after.close()
    assert current_tally.get() is None, "a closed tally does not become current again"


def test_tally_remembers_a_bounded_number_of_texts() -> None:
    tally = open_tally(None)
    for number in range(MAX_TEMPLATES + 10):
        for _ in range(3):
            tally.add(f"SELECT {number}", 0.0)
    assert len(tally._executions) == MAX_TEMPLATES
    assert tally.close() == QueryTotals(3 * (MAX_TEMPLATES + 10), 0.0, MAX_TEMPLATES)
    assert not tally._executions


def test_tally_counts_the_queries_of_concurrent_threads() -> None:
    tally = open_tally(None)

    def work() -> None:
        mine = current_tally.get()
        assert mine is tally
        for _ in range(2000):
            mine.add("a", 1.0)

    threads = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.close() == QueryTotals(8000, 8000.0, 7998)


def test_chain_of_closed_tallies_is_not_kept_alive() -> None:
    class Owner:
        pass

    owner = Owner()
    gone = weakref.ref(owner)
    first = open_tally(owner)
    first.close()
    second = open_tally(None)
    del owner, first
    gc.collect()
    assert gone() is None
    second.close()


def test_tally_keeps_few_queries_pending() -> None:
    tally = open_tally(None)
    for number in range(3 * MAX_PENDING):
        assert tally.add(f"SELECT {number % 2}", 0.5)
        assert len(tally._pending) < MAX_PENDING
    assert tally.close() == QueryTotals(3 * MAX_PENDING, 1.5 * MAX_PENDING, 3 * MAX_PENDING - 4)


def test_tally_finds_repeated_queries_after_many_savepoints() -> None:
    """Django and SQLAlchemy give each savepoint its own name. They take no place of other texts."""
    tally = open_tally(None)
    for number in range(MAX_TEMPLATES):
        tally.add(f'SAVEPOINT "s1_x{number}"', 0.0)
        tally.add(f'ROLLBACK TO SAVEPOINT "s1_x{number}"', 0.0)
        tally.add(f'RELEASE SAVEPOINT "s1_x{number}"', 0.0)
    for _ in range(5):
        tally.add("SELECT 1", 0.0)
    assert tally.totals().repeated == 3


class Closing(list[tuple[str, float]]):
    """Pending queries of a tally that another thread closes before or after the next one is pending."""

    def __init__(self, tally: QueryTally, *, before: bool) -> None:
        super().__init__()
        self.tally = tally
        self.before = before

    def append(self, query: tuple[str, float]) -> None:
        if self.before:
            self.tally.close()
        super().append(query)
        self.tally.close()


@pytest.mark.parametrize("before", [False, True])
def test_tally_that_closes_meanwhile_counts_a_query_or_refuses_it(before: bool) -> None:
    tally = open_tally(None)
    tally._pending = Closing(tally, before=before)
    assert tally.add("a", 0.5) is not before
    assert tally.totals() == (QueryTotals(0, 0.0, 0) if before else QueryTotals(1, 0.5, 0))
