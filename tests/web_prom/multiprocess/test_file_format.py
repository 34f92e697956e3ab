"""The format of value files, compared with the reader and the writer of prometheus_client."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict

from web_prom.multiprocess.file_format import HEADER, LENGTH, VALUE, FileName, pack_entry, value_offset


@given(st.lists(st.text(min_size=1, max_size=40), unique=True, max_size=8))
def test_pack_entry_writes_entries_that_prometheus_client_reads(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str]
) -> None:
    path = tmp_path_factory.mktemp("layout") / "counter_s0.db"
    encodable = [key for key in keys if key.encode("utf-8", "replace").decode() == key]
    body = b"".join(
        pack_entry(key.encode(), number + 0.5, number) for number, key in enumerate(encodable, start=1)
    )
    path.write_bytes(HEADER.pack(HEADER.size + len(body), 4_000_000_000) + body)
    found = [
        (key, value, timestamp)
        for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(path)  # type: ignore[no-untyped-call]
    ]
    assert found == [(key, number + 0.5, number) for number, key in enumerate(encodable, start=1)]


@pytest.mark.parametrize("length", range(1, 20))
def test_value_offset_is_that_of_prometheus_client(tmp_path: Path, length: int) -> None:
    key = "k" * length
    values = MmapedDict(str(tmp_path / "counter_1.db"))  # type: ignore[no-untyped-call]
    values.write_value(key, 1.5, 2.5)  # type: ignore[no-untyped-call]
    data = values._m[:]
    values.close()  # type: ignore[no-untyped-call]
    used, identity = HEADER.unpack_from(data)
    assert identity == 0
    assert data[HEADER.size : used] == pack_entry(key.encode(), 1.5, 2.5)
    assert LENGTH.unpack_from(data, HEADER.size) == (length,)
    assert VALUE.unpack_from(data, HEADER.size + value_offset(length)) == (1.5, 2.5)


@pytest.mark.parametrize(
    ("name", "expected", "slot"),
    [
        ("counter_s0.db", ("counter", "", "s0"), 0),
        ("histogram_s12.db", ("histogram", "", "s12"), 12),
        ("gauge_livesum_s3.db", ("gauge", "livesum", "s3"), 3),
        ("gauge_all_4711.db", ("gauge", "all", "4711"), None),
        ("summary_host_a.db", ("summary", "", "host_a"), None),
    ],
)
def test_file_name_has_metric_type_mode_and_owner(
    name: str, expected: tuple[str, str, str], slot: int | None
) -> None:
    found = FileName.parse(name)
    assert found == expected
    assert found.slot == slot
    assert found.is_live == (found.mode == "livesum")
    assert str(found) == name


@pytest.mark.parametrize(
    "name", ["slots.lock", "counter_.db", "counter.db", "counter_s0.db.damaged", "x_s0.db"]
)
def test_file_name_parse_returns_none_for_other_files(name: str) -> None:
    assert FileName.parse(name) is None
