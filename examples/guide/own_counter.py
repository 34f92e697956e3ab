"""A shop that counts its requests itself, with the same name as web-prom.

::

    uvicorn --port 8000 --lifespan on guide.own_counter:app              # does not start, and says why
    PROM_NAMESPACE=shop uvicorn --port 8000 guide.own_counter:app        # starts, and both count
"""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from prometheus_client import Counter

from web_prom.asgi import PrometheusMiddleware

REQUESTS = Counter("http_requests_total", "Requests, as the shop counts them.", ["method", "status"])

app = FastAPI()


@app.middleware("http")
async def count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    REQUESTS.labels(request.method, str(response.status_code)).inc()
    return response


PrometheusMiddleware.install(app)


@app.get("/")
async def index() -> str:
    return "Teapots, counted twice"
