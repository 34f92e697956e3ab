"""The refusal of network file systems."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory import (
    network_filesystem,
)
from web_prom.multiprocess.directory.checks import ensure_writable
from web_prom.multiprocess.directory.shared_directory import SharedDirectory


@pytest.mark.parametrize(("number", "name"), network_filesystem._NETWORK.items())
@pytest.mark.parametrize("use", [ensure_writable, SharedDirectory])
def test_network_filesystem_is_refused_with_the_remedy(
    use: Callable[[Path], object], number: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_filesystem, "_type_of", lambda path: number)
    with pytest.raises(DirectoryError) as raised:
        use(tmp_path)
    message = str(raised.value)
    assert message.startswith(
        f"PROMETHEUS_MULTIPROC_DIR is {str(tmp_path)!r}, which is on a network file system"
    )
    assert f"({name})" in message
    assert "local disk or in memory, for example in /dev/shm" in message
    assert os.listdir(tmp_path) == []


class LibC:
    """A replacement for the C library with the function that is used."""

    def __init__(self, answer: int, number: int = 0) -> None:
        self.answer = answer
        self.number = number

    def statfs(self, path: bytes, found: Any) -> int:
        ctypes.c_ulong.from_buffer(found).value = self.number
        return self.answer


@pytest.mark.parametrize("number", [0x6969, 0xFE534D42, 0xFE534D42 - (1 << 32)])
def test_filesystem_type_is_read_from_statfs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a system with 32-bit longs, the number may be negative."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: LibC(0, number))
    with pytest.raises(DirectoryError, match="network"):
        ensure_writable(tmp_path)


def test_filesystem_type_of_proc() -> None:
    assert network_filesystem._type_of(Path("/proc")) == 0x9FA0


@pytest.mark.parametrize("way", ["error", "no function", "no library", "another system"])
def test_nothing_is_refused_if_statfs_is_not_available(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(network_filesystem, "_type_of", lambda path: pytest.fail("it was asked"))
    else:
        libraries: dict[str, Callable[[None], Any]] = {
            "error": lambda name: LibC(-1, 0x6969),
            "no function": lambda name: object(),
            "no library": lambda name: ctypes.CDLL("libno-such.so"),
        }
        original = ctypes.CDLL
        monkeypatch.setattr(ctypes, "CDLL", lambda name: original(name) if name else libraries[way](name))
    ensure_writable(tmp_path)
