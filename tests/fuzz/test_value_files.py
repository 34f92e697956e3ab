"""Fuzzer for the reader of value files: corrupt files never change the values of the other files.

pytest tries a fixed number of cases with fixed seeds. With ``FUZZ_SECONDS`` in the environment the test runs
for that many seconds, with new seeds each time. A failure shows the seed of the case. ``FUZZ_SEED`` repeats
the case.
"""

from __future__ import annotations

import logging
import math
import os
import random
import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from tests.web_prom.multiprocess.reading.value_files import Worker, render
from web_prom.exposition.negotiation import encoder_for
from web_prom.multiprocess.file_format import HEADER, LENGTH, VALUE, value_offset
from web_prom.multiprocess.reading.collector import WorkersCollector

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
SEED = os.environ.get("FUZZ_SEED")
CASES = 40

# Seconds of processor time, so that a busy machine does not matter. A case takes some milliseconds.
MAX_SECONDS = 20.0
# The objects of an entry (label set, values, text) take several times the bytes of the entry.
MEMORY_FACTOR, BASE_MEMORY = 60, 4 << 20

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
Mutation = Callable[[random.Random, bytearray], bytearray]

ODD_KEYS = [
    b"",
    b"[]",
    b"{}",
    b"null",
    b"[" * 1000,
    b'["a"' * 100,
    b'["a", "a", {}, ""',
    b'["a", "a_total", {}, ""] ',
    b'["a", "a_total", {"x": 1}, ""]',
    b'["a", "a_total", {"x": null}, ""]',
    b'["a", "a_total", {"x": "\xff"}, ""]',
    b'["a", "a_total", {"x": "\\ud800"}, "\\udfff"]',
    b'["a", "a_total", {"x": "\\ud83d\\ude00 \xf0\x9f\x98\x80"}, ""]',
    b'["a", "a_total", {"x": "1", "x": "2"}, ""]',
    b'["a", "a_total", {"": ""}, ""]',
    b'["", "", {}, ""]',
    b'["a b", "a\\n", {"le": "5"}, "x"]',
    b'["h", "h_bucket", {"le": "nan"}, "Help."]',
    b'["h", "h_bucket", {"le": "-Inf"}, "Help."]',
    b'["h", "h_bucket", {"le": "+Inf", "x": "y"}, "Help."]',
    b'["h", "h_sum", {"le": "1.0"}, "Help."]',
    b'["h", "h_count", {}, "Help."]',
    b'["g2", "g2", {"pid": "7"}, "Help."]',
    b'["a", "a_total", {"%s": "%(x)s %"}, "%"]',
    b'["a", "a_total", {"x": 1e999}, ""]',
    b'["a", ' + b"9" * 5000 + b', {}, ""]',
]
ODD_VALUES = [math.nan, math.inf, -math.inf, -0.0, 1e308, -1e308, 5e-324, 0.1, 2.0**53]
COUNTS = [0, 1, 7, 8, 12, 16, 24, 4096, 65536, 1 << 20, 0x7FFFF000, 0x7FFFFFFF, -1, -8, -(1 << 31)]


def entries(data: bytes | bytearray) -> list[tuple[int, int]]:
    """Return the start and the end of each complete entry of a file."""
    found = []
    used = HEADER.unpack_from(data)[0] if len(data) >= HEADER.size else 0
    start = HEADER.size
    while HEADER.size <= start + LENGTH.size <= min(used, len(data)):
        length = LENGTH.unpack_from(data, start)[0]
        if length < 0:
            break
        end = start + value_offset(length) + VALUE.size
        if end > min(used, len(data)):
            break
        found.append((start, end))
        start = end
    return found


def use(data: bytearray, used: int) -> bytearray:
    """Write the count of bytes in use to the header."""
    if len(data) >= LENGTH.size:
        data[: LENGTH.size] = struct.pack("=I", used & 0xFFFFFFFF)
    return data


def flipped(chance: random.Random, data: bytearray) -> bytearray:
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def flipped_where_it_is_used(chance: random.Random, data: bytearray) -> bytearray:
    spans = entries(data)
    end = spans[-1][1] if spans else len(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        if end:
            data[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return data


def truncated(chance: random.Random, data: bytearray) -> bytearray:
    return data[: chance.choice([0, 1, 4, 8, 12, chance.randrange(len(data) + 1)])]


def counted(chance: random.Random, data: bytearray) -> bytearray:
    near = [end + by for _, end in entries(data)[-3:] for by in (-16, -8, 0, 8)]
    return use(data, chance.choice([*COUNTS, *near, chance.getrandbits(32)]))


def with_another_length(chance: random.Random, data: bytearray) -> bytearray:
    for start, _ in chance.sample(entries(data), k=min(2, len(entries(data)))):
        length = LENGTH.unpack_from(data, start)[0]
        new = chance.choice([*COUNTS, length + chance.choice([-8, -4, -1, 1, 4, 8]), chance.getrandbits(31)])
        data[start : start + LENGTH.size] = struct.pack("=I", new & 0xFFFFFFFF)
    return data


def appended(data: bytearray, more: bytes) -> bytearray:
    """Append complete entries after the bytes in use."""
    spans = entries(data)
    end = spans[-1][1] if spans else HEADER.size
    return use(data[:end] + more + data[end:], end + len(more))


def with_entries_twice(chance: random.Random, data: bytearray) -> bytearray:
    spans = entries(data)
    if not spans:
        return data
    picked = chance.choices(spans, k=chance.choice([1, 2, 5, 300]))
    return appended(data, b"".join(bytes(data[start:end]) for start, end in picked))


def with_an_odd_key(chance: random.Random, data: bytearray) -> bytearray:
    key = chance.choice(ODD_KEYS)
    padding = b" " * (value_offset(len(key)) - LENGTH.size - len(key))
    made = LENGTH.pack(len(key)) + key + padding + VALUE.pack(chance.choice(ODD_VALUES), 1.0)
    return appended(data, made * chance.choice([1, 1, 2, 50]))


def with_a_key_changed(chance: random.Random, data: bytearray) -> bytearray:
    spans = entries(data)
    if spans:
        start, _ = chance.choice(spans)
        length = LENGTH.unpack_from(data, start)[0]
        at = start + LENGTH.size + chance.randrange(max(1, length))
        new = chance.choice([b'"', b"\\", b"{", b"]", b"\xff", b"\0", b"\n", b",", b"%s", b'", "'])
        data[at : at + len(new)] = new
    return data


def with_odd_values(chance: random.Random, data: bytearray) -> bytearray:
    for _, end in entries(data):
        if chance.random() < 0.3:
            VALUE.pack_into(data, end - VALUE.size, chance.choice(ODD_VALUES), chance.choice(ODD_VALUES))
    return data


def with_zeros(chance: random.Random, data: bytearray) -> bytearray:
    start = chance.randrange(len(data) + 1)
    length = chance.choice([1, 4, 8, 64, 512])
    data[start : start + length] = bytes(len(data[start : start + length]))
    return data


def shuffled(chance: random.Random, data: bytearray) -> bytearray:
    spans = entries(data)
    parts = [bytes(data[start:end]) for start, end in spans]
    chance.shuffle(parts)
    return data[: HEADER.size] + b"".join(parts) + data[spans[-1][1] if spans else HEADER.size :]


def with_bytes_in_between(chance: random.Random, data: bytearray) -> bytearray:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.randbytes(chance.choice([1, 4, 8, 24]))
    return data


def without_some(chance: random.Random, data: bytearray) -> bytearray:
    at = chance.randrange(len(data) + 1)
    del data[at : at + chance.choice([1, 4, 8, 24])]
    return data


def noise(chance: random.Random, data: bytearray) -> bytearray:
    return bytearray(chance.randbytes(chance.choice([3, 8, 100, 5000])))


def doubled(chance: random.Random, data: bytearray) -> bytearray:
    return data + data


MUTATIONS: list[Mutation] = [
    flipped,
    flipped_where_it_is_used,
    truncated,
    counted,
    with_another_length,
    with_entries_twice,
    with_an_odd_key,
    with_a_key_changed,
    with_odd_values,
    with_zeros,
    shuffled,
    with_bytes_in_between,
    without_some,
    noise,
    doubled,
]


def write(directory: Path, owner: str, tag: str, chance: random.Random) -> None:
    """Write the files of a worker: series that only it has, with the tag as a label, and shared series."""
    worker = Worker(directory, owner)
    for labels in ({"of": tag}, {"of": "all"}, {"of": "all", "é\\n": f'"\\ü{tag}'}):
        worker.inc("a", labels, chance.randrange(1, 100))
        worker.summarize("s", float(chance.randrange(100)), labels)
        worker.gauge("sum", "g", float(chance.randrange(100)), labels)
        worker.gauge("max", "most", float(chance.randrange(100)), labels)
        for value in chance.choices([0.0625, 0.5, 5.0], k=3):
            worker.observe("h", value, labels)
    for number in range(chance.choice([0, 0, 20, 300])):
        worker.inc("many", {"of": tag, "number": str(number)})
    worker.close()


def samples_of(collector: Any) -> Samples:
    """Return the samples of a collector, without surrogates in names and values of labels."""
    return {
        (
            sample.name,
            tuple(sorted((sendable(name), sendable(value)) for name, value in sample.labels.items())),
        ): (sample.value)
        for metric in collector.collect()
        for sample in metric.samples
    }


def sendable(text: str) -> str:
    """Return a text with surrogates replaced, as web-prom shows it."""
    return text.encode("utf-8", "replace").decode()


def own(samples: Samples, tags: set[str]) -> Samples:
    """Return the series that only files with these tags have."""
    return {key: value for key, value in samples.items() if dict(key[1]).get("of") in tags}


def equal(one: Samples, other: Samples) -> bool:
    """Return whether samples are equal except for rounding errors."""
    return one.keys() == other.keys() and all(
        value == other[key]
        or (math.isnan(value) and math.isnan(other[key]))
        or math.isclose(value, other[key], rel_tol=1e-9)
        for key, value in one.items()
    )


class LoggedFiles(logging.Handler):
    """Collects the names of the files that the log reports as corrupt."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if "does not count" in record.getMessage():
            self.names.add(record.getMessage().split()[0])


def seeds() -> Iterator[int]:
    """Yield the seeds of the cases."""
    if SEED is not None:
        yield int(SEED)
        return
    deadline = time.monotonic() + SECONDS
    base = random.SystemRandom().randrange(1 << 40) if SECONDS else 0
    number = 0
    while time.monotonic() < deadline if SECONDS else number < CASES:
        yield base + number
        number += 1


class Holders:
    """The holders of three slots."""

    def __init__(self) -> None:
        self._first = 1

    def __call__(self) -> dict[int, int]:
        return {slot: self._first + slot for slot in range(3)}

    def replace(self) -> None:
        """Give the slots to other processes, so that nothing waits for removed files."""
        self._first += 3


def collector_of(directory: Path, holders: Holders) -> WorkersCollector:
    return WorkersCollector(directory, holders)


def corrupt(chance: random.Random, paths: list[Path]) -> None:
    """Apply one or two mutations to each file."""
    for path in paths:
        data = bytearray(path.read_bytes())
        for mutation in chance.choices(MUTATIONS, k=chance.choice([1, 1, 1, 2])):
            data = mutation(chance, data)
        path.write_bytes(data)
        if chance.random() < 0.1:  # a hole at the end
            os.truncate(path, max(len(data), 1 << chance.randrange(12, 31)))


def read(directory: Path, holders: Holders) -> tuple[WorkersCollector, Samples, set[str]]:
    """Scrape as a new process. Return the collector, the samples, and the files that are left out."""
    logged = LoggedFiles()
    logger = logging.getLogger("web_prom")
    logger.addHandler(logged)
    begun = time.thread_time()
    tracemalloc.start()
    try:
        collector = collector_of(directory, holders)
        samples = samples_of(collector)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        logger.removeHandler(logged)
    assert time.thread_time() - begun < MAX_SECONDS
    size = sum(path.stat().st_blocks * 512 for path in directory.iterdir())
    assert peak < MEMORY_FACTOR * size + BASE_MEMORY, (peak, size)
    assert collector.corrupt_files == len(logged.names)
    return collector, samples, logged.names


def check_with_upstream(seen: Samples, paths: list[Path], untouched: bool, folder: Path) -> None:
    """Compare the samples with those of prometheus_client for the files that count."""
    folder.mkdir()
    for path in paths:
        with path.open("rb") as file:  # without a hole at the end
            (folder / path.name).write_bytes(file.read(1 << 20))
    try:
        expected = samples_of(MultiProcessCollector(None, str(folder)))  # type: ignore[no-untyped-call]
    except Exception:
        assert not untouched
    else:
        assert seen == expected if untouched else equal(seen, expected)
    shutil.rmtree(folder)


def one_case(seed: int, directory: Path) -> None:
    """Corrupt some files of some workers, and compare the samples of all files."""
    chance = random.Random(seed)
    owners = [f"s{slot}" for slot in range(chance.choice([1, 2, 3]))] + ["4711"] * chance.choice([0, 1])
    tags = {owner: f"{chance.getrandbits(64):016x}" for owner in owners}
    for owner, tag in tags.items():
        write(directory, owner, tag, chance)
    holders = Holders()
    warm = collector_of(directory, holders)
    whole = samples_of(warm)
    victims = chance.sample(sorted(directory.iterdir()), k=chance.choice([1, 1, 2, 3]))
    corrupt(chance, victims)
    affected = {path.stem.rpartition("_")[2] for path in victims}
    safe = {tag for owner, tag in tags.items() if owner not in affected}

    cold, seen, left_out = read(directory, holders)
    assert left_out <= {path.name for path in victims}
    assert own(seen, safe) == own(whole, safe)
    assert own(samples_of(warm), safe) == own(whole, safe)
    for accept in ("", "application/openmetrics-text; version=1.0.0"):
        encode, content_type = encoder_for(accept)
        assert render(cold, encode, content_type) == encode(cold).removesuffix(b"# EOF\n")

    counting = [path for path in directory.iterdir() if path.name not in left_out]
    untouched = {path.name for path in victims} <= left_out
    check_with_upstream(seen, counting, untouched, directory.parent / f"{directory.name}-counting")

    for path in victims:
        path.unlink()
    holders.replace()
    alone = samples_of(collector_of(directory, holders))
    assert samples_of(warm) == alone
    assert samples_of(cold) == alone


def test_reader_leaves_out_only_corrupt_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never hangs, and its memory is limited by a factor of the size of the files."""
    monkeypatch.setattr(logging.getLogger("web_prom"), "propagate", False)  # one log line for each case
    for seed in seeds():
        directory = tmp_path / str(seed)
        directory.mkdir()
        try:
            one_case(seed, directory)
        except Exception as error:
            raise AssertionError(f"the case with FUZZ_SEED={seed} failed") from error
        shutil.rmtree(directory)
