"""Single flight: concurrent callers share results whose build started after their calls."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.web_prom.support import Waits, python
from web_prom.errors import BusyError
from web_prom.exposition.single_flight import SingleFlight, _Run

PATIENCE_SECONDS = 30


class Stage:
    """Callers of one single flight in threads. The test decides when their work ends.

    Attributes:
        flight: The flight.
        begun: The keys of the runs that were begun, in order.
        most: How many runs there were at once, at most.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.flight: SingleFlight[int] = SingleFlight()
        self.begun: list[Hashable] = []
        self.most = 0
        self._pool = pool
        self._numbers = itertools.count(1)
        self._here = threading.Semaphore(0)
        self._leave = threading.Semaphore(0)
        self._at_once = 0

    def call(
        self, key: Hashable = "key", outcome: Callable[[int], int] = lambda number: number, **options: Any
    ) -> Future[int]:
        """Call from another thread. The work returns its number among all runs."""

        def work() -> int:
            self.begun.append(key)
            number = next(self._numbers)
            self._at_once += 1
            self.most = max(self.most, self._at_once)
            self._here.release()
            assert self._leave.acquire(timeout=PATIENCE_SECONDS)
            self._at_once -= 1
            return outcome(number)

        return self._pool.submit(self.flight.run, key, work, **options)

    def wait_for_run(self) -> None:
        """Wait until one more run has started."""
        assert self._here.acquire(timeout=PATIENCE_SECONDS)

    def has_waiting(self, count: int) -> bool:
        """Return whether this number of runs wait for their turn."""
        return sum(len(queue._waiting) for queue in self.flight._queues.values()) == count

    def finish_runs(self, count: int = 1) -> None:
        """Let this number of runs end."""
        self._leave.release(count)


@pytest.fixture
def stage(flight_waits: Waits) -> Iterator[Stage]:
    """Return a stage whose callers end with the test."""
    with ThreadPoolExecutor(64) as pool:
        made = Stage(pool)
        yield made
        made.finish_runs(1000)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Return a function that waits for a condition."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.001)

    return wait


def results(futures: list[Future[int]]) -> list[int]:
    return [future.result(PATIENCE_SECONDS) for future in futures]


def test_fault_26_forty_overlapping_callers_cause_two_runs(stage: Stage, flight_waits: Waits) -> None:
    """The current run, and one run for all callers that came meanwhile."""
    first = stage.call()
    stage.wait_for_run()
    others = [stage.call() for _ in range(39)]
    flight_waits.wait_for(38)
    stage.finish_runs(2)
    assert first.result(PATIENCE_SECONDS) == 1
    assert results(others) == [2] * 39
    assert len(stage.begun) == 2


def test_caller_during_a_run_gets_the_result_of_a_later_run(stage: Stage) -> None:
    """Everything that happened before the call must be in the result."""
    first = stage.call()
    stage.wait_for_run()
    second = stage.call()
    stage.finish_runs()
    assert first.result(PATIENCE_SECONDS) == 1
    stage.wait_for_run()
    third = stage.call()
    stage.finish_runs(2)
    assert results([second, third]) == [2, 3]


def test_consecutive_callers_get_results_of_their_own(stage: Stage) -> None:
    stage.finish_runs(3)
    assert [stage.call().result(PATIENCE_SECONDS) for _ in range(3)] == [1, 2, 3]


def test_callers_with_other_keys_share_no_result(stage: Stage, flight_waits: Waits) -> None:
    first = stage.call("text")
    stage.wait_for_run()
    others = [stage.call(key) for key in ("text", "gzip", "text", "gzip")]
    flight_waits.wait_for(2)
    stage.finish_runs(3)
    assert first.result(PATIENCE_SECONDS) == 1
    text, packed, more_text, more_packed = results(others)
    assert text == more_text
    assert packed == more_packed
    assert {text, packed} == {2, 3}
    assert sorted(stage.begun, key=str) == ["gzip", "text", "text"]
    assert stage.most == 1


def test_error_is_raised_in_all_waiting_threads(stage: Stage, flight_waits: Waits) -> None:
    def fail(number: int) -> int:
        if number == 2:
            raise OSError("as meant")
        return number

    first = stage.call(outcome=fail)
    stage.wait_for_run()
    others = [stage.call(outcome=fail) for _ in range(5)]
    flight_waits.wait_for(4)
    stage.finish_runs(3)
    assert first.result(PATIENCE_SECONDS) == 1
    for future in others:
        with pytest.raises(OSError, match="as meant"):
            future.result(PATIENCE_SECONDS)
    assert stage.call(outcome=fail).result(PATIENCE_SECONDS) == 3


def test_waiting_threads_start_again_when_the_executing_thread_is_stopped(
    stage: Stage, flight_waits: Waits
) -> None:
    """A server may end one worker thread. The others still need a result."""

    def stop(number: int) -> int:
        if number == 2:
            raise SystemExit
        return number

    first = stage.call(outcome=stop)
    stage.wait_for_run()
    others = [stage.call(outcome=stop) for _ in range(5)]
    flight_waits.wait_for(4)
    stage.finish_runs(6)
    assert first.result(PATIENCE_SECONDS) == 1
    outcomes = [future.exception(PATIENCE_SECONDS) or future.result() for future in others]
    answered = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(answered) == 4
    assert min(answered) >= 3
    (stopped,) = (outcome for outcome in outcomes if not isinstance(outcome, int))
    assert isinstance(stopped, SystemExit)


def test_nested_call_is_executed_at_once() -> None:
    """A collector may scrape the registry that it belongs to."""
    flight: SingleFlight[str] = SingleFlight()
    assert flight.run("x", lambda: "outer " + flight.run("x", lambda: "inner")) == "outer inner"
    assert flight.run("x", lambda: "later") == "later"


def test_finished_runs_are_deleted() -> None:
    """Clients choose the keys."""
    flight: SingleFlight[int] = SingleFlight()
    for number in range(100):
        flight.run(number, lambda: 1)
    (queue,) = flight._queues.values()
    assert not queue._joinable
    assert not queue._waiting


def test_thread_stopped_before_its_run_blocks_no_other() -> None:
    flight: SingleFlight[int] = SingleFlight()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flight.run("x", lambda: 2, before=stop)
    assert flight.run("x", lambda: 3) == 3


def test_thread_stopped_while_waiting_for_its_turn_blocks_no_other(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage.call()
    stage.wait_for_run()

    class Stopped(_Run[int]):
        def __init__(self, low_priority: bool) -> None:
            super().__init__(low_priority)
            self.turn = _RaisingLock()  # type: ignore[assignment]

    with monkeypatch.context() as patch:
        patch.setattr("web_prom.exposition.single_flight._Run", Stopped)
        with pytest.raises(KeyboardInterrupt):
            stage.flight.run("other", lambda: 2)
    second = stage.call("other")
    stage.finish_runs(2)
    assert results([first, second]) == [1, 2]


class _RaisingLock:
    def acquire(self) -> None:
        raise KeyboardInterrupt


def test_fault_70_low_priority_runs_after_every_four_others(
    stage: Stage, until: Callable[[Callable[[], bool]], None]
) -> None:
    first = stage.call("current")
    stage.wait_for_run()
    for number in range(3):
        stage.call(f"low {number}", low_priority=True)
        until(partial(stage.has_waiting, number + 1))
    for number in range(7):
        stage.call(f"whole {number}")
        until(partial(stage.has_waiting, number + 4))
    stage.finish_runs(11)
    first.result(PATIENCE_SECONDS)
    until(lambda: len(stage.begun) == 11)
    assert [str(key) for key in stage.begun[1:]] == [
        *(f"whole {number}" for number in range(4)),
        "low 0",
        *(f"whole {number}" for number in range(4, 7)),
        "low 1",
        "low 2",
    ]


def test_fault_70_no_caller_waits_for_two_low_priority_runs(
    stage: Stage, until: Callable[[Callable[[], bool]], None]
) -> None:
    stage.call("low 0", low_priority=True)
    stage.wait_for_run()
    for number in range(2):
        stage.call(f"low {number + 1}", low_priority=True)
        until(partial(stage.has_waiting, number + 1))
    for number in range(6):
        stage.call(f"whole {number}")
        until(partial(stage.has_waiting, number + 3))
    stage.finish_runs(9)
    until(lambda: len(stage.begun) == 9)
    whole = [f"whole {number}" for number in range(6)]
    assert [str(key) for key in stage.begun] == ["low 0", *whole, "low 1", "low 2"]


def test_fault_70_only_waiting_low_priority_runs_are_limited(
    stage: Stage, until: Callable[[Callable[[], bool]], None]
) -> None:
    first = stage.call("current", low_priority=True)
    stage.wait_for_run()
    waiting = [stage.call(number, low_priority=True) for number in range(16)]
    until(partial(stage.has_waiting, 16))
    for number in range(16, 20):
        with pytest.raises(BusyError):
            stage.flight.run(number, lambda: 0, low_priority=True)
    shared = stage.call(3, low_priority=True)
    whole = stage.call("whole")
    until(partial(stage.has_waiting, 17))
    stage.finish_runs(20)
    assert whole.result(PATIENCE_SECONDS) == 2
    results([first, *waiting, shared])
    assert stage.flight.run(20, lambda: 7, low_priority=True) == 7


def test_caller_while_before_blocks_shares_the_run(stage: Stage, flight_waits: Waits) -> None:
    """A server may wait for memory for the answer."""
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        assert leave.wait(PATIENCE_SECONDS)

    first = stage.call(before=wait)
    assert entered.wait(PATIENCE_SECONDS)
    others = [stage.call() for _ in range(5)]
    flight_waits.wait_for(5)
    leave.set()
    stage.finish_runs()
    assert results([first, *others]) == [1] * 6


def test_child_forked_during_a_run_is_not_blocked() -> None:
    """Neither is the parent. uWSGI runs no at-fork hooks."""
    printed = python(
        """
        import os, signal, threading, warnings
        from web_prom.exposition.single_flight import SingleFlight

        warnings.simplefilter("ignore")  # Python 3.12 has something to say about threads and fork
        flight, begun, end = SingleFlight(), threading.Event(), threading.Event()

        def work():
            begun.set()
            end.wait()
            return 1

        threads = [threading.Thread(target=flight.run, args=("x", work)) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait()
        pid = os.fork()
        if not pid:
            signal.alarm(30)
            os._exit(flight.run("x", lambda: 7))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        end.set()
        for thread in threads:
            thread.join()
        print(flight.run("x", lambda: 8))
        """
    )
    assert printed.split() == ["7", "8"]


@pytest.mark.slow
def test_greenlets_share_a_run_when_gevent_patches_late() -> None:
    """A blocked thread would stop all greenlets."""
    pytest.importorskip("gevent")
    printed = python(
        """
        import warnings
        warnings.simplefilter("ignore")
        # Before the patch, as a preloaded configuration may.
        from web_prom.exposition.single_flight import SingleFlight
        from gevent import monkey
        monkey.patch_all()
        import gevent

        flight, runs = SingleFlight(), []

        def work():
            runs.append(1)
            gevent.sleep(0)
            return len(runs)

        jobs = [gevent.spawn(flight.run, "x", work) for _ in range(40)]
        gevent.joinall(jobs, timeout=60)
        print(sorted(job.value for job in jobs) == [1] + [2] * 39)
        """
    )
    assert printed == "True\n"
