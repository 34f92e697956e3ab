"""The storage of a process: a slot that is continued, corrupt files, a directory that was removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web_prom.multiprocess.writing.storage import contents, counter, run, successor
from web_prom.family_names import STORAGE_ERRORS
from web_prom.multiprocess.directory.slots import slots_of
from web_prom.multiprocess.file_format import HEADER, FileName, pack_entry
from web_prom.multiprocess.writing import process_files
from web_prom.multiprocess.writing.shared_value import SharedValue


def test_storage_continues_the_values_of_its_slot(shared: Path) -> None:
    counter().inc(3)
    live = SharedValue("gauge", "g", "g", (), (), "Help.", "livesum")
    live.inc(1)
    successor()
    cell = counter()
    assert not (shared / "gauge_livesum_s0.db").exists(), "gone before anything else is written"
    assert cell.get() == 3
    cell.inc(1)
    assert contents(shared / "counter_s0.db")["c_total"] == (4, 0)


def test_storage_keeps_files_of_other_slots(shared: Path) -> None:
    names = [
        "gauge_livesum_s1.db",
        "gauge_livesum_4711.db",
        "counter_s1.db.new",
        "notes.txt",
        "gauge_livesum_s.db",
    ]
    for name in names:
        (shared / name).write_bytes(b"x")
    unfinished = shared / "summary_s0.db.new"
    unfinished.touch()
    counter()
    assert not unfinished.exists()
    for name in names:
        assert (shared / name).read_bytes() == b"x"


def test_fault_25_corrupt_file_is_renamed_and_created_again(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = HEADER.pack(1 << 20, 1) + pack_entry(b"x")
    for name in ("counter_s0.db", "summary_s0.db"):
        (shared / name).write_bytes(damaged)
    counter().inc(1)
    SharedValue("summary", "s", "s_count", (), (), "Help.").inc(1)
    for name in ("counter_s0.db", "summary_s0.db"):
        assert (shared / f"{name}.damaged").read_bytes() == damaged
    assert contents(shared / "counter_s0.db") == {STORAGE_ERRORS: (2, 0), "c_total": (1, 0)}
    assert contents(shared / "summary_s0.db") == {"s_count": (1, 0)}
    assert "counter_s0.db is corrupt" in caplog.text
    assert FileName.parse("counter_s0.db.damaged") is None


@pytest.mark.slow
def test_storage_skips_a_slot_with_files_of_another_user(open_path: Path) -> None:
    """Left by a server that ran as another user."""
    open_path.chmod(0o777)
    slots_of(open_path).acquire()
    slots_of(open_path)._file.close()
    (open_path / "slots.lock").chmod(0o666)
    for name in ("counter_s0.db", "gauge_all_s1.db"):
        (open_path / name).touch(mode=0)
    printed = run(
        """
        counter = Counter("x", "Help.")
        def other_user():
            if not os.getuid():
                os.setuid(65534)
            Counter("c", "Help.").inc(3)
            print(*slots_of(sys.argv[1]).holders(), flush=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
        in_child(other_user)
        """,
        open_path / "of_the_parent",
        str(open_path),
    )
    assert printed == ["2"]
    assert contents(open_path / "counter_s2.db")["c_total"] == (3, 0)
    assert sorted(path.name for path in open_path.glob("*.db")) == [
        "counter_s0.db",
        "counter_s2.db",
        "gauge_all_s1.db",
    ]


@pytest.mark.slow
def test_storage_reads_the_directory_variable_again_after_a_fork(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    printed = run(
        """
        first = Counter("c", "Help.")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
        first.inc()
        Counter("d", "Help.").inc()
        in_child(first.inc)
        """,
        tmp_path / "a",
        str(tmp_path / "b"),
    )
    assert not printed
    assert sorted(contents(tmp_path / "a" / "counter_s0.db")) == [
        "c_total",
        "d_total",
        STORAGE_ERRORS,
    ]
    assert sorted(contents(tmp_path / "b" / "counter_s0.db")) == ["c_total", STORAGE_ERRORS]


def test_storage_counts_an_error_without_a_directory_and_keeps_values(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(process_files, "monotonic", lambda: clock[0])
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    cell = counter()
    cell.inc(1)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    clock[0] += 1
    cell.inc(1)
    assert cell.get() == 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"] or len(
        caplog.records
    ) == 1
    assert "PROMETHEUS_MULTIPROC_DIR" in caplog.text
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(shared))
    clock[0] += 1
    cell.inc(1)
    assert contents(shared / "counter_s0.db") == {STORAGE_ERRORS: (2, 0), "c_total": (3, 0)}
