"""Regular files: opened without waiting, checked for holes. Other kinds of files are refused."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.web_prom.support import open_descriptors
from web_prom.multiprocess.regular_file import NotRegularError, has_data, open_regular


def bound_socket(path: Path) -> None:
    """Create a socket from within its directory, because a long path is not a valid address."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def link_to_file(path: Path) -> None:
    """Make a symbolic link to a regular file."""
    target = path.with_name("target")
    target.write_bytes(b"secret")
    path.symlink_to(target)


KINDS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "socket": bound_socket,
    "link": link_to_file,
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Check that a test leaves no descriptor open."""
    before = open_descriptors()
    yield
    assert open_descriptors() <= before


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize(
    "flags", [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT], ids=["read", "write", "make"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_fault_72_open_regular_refuses_other_kinds(tmp_path: Path, kind: str, flags: int) -> None:
    """Other kinds of files are refused at once, by path and by name in a directory."""
    path = tmp_path / "counter_x.db"
    KINDS[kind](path)
    with pytest.raises(NotRegularError, match=r"counter_x\.db"):
        open_regular(path, flags)
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(NotRegularError):
            open_regular(path.name, flags, directory)
    finally:
        os.close(directory)


@pytest.mark.usefixtures("descriptors")
def test_fault_72_open_regular_refuses_a_device() -> None:
    """A device is refused, although it can be opened."""
    with pytest.raises(NotRegularError):
        open_regular("/dev/zero", os.O_RDONLY)


@pytest.mark.usefixtures("descriptors")
def test_fault_72_open_regular_does_not_wait_for_a_lease(tmp_path: Path) -> None:
    """A file with a lease is refused at once. The kernel would make the process wait for 45 seconds."""
    path = tmp_path / "counter_x.db"
    path.write_bytes(b"x")
    owner = os.open(path, os.O_RDWR)
    try:
        try:
            fcntl.fcntl(owner, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            pytest.skip("the file system has no leases")
        import signal

        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        try:
            with pytest.raises(NotRegularError, match="lease"):
                open_regular(path, os.O_RDONLY)
        finally:
            fcntl.fcntl(owner, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            signal.signal(signal.SIGIO, before)
    finally:
        os.close(owner)


def test_open_regular_opens_and_creates(tmp_path: Path) -> None:
    """A regular file is opened, or created with the given mode. Children do not inherit the descriptor."""
    path = tmp_path / "counter_s0.db"
    with pytest.raises(FileNotFoundError):
        open_regular(path, os.O_RDWR)
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
    try:
        assert not os.get_inheritable(descriptor)
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
        os.write(descriptor, b"text")
    finally:
        os.close(descriptor)
    descriptor = open_regular(path, os.O_RDONLY)
    try:
        assert os.read(descriptor, 10) == b"text"
    finally:
        os.close(descriptor)


def test_fault_72_has_data_finds_holes(tmp_path: Path) -> None:
    """A hole is found without reading the file, so that a huge file without data uses no memory."""
    path = tmp_path / "counter_x.db"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        assert has_data(descriptor, 0)
        assert not has_data(descriptor, 8)
        os.write(descriptor, b"x" * 8192)
        assert has_data(descriptor, 8192)
        assert not has_data(descriptor, 8193)
        os.ftruncate(descriptor, 0x7FFFF000)
        assert has_data(descriptor, 8192)
        if os.fstat(descriptor).st_blocks * 512 < 0x7FFFF000:
            assert not has_data(descriptor, 0x7FFFF000)
    finally:
        os.close(descriptor)


def test_has_data_counts_writes_to_reserved_space(tmp_path: Path) -> None:
    """Bytes that are written through a mapping into reserved space count as data at once."""
    descriptor = os.open(tmp_path / "counter_s0.db", os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(descriptor, 0, 65536)
        with mmap.mmap(descriptor, 65536) as mapping:
            mapping[:20000] = b"x" * 20000
            assert has_data(descriptor, 20000)
    finally:
        os.close(descriptor)
