"""A FastAPI shop for every ASGI server. docs/how-to/servers.rst has the commands."""

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse

from web_prom.asgi import PrometheusMiddleware

PRODUCTS = {1: "teapot", 2: "kettle", 3: "samovar"}

app = FastAPI()
PrometheusMiddleware.install(app)


@app.get("/")
async def index() -> dict[str, int]:
    return {"worker": os.getpid()}


@app.get("/products/{number}")
async def product(number: int) -> dict[str, str]:
    if number not in PRODUCTS:
        raise HTTPException(404)
    return {"name": PRODUCTS[number]}


@app.get("/events")
async def events() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        while True:
            yield f"data: {os.getpid()}\n\n"
            await asyncio.sleep(1)

    return StreamingResponse(
        lines(), media_type="text/event-stream"
    )  # in progress while the client is connected


@app.websocket("/echo/{room}")
async def echo(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{room}: {text}")
