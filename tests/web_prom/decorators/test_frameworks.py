"""Decorated views of FastAPI and Starlette."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import web_prom as prom
from tests.web_prom.support import errors, samples


class Item(BaseModel):
    """A body. Annotations that are strings name it."""

    name: str


def user_of(request: Request) -> str:
    """Return the user of a request."""
    return str(request.headers.get("x-user", ""))


def fetch(app: Any, method: str, path: str, **options: Any) -> Any:
    """Send a request, and return the response."""

    async def send() -> Any:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


def fastapi(registry: CollectorRegistry) -> FastAPI:
    """Return an application with decorated views."""
    app = FastAPI()
    labels = {
        "item": lambda item_id: item_id,
        "user": lambda user: user,
        "exception": prom.exception_type,
        "status": lambda response: response.status_code,
    }
    count = prom.count("views_total", "Views.", labels=labels, registry=registry)

    @app.get("/items/{item_id}")  # type: ignore[untyped-decorator]
    @count
    async def read(item_id: int, user: str = Depends(user_of)) -> dict[str, Any]:
        if item_id == 9:
            raise HTTPException(404)
        return {"item": item_id, "user": user}

    @app.post("/items/{item_id}")  # type: ignore[untyped-decorator]
    @count
    def write(item_id: int, item: Item, user: str = Depends(user_of)) -> Item:
        return item

    @prom.count("parts_total", "Parts.", registry=registry)
    async def parts() -> Any:
        yield b"a"
        yield b"b"

    @app.get("/stream")  # type: ignore[untyped-decorator]
    @prom.time("stream_seconds", "Stream.", registry=registry)
    async def stream() -> StreamingResponse:
        return StreamingResponse(parts())

    return app


def test_fastapi_injects_what_the_signature_asks_for(registry: CollectorRegistry) -> None:
    app = fastapi(registry)
    headers = {"X-User": "ann"}
    assert fetch(app, "GET", "/items/3", headers=headers).json() == {"item": 3, "user": "ann"}
    assert fetch(app, "GET", "/items/x").status_code == 422
    assert fetch(app, "GET", "/items/9").status_code == 404
    assert fetch(app, "POST", "/items/4", json={"name": "b"}, headers=headers).json() == {"name": "b"}
    assert fetch(app, "GET", "/stream").content == b"ab"
    assert samples(registry, "views_total", "item", "user", "exception", "status") == {
        ("3", "ann", "", ""): 1,
        ("9", "", "HTTPException", "404"): 1,
        ("4", "ann", "", ""): 1,
    }
    assert registry.get_sample_value("parts_total") == 1
    assert registry.get_sample_value("stream_seconds_count") == 1
    assert errors(registry) == {}
    assert set(fetch(app, "GET", "/openapi.json").json()["paths"]) == {"/items/{item_id}", "/stream"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_starlette_views_have_labels_by_request_and_response(
    method: str, registry: CollectorRegistry
) -> None:
    labels = {"method": lambda request: request.method, "status": lambda response: response.status_code}
    count = prom.count("views_total", "Views.", labels=labels, registry=registry)

    @count
    async def view(request: Any) -> Any:
        return PlainTextResponse("a", 201)

    class Endpoint(HTTPEndpoint):  # type: ignore[misc]
        @count
        async def get(self, request: Any) -> Any:
            return PlainTextResponse("b")

        @count
        def post(self, request: Any) -> Any:
            return PlainTextResponse("c")

    app = Starlette(routes=[Route("/", view, methods=[method]), Route("/class", Endpoint)])
    assert [fetch(app, method, path).status_code for path in ("/", "/class")] == [201, 200]
    assert samples(registry, "views_total", "method", "status") == {(method, "201"): 1, (method, "200"): 1}
