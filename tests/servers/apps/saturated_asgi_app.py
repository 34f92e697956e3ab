"""An ASGI application whose requests take a known time: they sleep, or block the event loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from web_prom.asgi import PrometheusMiddleware


async def _serve(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    kind, milliseconds = scope["path"].strip("/").split("/")
    if kind == "block":
        time.sleep(int(milliseconds) / 1000)  # on purpose
    else:
        await asyncio.sleep(int(milliseconds) / 1000)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


app = PrometheusMiddleware(_serve)
