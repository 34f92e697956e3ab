"""Applications whose requests take a known time: they sleep or compute for as long as their path says."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from flask import Flask

from flask_prom import FlaskProm
from web_prom.asgi import PrometheusMiddleware

app = Flask(__name__)
FlaskProm(app)


@app.get("/sleep/<int:milliseconds>")
def sleep(milliseconds: int) -> str:
    time.sleep(milliseconds / 1000)
    return "slept"


@app.get("/compute/<int:milliseconds>")
def compute(milliseconds: int) -> str:
    until = time.thread_time() + milliseconds / 1000
    while time.thread_time() < until:
        pass
    return "computed"


async def _loop(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    kind, milliseconds = scope["path"].strip("/").split("/")
    if kind == "block":
        time.sleep(int(milliseconds) / 1000)  # on purpose
    else:
        await asyncio.sleep(int(milliseconds) / 1000)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


loop_app = PrometheusMiddleware(_loop)
