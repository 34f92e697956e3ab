"""Values that wait in memory while a disk is full, and are written when there is room."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web_prom.multiprocess.writing.storage import contents, counter, run, successor
from web_prom.family_names import STORAGE_ERRORS
from web_prom.multiprocess.writing import current_storage, process_files, slot_files
from web_prom.multiprocess.writing.shared_value import SharedValue


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a file system with room for eight files."""
    path = tmp_path / "small"
    path.mkdir()
    if os.geteuid():
        pytest.skip("mounting a file system takes root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


FULL = """
clock = [1000.0]
process_files.monotonic = lambda: clock[0]
def fill():
    with open(Path(directory) / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
def empty():
    (Path(directory) / "ballast").unlink()
    clock[0] += 1
"""


@pytest.mark.slow
def test_fault_28_full_disk_is_counted_and_loses_no_value(small: Path) -> None:
    """The process lives, no call raises, and every number is in the files once there is room."""
    printed = run(
        FULL
        + textwrap.dedent(
            """
            counter = Counter("c", "Help.", ["x"])
            old, duration = counter.labels("old"), Histogram("h", "Help.", buckets=(1, 2))
            def work():
                old.inc()
                duration.observe(1.5)
                for number in range(200):
                    counter.labels(f"{number:0400}").inc()
                gauge.set(7)
                gauge.inc(2)
                new.labels("x").observe(0.5)
            fill()
            gauge, new = Gauge("g", "Help."), Histogram("n", "Help.", ["x"], buckets=(1, 2))
            work()
            assert total() < 100, "what was in the files already goes on, and what had room"
            assert total("h_sum") == 1.5 and total("g") == total("n_sum") == 0
            assert gauge._value.get() == 9 and old._value.get() == 1
            failures = total("web_prom_storage_errors_total")
            assert failures == 1, failures
            clock[0] += 1
            work()
            assert gauge._value.get() == 9
            assert total("web_prom_storage_errors_total") == 2
            empty()
            old.inc(0)
            assert total() == 402 and total("h_sum") == 3 and total("g") == 9 and total("n_sum") == 1
            assert total("n_count") == 2 and total("web_prom_storage_errors_total") == 2
            histogram = new.labels("x")
            mark = histogram._sum.file.view[histogram._sum.position + 1]
            assert mark > 0, "or a reader would pass over what was written"
            work()
            assert total() == 603
            print("alive")
            """
        ),
        small,
    )
    assert printed == ["alive"]


def test_fault_28_prometheus_client_alone_is_killed_by_a_full_disk(small: Path) -> None:
    """Without which the test before this one would prove nothing."""
    with pytest.raises(AssertionError):
        run(
            FULL
            + textwrap.dedent(
                """
                                values.ValueClass = values.MultiProcessValue()
                counter = Counter("c", "Help.", ["x"])
                fill()
                for number in range(200):
                    counter.labels(f"{number:0400}").inc()
                print("alive")
                """
            ),
            small,
        )


@pytest.mark.slow
@pytest.mark.parametrize("room", ["at the end", "later"])
def test_fault_28_process_that_starts_on_a_full_disk_writes_when_there_is_room(
    small: Path, room: str
) -> None:
    """Even where not one file could be made; at the latest at its end."""
    run(
        FULL
        + textwrap.dedent(
            """
            fill()
            counter = Counter("c", "Help.")
            duration = Histogram("h", "Help.", buckets=(1, 2))
            counter.inc(3)
            duration.observe(1.5)
            assert counter._value.get() == 3
            assert not list(Path(directory).glob("*.db"))
            empty()
            if sys.argv[1] == "later":
                duration.observe(1.5)
                os._exit(0)
            """
        ),
        small,
        room,
    )
    found = contents(small / "counter_s0.db")
    assert found == {STORAGE_ERRORS: (1, 0), "c_total": (3, 0)}
    later = room == "later"
    assert contents(small / "histogram_s0.db")["h_sum"] == ((3, 2) if later else (1.5, 1))


@pytest.mark.slow
def test_fault_28_fork_does_not_write_pending_values_of_its_parent(small: Path) -> None:
    printed = run(
        FULL
        + textwrap.dedent(
            """
            fill()
            counter = Counter("c", "Help.")
            counter.inc(3)
            def child():
                counter.inc(10)
                empty()
                counter.inc(100)
            in_child(child)
            assert total() == 110
            clock[0] += 1
            counter.inc(1000)
            print(total())
            """
        ),
        small,
    )
    assert printed == ["1113.0"]


@pytest.mark.parametrize("mode", ["all", "sum", "mostrecent"])
def test_flush_sets_a_gauge_that_was_set_and_adds_otherwise(
    shared: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """And one that was added to is added to it."""
    clock = [1000.0]
    monkeypatch.setattr(process_files, "monotonic", lambda: clock[0])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def gauge(name: str) -> SharedValue:
        return SharedValue("gauge", name, name, (), (), "Help.", mode)

    for name in ("set", "added"):
        gauge(name).set(7, timestamp=1.0)
    successor()
    with monkeypatch.context() as patched:
        patched.setattr(slot_files, "ValueFile", full)
        cells = gauge("set"), gauge("added")
        cells[0].set(3, timestamp=2.0)
        cells[1].inc(3)
    clock[0] += 1
    assert [cell.get() for cell in cells] == [3, 10]
    assert contents(shared / f"gauge_{mode}_s0.db") == {"set": (3, 2), "added": (10, 1)}


def test_flush_is_retried_once_a_second_and_logged_once(
    shared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, tried = [1000.0], []

    def full(*arguments: object) -> None:
        tried.append(arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(process_files, "monotonic", lambda: clock[0])
    with monkeypatch.context() as patched:
        patched.setattr(slot_files, "ValueFile", full)
        cells = [counter(f"c{number}") for number in range(10)]
        for _ in range(30):
            for cell in cells:
                cell.inc(1)
            clock[0] += 0.125
    assert len(tried) == 4, "in 3.75 seconds"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "No space left on device" in caplog.text


def test_flush_of_an_idle_value_is_part_of_the_next_write(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(process_files, "monotonic", lambda: clock[0])
    known = counter("known")
    with monkeypatch.context() as patched:
        patched.setattr(
            os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "Full"))
        )
        SharedValue("summary", "s", "s_count", (), (), "Help.").inc(5)
    known.inc(1)
    assert not (shared / "summary_s0.db").exists()
    clock[0] += 1
    known.inc(1)
    assert contents(shared / "summary_s0.db") == {"s_count": (5, 0)}
    assert known.file.guard is current_storage.process_storage().guard, "the guard is known"
