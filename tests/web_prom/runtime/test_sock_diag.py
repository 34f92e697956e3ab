"""Listening sockets as the kernel shows them: real sockets, and kernels that refuse."""

from __future__ import annotations

import _socket
import contextlib
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from web_prom.runtime.sock_diag import Listener, listen_overflows, listeners

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows its queues")


@contextlib.contextmanager
def listening(
    family: int, address: tuple[str, int] | str, limit: int, waiting: int
) -> Iterator[socket.socket]:
    """Listen, with so many connections that nobody accepts."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(family))
        server.bind(address)
        server.listen(limit)
        for _ in range(waiting):
            client = stack.enter_context(socket.socket(family))
            client.connect(server.getsockname())
        yield server


def found(server: socket.socket) -> Listener | None:
    return next((each for each in listeners() if each.inode == os.fstat(server.fileno()).st_ino), None)


def shown(server: socket.socket, waiting: int) -> Listener:
    """Return what is shown of a socket, once the last connection has arrived in the queue."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        listener = found(server)
        assert listener is not None
        if listener.waiting == waiting:
            return listener
        time.sleep(0.01)
    raise AssertionError(f"{found(server)} does not show {waiting} connections")


@pytest.mark.parametrize("waiting", [0, 1, 3])
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_listeners_show_the_queue_of_a_tcp_socket(family: int, host: str, waiting: int) -> None:
    with listening(family, (host, 0), 5, waiting) as server:
        port = server.getsockname()[1]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        assert shown(server, waiting)[1:] == (address, waiting, 5)


@pytest.mark.parametrize("waiting", [0, 2])
def test_listeners_show_the_queue_of_a_unix_socket(tmp_path: Path, waiting: int) -> None:
    path = f"{tmp_path}/ü.sock"
    with listening(socket.AF_UNIX, path, 7, waiting) as server:
        assert shown(server, waiting)[1:] == (f"unix:{path}", waiting, 7)


def test_listeners_show_an_abstract_unix_socket() -> None:
    name = f"web-prom-test-{os.getpid()}"
    with listening(socket.AF_UNIX, f"\0{name}", 4, 1) as server:
        assert shown(server, 1)[1:] == (f"unix:@{name}", 1, 4)


def test_listeners_leave_out_sockets_that_do_not_listen(tmp_path: Path) -> None:
    with socket.socket() as bound, socket.socket(socket.AF_UNIX) as unix:
        bound.bind(("127.0.0.1", 0))
        unix.bind(f"{tmp_path}/bound.sock")
        assert found(bound) is None
        assert found(unix) is None


def test_listeners_are_many(tmp_path: Path) -> None:
    """An answer of the kernel's has many parts, which come in several messages."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(listening(socket.AF_INET, ("127.0.0.1", 0), 1, 0)) for _ in range(300)]
        servers += [
            stack.enter_context(listening(socket.AF_UNIX, f"{tmp_path}/{number}.sock", 1, 0))
            for number in range(300)
        ]
        inodes = {os.fstat(server.fileno()).st_ino for server in servers}
        assert inodes <= {each.inode for each in listeners()}


class _Refusing:
    """A kernel that does not open a socket for questions, or does not answer them."""

    def __init__(self, refuse: Callable[[], object]) -> None:
        self._refuse = refuse

    def settimeout(self, seconds: float) -> None:
        assert 0 < seconds < 1

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, size: int) -> bytes:
        answer = self._refuse()
        assert isinstance(answer, bytes)
        return answer

    def close(self) -> None:
        pass


def _raising(error: OSError) -> Callable[[], object]:
    def refuse() -> object:
        raise error

    return refuse


def _error(number: int) -> bytes:
    return struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -number) + bytes(16)


@pytest.mark.parametrize(
    "refuse",
    [
        pytest.param(_raising(PermissionError(1, "seccomp")), id="permission"),
        pytest.param(_raising(TimeoutError("nothing")), id="silence"),
        pytest.param(lambda: b"", id="empty"),
        pytest.param(lambda: _error(2), id="no-such-family"),
        pytest.param(lambda: b"\x08\0\0\0\0\0\0\0" + bytes(8), id="short-message"),
        pytest.param(lambda: struct.pack("=IHHII", 20, 20, 0, 0, 0) + bytes(4), id="short-answer"),
    ],
)
def test_listeners_fall_back_to_proc_net(
    refuse: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(listening(socket.AF_INET, ("127.0.0.1", 0), 5, 2))
        server6 = stack.enter_context(listening(socket.AF_INET6, ("::1", 0), 5, 0))
        shown(server, 2)
        monkeypatch.setattr(_socket, "socket", lambda *_: _Refusing(refuse))
        listener, listener6 = found(server), found(server6)
    assert listener is not None
    assert listener[1:] == (f"127.0.0.1:{listener.address.split(':')[1]}", 2, None)
    assert listener6 is not None
    assert listener6.address.startswith("[::1]:")


def test_listeners_fall_back_where_no_such_socket_may_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> object:
        raise OSError(97, "Address family not supported by protocol")

    with listening(socket.AF_INET, ("127.0.0.1", 0), 5, 0) as server:
        monkeypatch.setattr(_socket, "socket", refuse)
        listener = found(server)
    assert listener is not None
    assert listener.limit is None


def test_listeners_are_none_where_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_socket, "socket", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    found_none, overflows = listeners(), listen_overflows()
    monkeypatch.undo()
    assert found_none == []
    assert overflows is None


def test_listeners_are_none_on_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(socket.AF_INET, ("127.0.0.1", 0), 5, 0):
        monkeypatch.setattr(sys, "platform", "darwin")
        assert listeners() == []


def test_listen_overflows_count_refused_connections() -> None:
    before = listen_overflows()
    assert before is not None
    with listening(socket.AF_INET, ("127.0.0.1", 0), 1, 2) as server, contextlib.ExitStack() as stack:
        shown(server, 2)
        for _ in range(10):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        until = time.monotonic() + 60
        while (listen_overflows() or 0) < before + 10 and time.monotonic() < until:
            time.sleep(0.01)
    assert (listen_overflows() or 0) >= before + 10
