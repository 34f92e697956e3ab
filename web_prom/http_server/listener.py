"""The listening socket: opened once, and passed from process to process so that no scrape is refused."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

from web_prom.config.addresses import Address
from web_prom.errors import ListenError

# The kernel may support IPv6 while IPv6 is disabled.
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT, errno.EINVAL})

BACKLOG = 128
"""How many connections may wait to be accepted, for example while a crashed exporter is replaced."""


def listen(address: Address) -> socket.socket:
    """Open a listening socket. It does not block, and programs that this process executes do not inherit it.

    The port is not shared (``SO_REUSEPORT``). Two servers with the same port by mistake would each answer
    every second scrape.

    Raises:
        ListenError: The address is in use, does not belong to this machine, or needs more privileges.
    """
    try:
        listener = None if address.host else _listen_on_all_addresses(address.port)
        listener = listener or _listen_on(address)
    except OSError as error:
        failure = ListenError(f"cannot listen at {address} ({_reason(error)})")
        failure.errno = error.errno
        raise failure from error
    listener.setblocking(False)
    return listener


def _listen_on_all_addresses(port: int) -> socket.socket | None:
    """Listen on all addresses of IPv4 and IPv6; return None if there is no IPv6."""
    if not socket.has_dualstack_ipv6():
        return None
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    except OSError as error:
        if error.errno in _NO_IPV6:
            return None
        raise


def _listen_on(address: Address) -> socket.socket:
    host = address.host or "0.0.0.0"  # noqa: S104 - an empty host stands for all addresses
    found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, sockaddr = found[0]
    return socket.create_server(sockaddr, family=family, backlog=BACKLOG)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or not error.errno:
        return str(error.strerror or error)
    return os.strerror(error.errno)  # the message of create_server() would repeat the address


def adopt(descriptor: int) -> socket.socket:
    """Return the listening socket of a descriptor that another process passed on.

    Raises:
        ListenError: The descriptor is not a listening socket.
    """
    try:
        listener = socket.socket(fileno=descriptor)
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.detach()
            raise OSError("it does not listen")
        listener.set_inheritable(False)
        listener.setblocking(False)
    except OSError as error:
        raise ListenError(f"descriptor {descriptor} is no listening socket ({error})") from error
    return listener


def address_of(listener: socket.socket) -> Address:
    """Return the address of a listening socket."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)


def plain_address(address: str) -> str:
    """Return the address of a client. An IPv4 address that is mapped to IPv6 is returned as IPv4."""
    return address.removeprefix("::ffff:") if "." in address else address


def send_listener(channel: socket.socket, listener: socket.socket | None) -> None:
    """Send a listening socket, or the message that there is none, over a Unix socket."""
    if listener is None:
        channel.sendall(b"-")
    else:
        socket.send_fds(channel, [b"+"], [listener.fileno()])


def receive_listener(channel: socket.socket) -> socket.socket | None:
    """Return the listening socket that the other process sends, or None if it has none.

    Raises:
        OSError: The other process has ended.
        ListenError: The descriptor is not a listening socket.
    """
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    return adopt(descriptors[0]) if descriptors else None


@contextlib.contextmanager
def socket_timeout(channel: socket.socket, seconds: float) -> Iterator[None]:
    """Set the timeout of a socket inside of this context."""
    before = channel.gettimeout()
    channel.settimeout(seconds)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            channel.settimeout(before)
