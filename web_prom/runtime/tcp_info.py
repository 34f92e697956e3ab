"""How long a request waited in the kernel, from the socket that it came by.

The kernel keeps when the last bytes of the other side arrived (``tcpi_last_data_recv`` of ``TCP_INFO``,
``man 7 tcp``). When the application is called, that is the time since the last bytes of the request, so the
time that the request waited for a worker. The clock of most kernels ticks every 4 ms. The time is too short
if the body of the request is still arriving.
"""

from __future__ import annotations

import _socket
import struct
import sys
from collections.abc import Mapping
from typing import Any

_LEVEL: int = getattr(_socket, "IPPROTO_TCP", 6)
_TCP_INFO: int | None = getattr(_socket, "TCP_INFO", None) if sys.platform == "linux" else None

# Eight bytes of flags come first in struct tcp_info. Then come numbers of 32 bits, of which this is the
# twelfth.
_LAST_DATA_RECV = struct.Struct("=52xI")

SOCKET_KEY = "gunicorn.socket"
"""The key of a request's socket in the environ of gunicorn's WSGI workers."""


def read_tcp_info(environ: Mapping[str, Any]) -> bytes | None:
    """Return what the kernel keeps about the socket of a request, or None where that cannot be known.

    It is known for TCP on Linux under gunicorn's WSGI workers. A UNIX socket has no such information.

    Args:
        environ: Of WSGI, as the application gets it.
    """
    # gunicorn gives no address of the client if the socket is a UNIX socket.
    if _TCP_INFO is None or not environ.get("REMOTE_ADDR"):
        return None
    try:
        info: bytes = environ[SOCKET_KEY].getsockopt(_LEVEL, _TCP_INFO, _LAST_DATA_RECV.size)
    except (KeyError, AttributeError, OSError):
        return None
    return info


def seconds_since_last_data(info: bytes) -> float:
    """Return the seconds between the last bytes of the other side and the call of :func:`read_tcp_info`.

    Infinite if the kernel returned less than it should.
    """
    if len(info) < _LAST_DATA_RECV.size:
        return float("inf")
    milliseconds: int = _LAST_DATA_RECV.unpack_from(info)[0]
    return milliseconds / 1000.0
