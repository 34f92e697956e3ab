"""The Starlette application of the ASGI tests, with responses of many kinds."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from tests.servers.apps.gate import wait_for_file
from web_prom import make_asgi_app
from web_prom.asgi import PrometheusMiddleware


async def index(request: Any) -> Any:
    return PlainTextResponse(str(os.getpid()))


async def item(request: Any) -> Any:
    number = request.path_params["number"]
    return PlainTextResponse(f"item {number}", 200 if number else 404)


async def order(request: Any) -> Any:
    return PlainTextResponse(str(len(await request.body())), 201)


async def error(request: Any) -> Any:
    raise RuntimeError("as it should")


async def stream(request: Any) -> Any:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            await asyncio.sleep(0)
            yield b"x" * 1000

    return StreamingResponse(body())


async def endless(request: Any) -> Any:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    return StreamingResponse(body())


async def breaks_half_way(request: Any) -> Any:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise RuntimeError("as it should")

    return StreamingResponse(body())


async def patient(request: Any) -> Any:
    """Wait until the client disconnects, and respond nevertheless."""
    # Not is_disconnected(), which gunicorn's own worker answers with yes while the client still waits.
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return PlainTextResponse("too late")


async def slow(request: Any) -> Any:
    """Respond when a file exists, and never check for a disconnect."""
    while not os.path.exists(request.query_params["until"]):
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.05)
    return PlainTextResponse("too late", int(request.query_params.get("status", "200")))


async def slow_body(request: Any) -> Any:
    await request.body()
    return await slow(request)


def slow_sync(request: Any) -> Any:
    while not os.path.exists(request.query_params["until"]):
        time.sleep(0.05)
    return PlainTextResponse("too late")


async def slow_stream(request: Any) -> Any:
    await slow(request)
    return await stream(request)


async def echo(websocket: Any) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "raise":
            raise RuntimeError("as it should")
        if text == "close":
            await websocket.close(1008)
            return
        await websocket.send_text(text)


async def refuse(websocket: Any) -> None:
    await websocket.close()


app = PrometheusMiddleware(
    Starlette(
        routes=[
            Route("/", index),
            Route("/items/{number:int}", item),
            Route("/orders", order, methods=["POST"]),
            Route("/error", error),
            Route("/stream", stream),
            Route("/endless", endless),
            Route("/breaks-half-way", breaks_half_way),
            Route("/patient", patient),
            Route("/slow", slow),
            Route("/slow-body", slow_body, methods=["POST"]),
            Route("/slow-sync", slow_sync),
            Route("/slow-stream", slow_stream),
            WebSocketRoute("/echo/{room}", echo),
            WebSocketRoute("/refused", refuse),
            Mount("/mounted", make_asgi_app()),
        ]
    ),
    request_size=True,
    response_size=True,
    allow_scrape=wait_for_file,
)
# A process ends faster where the garbage collector does not visit its modules.
gc.freeze()
