"""How long a request waited in the kernel, from the socket that it came by.

The kernel keeps when the last bytes of the other side arrived (``tcpi_last_data_recv`` of ``TCP_INFO``,
``man 7 tcp``). When the application is called, that is the time since the last bytes of the request, so the
time that the request waited for a worker. The clock of most kernels ticks every 4 ms. The time is too short
if the body of the request is still arriving.
"""

from __future__ import annotations

import _socket
import sys

SOCKET_KEY = "gunicorn.socket"
"""The key of a request's socket in the environ of gunicorn's WSGI workers. Other servers have none."""

HAS_TCP_INFO: bool = sys.platform == "linux" and hasattr(_socket, "TCP_INFO")
"""Whether ``socket.getsockopt(IPPROTO_TCP, TCP_INFO, TCP_INFO_SIZE)`` returns what is decoded here."""

IPPROTO_TCP: int = getattr(_socket, "IPPROTO_TCP", 6)
TCP_INFO: int = getattr(_socket, "TCP_INFO", 11)

# Eight bytes of flags come first in struct tcp_info. Then come numbers of 32 bits; this is the twelfth.
_NUMBER_SIZE = 4
_LAST_DATA_RECV = 13

TCP_INFO_SIZE: int = _NUMBER_SIZE * (_LAST_DATA_RECV + 1)
"""The number of bytes to ask the kernel for."""


def milliseconds_since_last_data(infos: list[bytes]) -> list[int]:
    """Return the milliseconds between the last bytes of the other side and each call of ``getsockopt``.

    An answer of the kernel that is too short is left out.

    Args:
        infos: What ``getsockopt`` returned.
    """
    data = b"".join(infos)
    if len(data) != len(infos) * TCP_INFO_SIZE:
        data = b"".join(info for info in infos if len(info) == TCP_INFO_SIZE)
    # No loop in Python: this runs for each request.
    return memoryview(data).cast("I")[_LAST_DATA_RECV :: _LAST_DATA_RECV + 1].tolist()
