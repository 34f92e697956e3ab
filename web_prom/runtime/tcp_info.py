"""How long a request waited in the kernel, from the socket that it came by.

The kernel notes when the last bytes of a peer arrived (``tcpi_last_data_recv`` of ``TCP_INFO``, ``man 7
tcp``). As the application is called, that is the time since the request's last bytes: the time that it
waited for a worker. The clock ticks every 4 ms on most kernels. A body that is still arriving makes the
time too small.
"""

from __future__ import annotations

import _socket
import struct
import sys
from collections.abc import Mapping
from typing import Any

_LEVEL: int = getattr(_socket, "IPPROTO_TCP", 6)
_TCP_INFO: int | None = getattr(_socket, "TCP_INFO", None) if sys.platform == "linux" else None

# Eight bytes of flags come first in struct tcp_info, then 32-bit numbers of which this is the twelfth.
_LAST_DATA_RECV = struct.Struct("=52xI")

SOCKET_KEY = "gunicorn.socket"
"""Where gunicorn's WSGI workers put the socket of a request in the environ."""


def socket_queue_seconds(environ: Mapping[str, Any]) -> float | None:
    """Return the seconds since the last bytes of a request arrived, or None where that cannot be known.

    It is known for TCP on Linux under gunicorn's WSGI workers. A UNIX socket has no such time.

    Args:
        environ: Of WSGI, as the application gets it.
    """
    # gunicorn has no address of a peer where the socket is a UNIX socket.
    if _TCP_INFO is None or not environ.get("REMOTE_ADDR"):
        return None
    try:
        info = environ[SOCKET_KEY].getsockopt(_LEVEL, _TCP_INFO, _LAST_DATA_RECV.size)
        (milliseconds,) = _LAST_DATA_RECV.unpack(info)
    except (KeyError, AttributeError, OSError, struct.error):
        return None
    return float(milliseconds) / 1000.0
