"""One value file, as its only writer has it; prometheus_client's own reader is the oracle."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from tests.web_prom.support import open_descriptors
from web_prom.multiprocess.file_entries import CorruptFileError
from web_prom.multiprocess.file_format import HEADER, LENGTH, pack_entry
from web_prom.multiprocess.writing import value_file
from web_prom.multiprocess.writing.value_file import INITIAL_BYTES, ValueFile

KEY = mmap_key("a", "a_total", ["x"], ["1"], "Help.").encode()


def contents(path: Path) -> list[tuple[str, float, float]]:
    """Return what prometheus_client reads."""
    read: Any = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    return [(key, value, timestamp) for key, value, timestamp, _ in read]


def key_of(text: str) -> bytes:
    return mmap_key("metric", "metric_total", ["label"], [text], "Help.").encode()


def write(path: Path, *bodies: bytes, used: int | None = None, size: int = INITIAL_BYTES) -> None:
    body = b"".join(bodies)
    used = HEADER.size + len(body) if used is None else used
    path.write_bytes((LENGTH.pack(used) + b"\1\2\3\4" + body).ljust(size, b"\0"))


def has_holes(path: Path) -> bool:
    return path.stat().st_blocks * 512 < path.stat().st_size


@given(st.lists(st.tuples(st.text(max_size=3000), st.floats(allow_nan=False)), max_size=40))
def test_value_file_is_read_by_prometheus_client_and_continued_by_the_next_writer(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, float]]
) -> None:
    path = tmp_path_factory.mktemp("value") / "counter_s0.db"
    expected: dict[str, tuple[float, float]] = {}
    for half in (writes[: len(writes) // 2], writes[len(writes) // 2 :]):
        file = ValueFile(path)
        for number, (text, value) in enumerate(half):
            at = file.locate(key_of(text))
            file.view[at], file.view[at + 1] = value, number
            expected[key_of(text).decode()] = value, number
        assert [(key, (value, timestamp)) for key, value, timestamp in contents(path)] == [*expected.items()]
        file.close()


def test_value_file_reserves_all_space_when_it_grows(tmp_path: Path) -> None:
    """A mapping with holes is where a full disk would kill the process."""
    path = tmp_path / "counter_s0.db"
    file = ValueFile(path)
    sizes = set()
    for number in range(1200):
        at = file.locate(key_of(f"{number:0500}"))
        file.view[at] = number
        sizes.add(path.stat().st_size)
        assert not has_holes(path)
        assert len(file.view) * 8 == path.stat().st_size
    assert [value for _, value, _ in contents(path)] == [*range(1200)]
    file.close()
    steps = sorted(sizes)
    assert steps[0] == INITIAL_BYTES
    for former, size in pairwise(steps):
        assert max(INITIAL_BYTES, former // 4) <= size - former <= max(INITIAL_BYTES, former // 4 + 4096)


def test_value_file_uses_one_descriptor_before_and_after_it_grows(tmp_path: Path) -> None:
    before = open_descriptors()
    file = ValueFile(tmp_path / "counter_s0.db")
    assert len(open_descriptors() - before) <= 1
    for number in range(300):
        file.locate(key_of(f"{number:01000}"))
    assert len(open_descriptors() - before) <= 1
    file.close()
    assert open_descriptors() <= before


def test_locate_grows_for_a_long_key(tmp_path: Path) -> None:
    file = ValueFile(tmp_path / "counter_s0.db")
    at = file.locate(key_of("x" * 300_000))
    file.view[at] = 5
    file.close()
    assert [value for _, value, _ in contents(tmp_path / "counter_s0.db")] == [5]


def test_identity_belongs_to_one_file(tmp_path: Path) -> None:
    def identity(path: Path) -> int:
        found: int = HEADER.unpack_from(path.read_bytes())[1]
        return found

    path = tmp_path / "counter_s0.db"
    ValueFile(path).close()
    first = identity(path)
    file = ValueFile(path)
    for number in range(100):
        file.locate(key_of(f"{number:01000}"))
    file.close()
    assert identity(path) == first != 0
    path.unlink()
    ValueFile(path).close()
    assert identity(path) not in (0, first)


def test_value_file_continues_a_file_of_prometheus_client(tmp_path: Path) -> None:
    """It has holes, and no identity."""
    path = tmp_path / "counter_s0.db"
    upstream: Any = MmapedDict(str(path))  # type: ignore[no-untyped-call]
    upstream.write_value(KEY.decode(), 3.0, 0.0)
    upstream.close()
    assert has_holes(path)
    file = ValueFile(path)
    file.view[file.locate(KEY)] += 1
    file.close()
    assert not has_holes(path)
    assert HEADER.unpack_from(path.read_bytes())[1]
    assert contents(path) == [(KEY.decode(), 4.0, 0.0)]


@pytest.mark.parametrize("size", [0, 8, INITIAL_BYTES])
def test_value_file_continues_a_file_whose_writer_was_killed_at_its_creation(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "counter_s0.db"
    path.write_bytes(b"\0" * size)
    file = ValueFile(path)
    file.view[file.locate(KEY)] = 1
    file.close()
    assert contents(path) == [(KEY.decode(), 1.0, 0.0)]


@pytest.mark.parametrize(
    ("bodies", "used"),
    [
        ([pack_entry(KEY)], 1 << 20),
        ([pack_entry(KEY)], -1),
        ([pack_entry(KEY)], 4),
        ([pack_entry(KEY)], HEADER.size + len(pack_entry(KEY)) - 8),
        ([pack_entry(KEY), bytes(40)], None),
        ([LENGTH.pack(-1), bytes(60)], None),
        ([LENGTH.pack(1 << 20), bytes(60)], None),
        ([pack_entry(b"\xff" * 12)], None),
        ([pack_entry(b'["a","b",{}')], None),
        ([pack_entry(b'["a","b",{}]')], None),
        ([pack_entry(b'["a","b","c","d"]')], None),
        ([pack_entry(b'["a","b",{},"d"],[]')], None),
        ([pack_entry(b"[" * 30_000)], None),
    ],
)
def test_fault_25_corrupt_file_is_detected_before_it_is_written(
    tmp_path: Path, bodies: list[bytes], used: int | None
) -> None:
    path = tmp_path / "counter_s0.db"
    write(path, *bodies, used=used)
    before, open_before = path.read_bytes(), open_descriptors()
    with pytest.raises(CorruptFileError, match=r"counter_s0\.db"):
        ValueFile(path)
    assert path.read_bytes() == before
    assert open_descriptors() <= open_before


def test_value_file_without_its_end_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "counter_s0.db"
    write(path, *[pack_entry(key_of(f"{number:01000}")) for number in range(40)], size=0)
    os.truncate(path, 20_000)
    with pytest.raises(CorruptFileError):
        ValueFile(path)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_value_file_leaves_nothing_if_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one would be in every reader's way."""
    before = open_descriptors()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        ValueFile(tmp_path / "counter_s0.db")
    assert not list(tmp_path.iterdir())
    assert open_descriptors() <= before


def test_locate_changes_nothing_if_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "counter_s0.db"
    file = ValueFile(path)
    at = file.locate(KEY)
    file.view[at] = 1
    before = open_descriptors()
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            file.locate(key_of("x" * INITIAL_BYTES))
    file.view[at] += 1
    assert open_descriptors() <= before
    assert contents(path) == [(KEY.decode(), 2.0, 0.0)]
    at = file.locate(key_of("x" * INITIAL_BYTES))
    file.view[at] = 3
    file.close()
    assert [value for _, value, _ in contents(path)] == [2.0, 3.0]


def test_locate_does_not_grow_beyond_the_maximum_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(value_file, "_MAX_BYTES", 2 * INITIAL_BYTES)
    file = ValueFile(tmp_path / "counter_s0.db")
    file.locate(key_of("x" * INITIAL_BYTES))
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        file.locate(key_of("y" * INITIAL_BYTES))
    file.close()


def test_locate_does_not_grow_a_file_that_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "counter_s0.db"
    file = ValueFile(path)
    path.unlink()
    write(path, pack_entry(KEY))
    before = path.read_bytes()
    with pytest.raises(OSError, match="in its place"):
        file.locate(key_of("x" * INITIAL_BYTES))
    file.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("lacking", ["macOS", "the file system"])
def test_value_file_writes_blocks_if_space_cannot_be_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    if lacking == "macOS":
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refused)
    path = tmp_path / "counter_s0.db"
    upstream: Any = MmapedDict(str(path))  # type: ignore[no-untyped-call]
    upstream.write_value(KEY.decode(), 3.0, 4.0)
    upstream.close()
    file = ValueFile(path)
    assert not has_holes(path)
    file.locate(key_of("x" * INITIAL_BYTES))
    assert not has_holes(path)
    file.close()
    assert contents(path)[0] == (KEY.decode(), 3.0, 4.0)


def test_value_file_does_not_follow_links(tmp_path: Path) -> None:
    """In a directory that others can write, it could lead to a file that is none of ours."""
    target = tmp_path / "precious"
    target.write_text("mine")
    for name in ("counter_s0.db", "gauge_all_s0.db.new"):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            ValueFile(tmp_path / name.removesuffix(".new"))
    assert target.read_text() == "mine"
