"""The exporter's listening socket: opened once, then handed from process to process: no scrape is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

from web_prom.config.parsing import Address
from web_prom.errors import ListenError

# A kernel may know IPv6 and have it switched off.
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT, errno.EINVAL})

BACKLOG = 128
"""How many scrapes may wait, while an exporter that died is replaced, say."""


def listen(address: Address) -> socket.socket:
    """Open a listening socket; it does not block and a fork does not take it along into another program.

    It does not share its port: two deployments that did by mistake would each answer every second scrape.

    Raises:
        ListenError: The address is in use, is none of this machine's, or needs more privileges.
    """
    try:
        listener = (None if address.host else _listen_at_all(address.port)) or _listen_at(address)
    except OSError as error:
        failure = ListenError(f"cannot listen at {address} ({_reason(error)})")
        failure.errno = error.errno
        raise failure from error
    listener.setblocking(False)
    return listener


def _listen_at_all(port: int) -> socket.socket | None:
    """Listen at every address of IPv4 and IPv6; return None where there is no IPv6."""
    if not socket.has_dualstack_ipv6():
        return None
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    except OSError as error:
        if error.errno in _NO_IPV6:
            return None
        raise


def _listen_at(address: Address) -> socket.socket:
    host = address.host or "0.0.0.0"  # noqa: S104 - an empty host asks for every address
    found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, sockaddr = found[0]
    return socket.create_server(sockaddr, family=family, backlog=BACKLOG)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or not error.errno:
        return str(error.strerror or error)
    return os.strerror(error.errno)  # what create_server() says repeats the address


def adopt(descriptor: int) -> socket.socket:
    """Take over a listening socket that another process handed on.

    Raises:
        ListenError: The descriptor is none.
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
    """Return where a socket listens."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)


def plain_address(address: str) -> str:
    """Return a client's address; IPv4 as such, also where the socket is of IPv6 and takes both."""
    return address.removeprefix("::ffff:") if "." in address else address


def send_listener(channel: socket.socket, listener: socket.socket | None) -> None:
    """Send a listening socket, or none, to the process at the other end of a Unix socket."""
    if listener is None:
        channel.sendall(b"-")
    else:
        socket.send_fds(channel, [b"+"], [listener.fileno()])


def receive_listener(channel: socket.socket) -> socket.socket | None:
    """Return the listening socket that the other end sends, or None if it has none.

    Raises:
        OSError: The other end is gone, or what came is no listening socket.
    """
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    return adopt(descriptors[0]) if descriptors else None


@contextlib.contextmanager
def deadline(channel: socket.socket, seconds: float) -> Iterator[None]:
    """Let nothing wait for the other end longer than some seconds."""
    before = channel.gettimeout()
    channel.settimeout(seconds)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            channel.settimeout(before)
