"""A WSGI application whose requests sleep or compute for as long as their path says."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable
from typing import Any

from web_prom.wsgi import PrometheusMiddleware, set_route


def _serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    kind, milliseconds = environ["PATH_INFO"].strip("/").split("/")
    set_route(environ, f"/{kind}/<int:milliseconds>")
    if kind == "compute":
        until = time.thread_time() + int(milliseconds) / 1000
        while time.thread_time() < until:
            pass
    else:
        time.sleep(int(milliseconds) / 1000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


app = PrometheusMiddleware(_serve)
# A process ends faster where the garbage collector does not visit its modules.
gc.freeze()
