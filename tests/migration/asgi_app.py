"""The FastAPI application of the comparisons, and its client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse

from tests.migration.traffic import SLOW_SECONDS, TRAFFIC

EXCLUDED = "/health"
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"]


def create_app() -> FastAPI:
    """Return an application that answers the traffic."""
    app = FastAPI()

    @app.api_route("/items/{item:int}", methods=["GET", "HEAD"], response_class=PlainTextResponse)
    async def item(item: int) -> str:
        if item == 404:
            raise HTTPException(404)
        return f"item {item}"

    @app.api_route("/items", methods=METHODS, response_class=PlainTextResponse)
    async def items(request: Request) -> str:
        return f"{len(await request.body())} bytes"

    @app.get("/error")
    async def error() -> str:
        raise ValueError("as intended")

    @app.get("/old")
    async def old() -> Any:
        return RedirectResponse("/items/1")

    @app.get("/stream")
    async def stream() -> Any:
        def chunks() -> Iterator[str]:
            yield "a"
            yield "b"

        return StreamingResponse(chunks())

    @app.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(SLOW_SECONDS)
        return "slow"

    @app.get(EXCLUDED)
    async def health() -> str:
        return "ok"

    return app


def send(app: Any) -> None:
    """Send the traffic to an application."""
    asyncio.run(_send(app))


async def _send(app: Any) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        for each in TRAFFIC:
            with suppress(ValueError):  # that of /error
                await client.request(each.method, each.path, content=each.body, headers=each.headers)
