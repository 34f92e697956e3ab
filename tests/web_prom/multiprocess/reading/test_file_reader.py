"""Value files read again and again: what is new, what has changed, and what is wrong with them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web_prom.multiprocess.reading.value_files import BOUNDS, WebPromFile, Worker, key_of
from tests.web_prom.support import samples
from web_prom.multiprocess.file_format import HEADER, pack_entry
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.reading.keys import decode_key

COUNTER = key_of("a", "a_total", {}).encode()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """Return a worker of web-prom."""
    worker = Worker(tmp_path, "s0")
    yield worker
    worker.close()


@pytest.fixture
def collector(tmp_path: Path) -> WorkersCollector:
    """Return a collector of the directory, in which slot 0 is held."""
    return WorkersCollector(tmp_path, lambda: {0: 100})


def ours(worker: Worker, kind: str, mode: str = "") -> WebPromFile:
    """Return a file of a worker of web-prom."""
    file = worker.file(kind, mode)
    assert isinstance(file, WebPromFile)
    return file


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the keys that are read from now on, one by one."""
    seen: list[bytes] = []

    def decode_and_note(key: bytes) -> Any:
        seen.append(key)
        return decode_key(key)

    monkeypatch.setattr("web_prom.multiprocess.reading.keys.decode_key", decode_and_note)
    monkeypatch.setattr("web_prom.multiprocess.reading.file_group.decode_key", decode_and_note)
    return seen


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x20\0\0\0" + bytes(28), "the key b''"),
        (HEADER.pack(4096, 1) + pack_entry(COUNTER), "claims to use 4096 bytes and has "),
        (HEADER.pack(-8, 1) + pack_entry(COUNTER), "claims to use -8 bytes"),
        (HEADER.pack(12, 1) + pack_entry(COUNTER), "claims to use 12 bytes"),
        (HEADER.pack(48, 1) + pack_entry(COUNTER), "entry at byte 8 is longer"),
        (HEADER.pack(32, 1) + struct.pack("=i", -5) + bytes(28), "entry at byte 8 is longer"),
        (b"PK\x03\x04" + bytes(range(200)), "claims to use "),
        (b"no value file\n", "claims to use "),
        *(
            (HEADER.pack(8 + len(pack_entry(key)), 1) + pack_entry(key), "it has the key ")
            for key in (
                b"{}",
                b"[]",
                b"\xff\xfe",
                b'["a"',
                b'["a", "a", {}, 3]',
                b'["", "a", {}, "Help."]',
                b'["a", "a", {"x": 1}, "Help."]',
                b'["a", "a", ["x"], "Help."]',
                b'["a", "a", {}, "Help."] and more',
                b"[" * 100_000,
            )
        ),
    ],
)
@pytest.mark.parametrize("size", [0, 40_000])
def test_fault_25_a_damaged_file_is_set_aside(
    worker: Worker,
    collector: WorkersCollector,
    caplog: pytest.LogCaptureFixture,
    *,
    content: bytes,
    reason: str,
    size: int,
) -> None:
    """It is counted, told of once, and the others count on; whole again, it counts as well."""
    worker.inc("a")
    path = worker.directory / "counter_s1.db"
    path.write_bytes(content)
    if size and "and has" not in reason:  # as large as what is mapped instead of read
        os.truncate(path, max(size, len(content)))
    for _ in range(2):
        assert samples(collector, "a_total") == {(): 1}
        assert (collector.files, collector.corrupt_files) == (1, 1)
    (record,) = caplog.records
    assert "counter_s1.db" in record.getMessage()
    assert reason in record.getMessage()
    path.write_bytes(HEADER.pack(8 + len(pack_entry(COUNTER)), 2) + pack_entry(COUNTER, 2.0))
    assert samples(collector, "a_total") == {(): 3}
    assert (collector.files, collector.corrupt_files) == (2, 0)


def test_fault_25_a_file_that_becomes_damaged_counts_no_more(
    worker: Worker, collector: WorkersCollector
) -> None:
    """Half of it would be a number that nobody can explain."""
    other = Worker(worker.directory, "s1")
    for each in (worker, other):
        each.inc("a")
        each.observe("h", 0.5)
    assert samples(collector, "h_count") == {(): 2}
    for kind in ("counter", "histogram"):
        ours(other, kind).append(pack_entry(b"no key"))
    assert samples(collector, "h_count") == samples(collector, "a_total") == {(): 1}
    assert collector.corrupt_files == 2
    other.close()


@pytest.mark.parametrize("missing", [8, 16, 24])
@pytest.mark.parametrize(("kind", "sample"), [("counter", "a_total"), ("histogram", "a_sum")])
def test_fault_25_an_entry_that_ends_beyond_what_is_used(
    worker: Worker, collector: WorkersCollector, *, kind: str, sample: str, missing: int
) -> None:
    """The family is known from the entry before, and the rest would be in the file."""
    data = b"".join(pack_entry(key_of("a", sample, {"x": x}).encode(), 1.0) for x in "yz")
    path = worker.directory / f"{kind}_s1.db"
    path.write_bytes(HEADER.pack(HEADER.size + len(data) - missing, 1) + data)
    worker.inc("b")
    assert samples(collector, "b_total") == {(): 1}
    assert samples(collector, sample) == {}
    assert (collector.files, collector.corrupt_files) == (1, 1)
    path.write_bytes(HEADER.pack(HEADER.size + len(data), 1) + data)
    assert samples(collector, sample, "x") == {("y",): 1, ("z",): 1}


@pytest.mark.parametrize(("kind", "sample"), [("counter", "a_total"), ("histogram", "a_sum")])
def test_fault_25_a_length_below_zero_is_not_counted_from_the_end(
    worker: Worker, collector: WorkersCollector, *, kind: str, sample: str
) -> None:
    """As Python would, to find a key after all."""
    key = key_of("a", sample, {}).encode()
    data = pack_entry(key, 1.0)
    length = len(key) - len(data) + 4 - (HEADER.size + 4)  # from the end of the file
    path = worker.directory / f"{kind}_s1.db"
    path.write_bytes(HEADER.pack(HEADER.size + len(data), 1) + struct.pack("=i", length) + data[4:])
    assert samples(collector, sample) == {}
    assert (collector.files, collector.corrupt_files) == (0, 1)


def test_a_foretold_run_that_is_only_begun(worker: Worker, collector: WorkersCollector) -> None:
    """What is written of it beyond the bytes in use counts when they are used, and once."""
    other = Worker(worker.directory, "s1")
    worker.observe("h", 0.5)
    assert samples(collector, "h_count") == {(): 1}
    other.observe("h", 5.0)
    file = ours(other, "histogram")
    file.claim(file.used - len(pack_entry(key_of("h", "h_bucket", {"le": "+Inf"}).encode())))
    assert samples(collector, "h_count") == {(): 1}
    file.claim(file.used)
    for _ in range(2):
        assert samples(collector, "h_count") == {(): 2}
        assert samples(collector, "h_bucket", "le") == {("0.1",): 0, ("1.0",): 1, ("+Inf",): 2}
    assert collector.corrupt_files == 0
    other.close()


def test_fault_25_a_bound_that_is_no_number(worker: Worker, collector: WorkersCollector) -> None:
    """The same label set in another file is whole."""
    worker.observe("h", 0.5)
    other = Worker(worker.directory, "s1")
    other.observe("h", 0.5)
    other.file("histogram").set(key_of("h", "h_bucket", {"le": "five"}), 1.0)
    other.file("histogram").set(key_of("h", "h_bucket", {"le": "NaN"}), 1.0)
    assert samples(collector, "h_count") == {(): 1}
    assert collector.corrupt_files == 1
    other.close()


def test_a_file_that_vanishes_as_it_is_read_is_no_matter(
    worker: Worker, collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing of the directory and the opening."""
    worker.inc("a")
    worker.observe("h", 1.0)
    opened = os.open

    def vanishing(path: Any, *arguments: Any, **options: Any) -> int:
        if "histogram" in str(path):
            Path(path).unlink(missing_ok=True)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", vanishing)
    for _ in range(2):
        assert [metric.name for metric in collector.collect()] == ["a"]
        assert (collector.files, collector.corrupt_files) == (1, 0)


@pytest.mark.parametrize("content", [b"", b"\0\0\0", bytes(8), bytes(65536), HEADER.pack(8, 7)])
def test_a_file_that_is_just_being_made_is_not_damaged(
    worker: Worker, collector: WorkersCollector, content: bytes
) -> None:
    worker.inc("a")
    path = worker.directory / "counter_s1.db"
    path.write_bytes(content)
    assert samples(collector, "a_total") == {(): 1}
    assert collector.corrupt_files == 0
    path.unlink()
    assert samples(collector, "a_total") == {(): 1}


def test_a_file_that_may_not_be_read_is_counted_as_damaged(
    worker: Worker, collector: WorkersCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory by that name stands for it, because root may read everything."""
    worker.inc("a")
    (worker.directory / "counter_s1.db").mkdir()
    assert samples(collector, "a_total") == {(): 1}
    assert collector.corrupt_files == 1
    assert "counter_s1.db" in caplog.text


def test_files_of_other_kinds_and_a_directory_that_is_missing(tmp_path: Path) -> None:
    for name in ("slots.lock", "counter_s0.db.damaged", "notes.db", "counter_.db"):
        (tmp_path / name).write_bytes(b"whatever")
    collector = WorkersCollector(tmp_path, dict)
    assert (list(collector.collect()), collector.corrupt_files) == ([], 0)
    assert list(WorkersCollector(tmp_path / "missing", dict).collect()) == []


def test_each_key_is_read_once(worker: Worker, collector: WorkersCollector, reads: list[bytes]) -> None:
    """And of the histograms' only those of the first label set, and the sums."""
    other = Worker(worker.directory, "s1")
    for each in (worker, other):
        for path in ("/a", "/b", "/c"):
            each.inc("a", {"path": path})
            each.observe("h", 0.5, {"path": path})
    assert samples(collector, "h_count", "path") == {("/a",): 2, ("/b",): 2, ("/c",): 2}
    assert sum(b"_bucket" in key for key in reads) == len(BOUNDS)
    # The first key of a family once more in each file, for the documentation, which may differ, and the first
    # sum of all once more, as nothing was known of its buckets.
    assert len(reads) <= len(set(reads)) + 2 + 2 + 1
    del reads[:]
    for each in (worker, other):
        each.observe("h", 0.5, {"path": "/b"})
        each.inc("a", {"path": "/b"})
    assert samples(collector, "h_count", "path") == {("/a",): 2, ("/b",): 4, ("/c",): 2}
    assert reads == []
    worker.inc("a", {"path": "/d"})
    assert samples(collector, "a_total", "path")["/d",] == 1
    assert len(reads) == 1
    other.close()


def test_a_file_replaced_under_its_name(worker: Worker, collector: WorkersCollector) -> None:
    """Its identity tells; the new one has as many bytes, and other label sets."""
    worker.inc("a", {"x": "old"}, 5)
    worker.inc("b", {"x": "old"}, 5)
    assert samples(collector, "a_total", "x") == {("old",): 5}
    worker.remove("counter")
    worker.inc("a", {"x": "new"}, 1)
    worker.inc("c", {"x": "new"}, 1)
    assert samples(collector, "a_total", "x") == {("new",): 1}
    assert samples(collector, "b_total", "x") == {}


def test_a_file_of_prometheus_client_replaced_under_its_name_and_inode(
    tmp_path: Path, collector: WorkersCollector
) -> None:
    """It has no identity, and inodes are given again: the last key tells."""
    path = tmp_path / "counter_17.db"
    for label in ("old", "new"):
        key = key_of("a", "a_total", {"x": label}).encode()
        with path.open("r+b" if path.exists() else "wb") as file:
            file.write(HEADER.pack(8 + len(pack_entry(key)), 0) + pack_entry(key, 1.0))
        assert samples(collector, "a_total", "x") == {(label,): 1}


def test_a_file_that_shrinks_is_a_new_one(worker: Worker, collector: WorkersCollector) -> None:
    worker.inc("a")
    used = ours(worker, "counter").used
    worker.inc("b")
    assert samples(collector, "b_total") == {(): 1}
    ours(worker, "counter").claim(used)
    assert (samples(collector, "a_total"), samples(collector, "b_total")) == ({(): 1}, {})


def test_what_is_not_counted_as_used_does_not_count(worker: Worker, collector: WorkersCollector) -> None:
    """An entry is written first, and then the count of bytes in use."""
    worker.inc("a")
    file = ours(worker, "counter")
    used = file.used
    worker.inc("b")
    file.claim(used)
    assert samples(collector, "b_total") == {}
    file.claim(file.used)
    assert samples(collector, "b_total") == {(): 1}


def test_a_mark_tells_that_a_bucket_has_changed(worker: Worker, collector: WorkersCollector) -> None:
    """The sum alone would not: an observation of zero changes no sum."""
    worker.observe("h", 0.0)
    assert samples(collector, "h_bucket", "le")["0.1",] == 1
    worker.observe("h", 0.0)
    assert samples(collector, "h_bucket", "le")["0.1",] == 2
    file = worker.file("histogram")
    bucket, total = key_of("h", "h_bucket", {"le": "0.1"}), key_of("h", "h_sum", {})
    file.set(bucket, 7.0)
    assert samples(collector, "h_bucket", "le")["0.1",] == 2, "the mark says that nothing was written"
    value, mark = file.get(total)
    file.set(total, value, mark + 1)
    assert samples(collector, "h_bucket", "le")["0.1",] == 7
    file.set(total, value + 1, mark + 1)
    assert samples(collector, "h_sum") == {(): value + 1}


def test_without_marks_every_bucket_is_looked_at(tmp_path: Path, collector: WorkersCollector) -> None:
    """In files of prometheus_client, whose timestamps stay zero."""
    worker = Worker(tmp_path, "17")
    for count in (1, 2):
        worker.observe("h", 0.0)
        assert samples(collector, "h_bucket", "le")["0.1",] == count
    worker.close()


def test_entries_of_a_label_set_that_do_not_stand_together(
    worker: Worker, collector: WorkersCollector
) -> None:
    """Two threads may make two histograms at once, and a scrape may come in between."""
    file = worker.file("histogram")
    for sample, le in [("sum", ""), *(("bucket", le) for le in ("0.1", "1.0", "+Inf"))]:
        for path in ("/a", "/b"):
            labels = {"path": path} | ({"le": le} if le else {})
            file.set(key_of("h", f"h_{sample}", labels), 1.0, 3.0)
            assert samples(collector, "h_sum", "path")[path,] == 1
    assert samples(collector, "h_count", "path") == {("/a",): 3, ("/b",): 3}
    worker.observe("h", 0.5, {"path": "/a"}, BOUNDS)
    worker.observe("h", 0.5, {"path": "/c"}, BOUNDS)
    assert samples(collector, "h_count", "path") == {("/a",): 4, ("/b",): 3, ("/c",): 1}


def test_a_file_that_grows_at_every_scrape_is_still_read_at_once(
    worker: Worker, collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was added is read with what was there: a few calls for a hundred additions."""
    for number in range(100):
        worker.inc("a", {"x": str(number)})
        worker.observe("h", 0.5, {"x": str(number)})
        assert len(samples(collector, "a_total", "x")) == number + 1
    calls: list[int] = []
    monkeypatch.setattr(
        "web_prom.multiprocess.reading.value_blocks.ValueBlock.read",
        lambda self, *_: calls.append(len(self.owners)),
    )
    collector.collect()
    assert sum(calls) == 100 + 100
    assert len(calls) <= 2 * 8


def test_large_files_are_read_like_small_ones(worker: Worker, collector: WorkersCollector) -> None:
    """Beyond what is read at once a file is read again; keys of any length."""
    for number in range(300):
        worker.inc("a", {"x": "x" * number})
        worker.gauge("mostrecent", "g", number, {"x": "y" * number}, number + 1.0)
    for count in (1, 2):
        assert len(samples(collector, "a_total", "x")) == 300
        assert samples(collector, "a_total", "x")["x" * 299,] == count
        assert samples(collector, "g", "x")["y" * 7,] == 7
        worker.inc("a", {"x": "x" * 299})


def test_no_descriptor_and_no_mapping_is_left_open(worker: Worker, collector: WorkersCollector) -> None:
    for number in range(300):
        worker.inc("a", {"x": str(number)})
    worker.observe("h", 1.0)
    (worker.directory / "counter_s7.db").write_bytes(HEADER.pack(100_000, 1) + bytes(200_000))

    def opened() -> tuple[int, int]:
        mapped = Path("/proc/self/maps").read_text().count(str(worker.directory))
        return len(os.listdir("/proc/self/fd")), mapped

    before = opened()
    collector.collect()
    collector.collect()
    assert collector.corrupt_files == 1
    assert opened() == before


TRUNCATED = """
import os, sys, threading, time
from pathlib import Path
from web_prom.multiprocess.reading.collector import WorkersCollector

path = Path(sys.argv[1])
whole = path.read_bytes()
seen, ended = set(), threading.Event()

def truncate():
    while not ended.is_set():
        os.truncate(path, 0)
        time.sleep(0.001)
        path.write_bytes(whole)
        time.sleep(0.02)

other = threading.Thread(target=truncate)
other.start()
until = time.monotonic() + 60
while len(seen) < 2 and time.monotonic() < until:
    for _ in range(20):
        collector = WorkersCollector(path.parent, dict)
        seen.add(sum(len(metric.samples) for metric in collector.collect()))
    seen &= {0, 5000}
ended.set()
other.join()
print(sorted(seen))
"""


def test_a_file_that_is_truncated_as_it_is_read_ends_no_process(worker: Worker) -> None:
    """A reader that mapped the file would be killed by SIGBUS."""
    for number in range(5000):
        worker.inc("a", {"x": str(number)})
    path = worker.directory / "counter_s0.db"
    ended = subprocess.run(
        [sys.executable, "-c", TRUNCATED, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "[0, 5000]\n"), ended.stderr


def test_a_file_that_is_truncated_after_its_header_was_read(
    worker: Worker, collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        worker.inc("a", {"x": str(number)})
    worker.observe("h", 1.0)
    pread = os.pread

    def read_and_truncate(descriptor: int, count: int, offset: int) -> bytes:
        data = pread(descriptor, count, offset)
        os.truncate(worker.directory / "counter_s0.db", 64)
        return data

    monkeypatch.setattr(os, "pread", read_and_truncate)
    assert [metric.name for metric in collector.collect()] == ["h"]
    assert collector.corrupt_files == 1
