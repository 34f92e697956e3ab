"""Starlette, measured by each of the two calls that keep the application the same object."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from web_prom.asgi import PrometheusMiddleware


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    print("the application lives", flush=True)
    yield
    print("the application ends", flush=True)


async def answer(request: Any, error: Exception) -> Any:
    return PlainTextResponse("sorry", 503)


async def index(request: Any) -> Any:
    return PlainTextResponse("ok")


async def fail(request: Any) -> Any:
    raise ZeroDivisionError


app = Starlette(routes=[Route("/", index), Route("/error/{name}", fail)], lifespan=lifespan)
if os.environ.get("MEASURED_BY") == "install":
    PrometheusMiddleware.install(app)
else:
    app.add_middleware(PrometheusMiddleware)
app.add_exception_handler(Exception, answer)
