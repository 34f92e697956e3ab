"""FastAPI, measured by each of the two calls that keep the application the same object."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from web_prom.asgi import PrometheusMiddleware


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    print("the application lives", flush=True)
    yield
    print("the application ends", flush=True)


async def answer(request: Any, error: Exception) -> Any:
    return PlainTextResponse("sorry", 503)


async def index() -> str:
    return "ok"


async def fail(name: str) -> None:
    raise ZeroDivisionError


app = FastAPI(lifespan=lifespan)
if os.environ.get("MEASURED_BY") == "install":
    PrometheusMiddleware.install(app)
else:
    app.add_middleware(PrometheusMiddleware)
app.add_exception_handler(Exception, answer)
app.add_api_route("/", index)
app.add_api_route("/error/{name}", fail)
