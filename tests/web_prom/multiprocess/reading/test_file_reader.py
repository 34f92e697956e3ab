"""Reading of one value file: corrupt, new, replaced, truncated and large files."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from pathlib import Path

import pytest

from tests import interpreters
from tests.web_prom.multiprocess.reading.value_files import Worker, key_of, web_prom_file
from tests.web_prom.support import samples
from web_prom.multiprocess.file_format import HEADER, pack_entry
from web_prom.multiprocess.reading.collector import WorkersCollector

COUNTER = key_of("a", "a_total", {}).encode()


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
def test_fault_25_corrupt_file_is_left_out_of_the_scrape(
    worker: Worker,
    collector: WorkersCollector,
    caplog: pytest.LogCaptureFixture,
    *,
    content: bytes,
    reason: str,
    size: int,
) -> None:
    """It is counted, and logged once. The other files count. After a repair the file counts too."""
    worker.inc("a")
    path = worker.directory / "counter_s1.db"
    path.write_bytes(content)
    if size and "and has" not in reason:  # larger than the first read
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


def test_fault_25_file_that_becomes_corrupt_is_left_out_completely(
    worker: Worker, collector: WorkersCollector
) -> None:
    """Nobody could explain the sum of half of a file."""
    other = Worker(worker.directory, "s1")
    for each in (worker, other):
        each.inc("a")
        each.observe("h", 0.5)
    assert samples(collector, "h_count") == {(): 2}
    for metric_type in ("counter", "histogram"):
        web_prom_file(other, metric_type).append(pack_entry(b"no key"))
    assert samples(collector, "h_count") == samples(collector, "a_total") == {(): 1}
    assert collector.corrupt_files == 2
    other.close()


@pytest.mark.parametrize("content", [b"", b"\0\0\0", bytes(8), bytes(65536), HEADER.pack(8, 7)])
def test_file_that_is_being_created_is_not_corrupt(
    worker: Worker, collector: WorkersCollector, content: bytes
) -> None:
    worker.inc("a")
    path = worker.directory / "counter_s1.db"
    path.write_bytes(content)
    assert samples(collector, "a_total") == {(): 1}
    assert collector.corrupt_files == 0
    path.unlink()
    assert samples(collector, "a_total") == {(): 1}


def test_directory_with_the_name_of_a_value_file_is_corrupt(
    worker: Worker, collector: WorkersCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted and logged."""
    worker.inc("a")
    (worker.directory / "counter_s1.db").mkdir()
    assert samples(collector, "a_total") == {(): 1}
    assert collector.corrupt_files == 1
    assert "counter_s1.db" in caplog.text


def test_replaced_file_is_recognised_by_its_identity(worker: Worker, collector: WorkersCollector) -> None:
    """The new file has as many bytes, and other label sets."""
    worker.inc("a", {"x": "old"}, 5)
    worker.inc("b", {"x": "old"}, 5)
    assert samples(collector, "a_total", "x") == {("old",): 5}
    worker.remove("counter")
    worker.inc("a", {"x": "new"}, 1)
    worker.inc("c", {"x": "new"}, 1)
    assert samples(collector, "a_total", "x") == {("new",): 1}
    assert samples(collector, "b_total", "x") == {}


def test_replaced_file_without_identity_is_recognised_by_its_last_key(
    tmp_path: Path, collector: WorkersCollector
) -> None:
    """Files of prometheus_client have no identity, and a new file may have the inode of the old one."""
    path = tmp_path / "counter_17.db"
    for label in ("old", "new"):
        key = key_of("a", "a_total", {"x": label}).encode()
        with path.open("r+b" if path.exists() else "wb") as file:
            file.write(HEADER.pack(8 + len(pack_entry(key)), 0) + pack_entry(key, 1.0))
        assert samples(collector, "a_total", "x") == {(label,): 1}


def test_file_with_fewer_bytes_in_use_is_a_new_file(worker: Worker, collector: WorkersCollector) -> None:
    worker.inc("a")
    used = web_prom_file(worker, "counter").used
    worker.inc("b")
    assert samples(collector, "b_total") == {(): 1}
    web_prom_file(worker, "counter").claim(used)
    assert (samples(collector, "a_total"), samples(collector, "b_total")) == ({(): 1}, {})


def test_entries_after_the_bytes_in_use_do_not_count(worker: Worker, collector: WorkersCollector) -> None:
    """A writer writes the entry first, and then the count of bytes in use."""
    worker.inc("a")
    file = web_prom_file(worker, "counter")
    used = file.used
    worker.inc("b")
    file.claim(used)
    assert samples(collector, "b_total") == {}
    file.claim(file.used)
    assert samples(collector, "b_total") == {(): 1}


def test_file_larger_than_the_first_read_is_read_completely(
    worker: Worker, collector: WorkersCollector
) -> None:
    """The keys have many different lengths."""
    for number in range(300):
        worker.inc("a", {"x": "x" * number})
        worker.gauge("mostrecent", "g", number, {"x": "y" * number}, number + 1.0)
    for count in (1, 2):
        assert len(samples(collector, "a_total", "x")) == 300
        assert samples(collector, "a_total", "x")["x" * 299,] == count
        assert samples(collector, "g", "x")["y" * 7,] == 7
        worker.inc("a", {"x": "x" * 299})


def test_no_descriptor_and_no_mapping_stays_open(worker: Worker, collector: WorkersCollector) -> None:
    for number in range(300):
        worker.inc("a", {"x": str(number)})
    worker.observe("h", 1.0)
    (worker.directory / "counter_s7.db").write_bytes(HEADER.pack(100_000, 1) + bytes(200_000))

    def opened() -> tuple[int, int]:
        """Return the numbers of descriptors and mappings of the directory's files, not of other tests'."""
        mapped = Path("/proc/self/maps").read_text().count(str(worker.directory))
        links = []
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # it is closed meanwhile, as that of this list
                links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return sum(link.startswith(str(worker.directory)) for link in links), mapped

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


@pytest.mark.slow
def test_file_that_is_truncated_during_a_scrape_kills_no_process(worker: Worker) -> None:
    """A reader that maps the file would be killed by SIGBUS."""
    for number in range(5000):
        worker.inc("a", {"x": str(number)})
    path = worker.directory / "counter_s0.db"
    ended = interpreters.run(
        [sys.executable, "-c", TRUNCATED, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "[0, 5000]\n"), ended.stderr


def test_file_that_is_truncated_after_its_header_was_read_is_corrupt(
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
