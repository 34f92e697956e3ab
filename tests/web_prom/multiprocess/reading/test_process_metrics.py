"""process_* of every worker: prometheus_client's own families, each process with its slot's number."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import ProcessCollector

from web_prom.multiprocess.reading.process_metrics import process_families

FAMILIES = [
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds",
    "process_open_fds",
    "process_max_fds",
]


@pytest.fixture
def child() -> Iterator[int]:
    """Return the id of a process that lives as long as the test."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


@pytest.fixture
def gone() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def values(workers: dict[int, int]) -> dict[str, dict[str, float]]:
    """Return each sample name's values by worker."""
    found: dict[str, dict[str, float]] = {}
    for family in process_families(workers):
        for sample in family.samples:
            assert list(sample.labels) == ["worker"]
            found.setdefault(sample.name, {})[sample.labels["worker"]] = sample.value
    return found


def test_a_family_is_there_once_with_all_workers(child: int) -> None:
    """And is what prometheus_client makes of the same process."""
    families = process_families({10: child, 2: os.getpid()})
    assert [family.name for family in families] == FAMILIES
    upstream = {
        family.name: family for family in ProcessCollector(pid=lambda: child, registry=None).collect()
    }
    for family in families:
        alone = upstream[family.name]
        assert (family.type, family.documentation) == (alone.type, alone.documentation)
        assert [sample.labels["worker"] for sample in family.samples] == ["2", "10"]
        assert [sample.name for sample in family.samples] == [alone.samples[0].name] * 2
    for name in ("process_start_time_seconds", "process_max_fds", "process_virtual_memory_bytes"):
        (sample,) = upstream[name].samples
        assert values({10: child})[name] == {"10": sample.value}


def test_a_process_that_has_ended_costs_its_own_samples(child: int, gone: int) -> None:
    found = values({0: gone, 1: child})
    assert len(found) == len(FAMILIES)
    assert all(list(of_name) == ["1"] for of_name in found.values())


@pytest.mark.parametrize("pid", [0, -1])
def test_a_process_that_is_not_known_has_none(pid: int, child: int) -> None:
    """As one in another container, of which the kernel does not tell the id; -1 is no process either."""
    assert list(values({0: pid, 1: child})["process_open_fds"]) == ["1"]
    assert process_families({0: pid}) == []


def test_another_users_process_has_what_may_be_read(child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its open files are nobody else's business."""
    listdir = os.listdir

    def refusing(path: Any) -> list[str]:
        if str(path) == f"/proc/{child}/fd":
            raise PermissionError(path)
        return listdir(path)

    monkeypatch.setattr("prometheus_client.process_collector.os.listdir", refusing)
    found = values({0: child, 1: os.getpid()})
    assert found["process_resident_memory_bytes"].keys() == {"0", "1"}
    assert found["process_open_fds"].keys() == {"1"}


def test_where_nothing_can_be_read_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, which has no /proc."""

    def missing(self: ProcessCollector) -> float:
        raise FileNotFoundError("/proc/stat")

    monkeypatch.setattr(ProcessCollector, "_boot_time", missing)
    assert process_families({0: os.getpid()}) == []


def test_a_line_that_upstream_cannot_read_costs_one_process(
    child: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = ProcessCollector.collect

    def failing(self: ProcessCollector) -> Any:
        if self._pid() == child:
            raise ValueError("could not convert string to float: b'unlimited'")
        return collect(self)

    monkeypatch.setattr(ProcessCollector, "collect", failing)
    assert list(values({0: child, 1: os.getpid()})["process_max_fds"]) == ["1"]


def test_no_workers_no_families() -> None:
    assert process_families({}) == []
