"""Turns of the processes of a shared directory."""

from __future__ import annotations

import os
from pathlib import Path

from web_prom.multiprocess.directory.shared_interval import SharedInterval, is_interval_file


def test_shared_interval_gives_one_turn_to_all_processes(tmp_path: Path) -> None:
    first, second = (SharedInterval("work", 60) for _ in range(2))
    assert first.take(tmp_path)
    assert not second.take(tmp_path)
    assert not first.take(tmp_path)
    (file,) = tmp_path.iterdir()
    assert is_interval_file(file.name)


def test_shared_interval_gives_the_next_turn_when_it_is_over(tmp_path: Path) -> None:
    interval = SharedInterval("work", 60)
    interval.take(tmp_path)
    (file,) = tmp_path.iterdir()
    os.utime(file, (file.stat().st_mtime - 61,) * 2)
    assert interval.take(tmp_path)
    assert not interval.take(tmp_path)


def test_shared_interval_does_not_wait_for_a_time_in_the_future(tmp_path: Path) -> None:
    """The clock was set back."""
    interval = SharedInterval("work", 60)
    interval.take(tmp_path)
    (file,) = tmp_path.iterdir()
    os.utime(file, (file.stat().st_mtime + 3600,) * 2)
    assert interval.take(tmp_path)


def test_shared_interval_gives_each_process_its_turn_without_a_directory(tmp_path: Path) -> None:
    assert SharedInterval("work", 60).take(tmp_path / "missing")
    assert SharedInterval("work", 60).take(tmp_path / "missing")
