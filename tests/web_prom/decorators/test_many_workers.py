"""Decorated functions in many workers: values, the limit, forks, and the switch to shared values."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry

import web_prom as prom
from tests.web_prom.multiprocess.writing.label_sets import holders, next_holder
from tests.web_prom.support import errors, python, samples
from web_prom.decorators.functions import Decorator
from web_prom.multiprocess.reading.collector import WorkersCollector

LIMIT = 5

KINDS: dict[str, Callable[..., Decorator]] = {
    "a_total": prom.count,
    "a_count": prom.time,
    "a": prom.track_in_progress,
}


def decorated(kind: str, registry: CollectorRegistry) -> Callable[[str], None]:
    """Return a decorated function with a label of the caller's choice."""
    name = "a_total" if kind == "a_total" else "a"

    @KINDS[kind](name, "A.", labels={"who": lambda who: who}, registry=registry, max_label_sets=LIMIT)
    def greet(who: str) -> None:
        """Do nothing."""

    return greet


@pytest.mark.parametrize("kind", KINDS)
def test_limit_holds_over_generations_of_workers(kind: str, shared: Path) -> None:
    for generation in range(4):
        next_holder()
        greet = decorated(kind, CollectorRegistry())
        for number in range(8):
            for _ in range(2):
                greet(f"{generation}-{number}")
    found: dict[str, float] = {}
    for family in WorkersCollector(shared, holders).collect():
        for sample in family.samples:
            if sample.name == kind:
                found[sample.labels["who"]] = sample.value
    generation = 3 if kind == "a" else 0  # a worker starts with no gauges of calls in progress
    assert set(found) == {*(f"{generation}-{number}" for number in range(LIMIT)), "_overflow"}
    assert sum(found.values()) == (0 if kind == "a" else 64)


def test_forked_workers_write_to_their_own_slots(shared: Path) -> None:
    """The second child takes the slot of the first one, with its label sets."""
    registry = CollectorRegistry()
    greet = decorated("a_total", registry)
    for who in "abcde":
        greet(who)
    for number in range(2):
        pid = os.fork()
        if not pid:
            for who in ("a", f"x{number}", "y", "z", "v", "w", "u"):
                greet(who)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        for who in "af":
            greet(who)
    source = WorkersCollector(shared, dict)
    found = samples(source, "a_total", "who")
    assert found.pop(("_overflow",)) == 2 + 2 + 3
    assert found == {
        **{(who,): 1 for who in ("b", "c", "d", "e", "x0")},
        ("a",): 1 + 2 + 2,
        **{(who,): 2 for who in "yzv"},
    }


@pytest.mark.slow
def test_values_that_are_shared_late_are_carried_over(tmp_path: Path) -> None:
    """Functions are decorated, and called, before the directory is named."""
    code = """
        import os, sys
        from prometheus_client import CollectorRegistry
        import web_prom as prom
        from web_prom.multiprocess.reading.collector import WorkersCollector

        registry = CollectorRegistry()

        @prom.track_in_progress("busy", "Busy.", registry=registry)
        @prom.time("a_seconds", "A.", registry=registry)
        @prom.count("a_total", "A.", labels={"who": lambda who: who}, registry=registry)
        def call(who):
            if who == "inside":
                switch()

        def switch():
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
            assert prom.share_values(registry)

        call("a")
        call("inside")
        call("a")
        if not os.fork():
            call("a")
            os._exit(0)
        os.wait()
        for family in WorkersCollector(sys.argv[1]).collect():
            for sample in family.samples:
                if sample.name in ("a_total", "a_seconds_count", "busy"):
                    print(sample.name, *sample.labels.values(), sample.value)
    """
    lines = python(code, str(tmp_path)).splitlines()
    assert sorted(lines) == ["a_seconds_count 4.0", "a_total a 3.0", "a_total inside 1.0", "busy 0.0"]


@pytest.mark.slow
def test_functions_that_are_decorated_in_a_worker_write_to_slots(tmp_path: Path) -> None:
    code = """
        import os
        import web_prom as prom

        @prom.count("a_total", "A.")
        def call():
            pass

        call()
        print(sorted(name for name in os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"]) if ".db" in name))
    """
    assert python(code, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) == "['counter_s0.db']\n"


def test_default_registry_is_used() -> None:
    function = prom.count("decorators_test_total", "A.")(abs)
    try:
        assert function(-1) == 1
        assert REGISTRY.get_sample_value("decorators_test_total") == 1
        assert errors(REGISTRY) == {}
    finally:
        for collector in set(REGISTRY._collector_to_names):
            if "decorators_test_total" in REGISTRY._collector_to_names[collector]:
                REGISTRY.unregister(collector)
