"""One outgoing request of requests: bare, by hand, and with web-prom."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.outgoing_libraries import of_requests, path_of, variants
from benchmarks.pairing import Variant

__all__ = ["PEERS", "VARIANTS", "path_of"]

PEERS: dict[str, Callable[[int], Variant]] = {}

VARIANTS = variants(of_requests)
