"""Listening sockets of this network namespace with their accept queues, from the Linux kernel.

The kernel answers without any privilege (``man 7 sock_diag``). Where a sandbox forbids the question,
``/proc/net/tcp`` has the same numbers for TCP, without the limits. Elsewhere there is no answer.
"""

from __future__ import annotations

import _socket  # gevent and eventlet replace socket, and would run other requests in the middle of a scrape
import contextlib
import ipaddress
import os
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

from web_prom.errors import raise_if_exhausted

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h and linux/unix_diag.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_LISTEN = 10
_UDIAG_SHOW_NAME, _UDIAG_SHOW_RQLEN = 0x01, 0x10
_UNIX_DIAG_NAME, _UNIX_DIAG_RQLEN = 0, 4

_HEADER = struct.Struct("=IHHII")
_INET_REQUEST = struct.Struct("=BBBBI48x")
_INET_ANSWER = struct.Struct("=4x2s2x16s32xIIII")
_UNIX_REQUEST = struct.Struct("=BBHIIIII")
_UNIX_ANSWER = struct.Struct("=4xI8x")
_ATTRIBUTE = struct.Struct("=HH")
_QUEUE = struct.Struct("=II")

# The kernel answers in this call; a sandbox that drops the question must not delay a scrape.
_TIMEOUT_SECONDS = 0.2
_BUFFER_BYTES = 1 << 16


class Listener(NamedTuple):
    """A listening socket.

    Attributes:
        inode: The socket's number, as ``/proc/<pid>/fd`` names it.
        address: ``127.0.0.1:8000``, ``[::]:8000``, ``unix:/run/app.sock`` or ``unix:@abstract``.
        waiting: Connections that nobody has accepted yet.
        limit: The most that may wait, or None where the kernel does not say.
    """

    inode: int
    address: str
    waiting: int
    limit: int | None


def listeners() -> list[Listener]:
    """Return the listening TCP and UNIX sockets of this network namespace, as far as the system shows them.

    Nothing is raised for what the system refuses. Takes about 0.1 ms. Safe in any thread and any process.

    Raises:
        UnreadableError: This process has no free descriptor at this moment.
    """
    if sys.platform != "linux":
        return []
    found: list[Listener] = []
    try:
        diag = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    except OSError as error:
        raise_if_exhausted(error)
        return list(_from_proc())
    try:
        diag.settimeout(_TIMEOUT_SECONDS)
        try:
            for family in (_socket.AF_INET, _socket.AF_INET6):
                found += _inet(diag, family)
        except (OSError, struct.error):
            found = list(_from_proc())
        with contextlib.suppress(OSError, struct.error):  # a kernel without unix_diag
            found += _unix(diag)
    finally:
        diag.close()
    return found


def listen_overflows() -> int | None:
    """Return how many connections of this network namespace the kernel has refused because a queue was full.

    The kernel counts since the namespace exists (``ListenOverflows`` of ``/proc/net/netstat``), TCP alone.
    None where there is no such file.

    Raises:
        UnreadableError: This process has no free descriptor at this moment.
    """
    try:
        with open("/proc/net/netstat", "rb") as file:
            lines = file.read().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            if names.startswith(b"TcpExt:"):
                return int(dict(zip(names.split(), values.split(), strict=True))[b"ListenOverflows"])
    except OSError as error:
        raise_if_exhausted(error)
    except (ValueError, KeyError):
        pass
    return None


def _inet(diag: _socket.socket, family: int) -> Iterator[Listener]:
    request = _INET_REQUEST.pack(family, _socket.IPPROTO_TCP, 0, 0, 1 << _LISTEN)
    for answer in _dump(diag, request):
        port, address, waiting, limit, _uid, inode = _INET_ANSWER.unpack_from(answer)
        yield Listener(inode, _host_port(family, address, int.from_bytes(port, "big")), waiting, limit)


def _unix(diag: _socket.socket) -> Iterator[Listener]:
    show = _UDIAG_SHOW_NAME | _UDIAG_SHOW_RQLEN
    any_cookie = 0xFFFFFFFF
    request = _UNIX_REQUEST.pack(_socket.AF_UNIX, 0, 0, 1 << _LISTEN, 0, show, any_cookie, any_cookie)
    for answer in _dump(diag, request):
        (inode,) = _UNIX_ANSWER.unpack_from(answer)
        attributes = dict(_attributes(answer[_UNIX_ANSWER.size :]))
        name, queue = attributes.get(_UNIX_DIAG_NAME), attributes.get(_UNIX_DIAG_RQLEN)
        if name and queue:
            waiting, limit = _QUEUE.unpack_from(queue)
            yield Listener(inode, _unix_address(name), waiting, limit)


def _dump(diag: _socket.socket, request: bytes) -> Iterator[bytes]:
    """Ask the kernel for all sockets that match; yield each answer without its header.

    Raises:
        OSError: The kernel does not know the question, or does not answer.
    """
    size = _HEADER.size + len(request)
    diag.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0) + request)
    while True:
        data = diag.recv(_BUFFER_BYTES)
        if not data:
            raise OSError("the kernel gave no answer")
        while len(data) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(data)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR or length < _HEADER.size:
                (number,) = struct.unpack_from("=i", data, _HEADER.size)
                raise OSError(-number, os.strerror(abs(number)))
            yield data[_HEADER.size : length]
            data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]


def _from_proc() -> Iterator[Listener]:
    """Yield the listening TCP sockets that ``/proc/net`` shows (``man 5 proc_net``)."""
    for name, family in (("tcp", _socket.AF_INET), ("tcp6", _socket.AF_INET6)):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as file:
                lines = file.read().splitlines()[1:]
        except OSError as error:
            raise_if_exhausted(error)
            continue
        with contextlib.suppress(ValueError, IndexError):
            for line in lines:
                fields = line.split()
                if int(fields[3], 16) == _LISTEN:
                    host, port = fields[1].split(":")
                    # Each word of 32 bits is in the machine's byte order.
                    words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
                    address = struct.pack(f"={len(words)}I", *words)
                    waiting = int(fields[4].split(":")[1], 16)
                    yield Listener(int(fields[9]), _host_port(family, address, int(port, 16)), waiting, None)


def _host_port(family: int, address: bytes, port: int) -> str:
    if family == _socket.AF_INET:
        return f"{ipaddress.IPv4Address(address[:4])}:{port}"
    return f"[{ipaddress.IPv6Address(address)}]:{port}"


def _unix_address(name: bytes) -> str:
    # An abstract name begins with a zero byte; a path may end with one.
    text = b"@" + name[1:] if name.startswith(b"\0") else name.rstrip(b"\0")
    return "unix:" + text.decode("utf-8", "backslashreplace")
