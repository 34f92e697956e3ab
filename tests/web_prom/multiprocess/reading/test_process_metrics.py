"""The process_* metrics of all workers, compared with those of prometheus_client."""

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
    """Return the id of a process that runs until the test has ended."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


@pytest.fixture
def ended() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def values(workers: dict[int, int]) -> dict[str, dict[str, float]]:
    """Return the values of each sample name by worker."""
    found: dict[str, dict[str, float]] = {}
    for family in process_families(workers):
        for sample in family.samples:
            assert list(sample.labels) == ["worker"]
            found.setdefault(sample.name, {})[sample.labels["worker"]] = sample.value
    return found


def test_process_families_have_the_samples_of_all_workers(child: int) -> None:
    """Each family exists once. Its values are those of prometheus_client for the same process."""
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


def test_samples_of_an_ended_process_are_left_out(child: int, ended: int) -> None:
    found = values({0: ended, 1: child})
    assert len(found) == len(FAMILIES)
    assert all(list(of_name) == ["1"] for of_name in found.values())


@pytest.mark.parametrize("pid", [0, -1])
def test_unknown_process_has_no_samples(pid: int, child: int) -> None:
    """The kernel returns 0 for a process in another container. -1 is not a process id either."""
    assert list(values({0: pid, 1: child})["process_open_fds"]) == ["1"]
    assert process_families({0: pid}) == []


def test_process_of_another_user_has_only_readable_samples(
    child: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its open files are not readable."""
    listdir = os.listdir

    def refusing(path: Any) -> list[str]:
        if str(path) == f"/proc/{child}/fd":
            raise PermissionError(path)
        return listdir(path)

    monkeypatch.setattr("prometheus_client.process_collector.os.listdir", refusing)
    found = values({0: child, 1: os.getpid()})
    assert found["process_resident_memory_bytes"].keys() == {"0", "1"}
    assert found["process_open_fds"].keys() == {"1"}


def test_system_without_proc_has_no_process_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """An example is macOS."""

    def missing(self: ProcessCollector) -> float:
        raise FileNotFoundError("/proc/stat")

    monkeypatch.setattr(ProcessCollector, "_boot_time", missing)
    assert process_families({0: os.getpid()}) == []


def test_process_that_prometheus_client_cannot_parse_is_left_out(
    child: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = ProcessCollector.collect

    def failing(self: ProcessCollector) -> Any:
        if self._pid() == child:
            raise ValueError("could not convert string to float: b'unlimited'")
        return collect(self)

    monkeypatch.setattr(ProcessCollector, "collect", failing)
    assert list(values({0: child, 1: os.getpid()})["process_max_fds"]) == ["1"]


def test_no_workers_have_no_process_families() -> None:
    assert process_families({}) == []
