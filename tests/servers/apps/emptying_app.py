"""An ASGI application that empties the shared directory at its start, as prometheus_client advises."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from web_prom import make_asgi_app
from web_prom.asgi import PrometheusMiddleware


async def index(request: Any) -> Any:
    return PlainTextResponse(str(os.getpid()))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    for path in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("*.db"):
        path.unlink()
    yield


app = PrometheusMiddleware(
    Starlette(routes=[Route("/", index), Mount("/metrics", make_asgi_app())], lifespan=lifespan)
)
