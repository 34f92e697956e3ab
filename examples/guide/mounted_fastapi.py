"""Metrics on a route of a FastAPI application.

::

    uvicorn --port 8000 guide.mounted_fastapi:app
"""

from fastapi import FastAPI

from web_prom import make_asgi_app
from web_prom.asgi import PrometheusMiddleware

app = FastAPI()
PrometheusMiddleware.install(app, path="")  # measures, and answers no path itself
app.add_route("/internal/metrics", make_asgi_app())


@app.get("/teapots/{number}")
async def teapot(number: int) -> dict[str, int]:
    return {"teapot": number}
