"""The shop in FastAPI, measured by web-prom.

From the directory above this one, with a directory that the workers share::

    PROMETHEUS_MULTIPROC_DIR=$(mktemp -d) uvicorn --app-dir examples --workers 4 fastapi_shop:app

``PrometheusMiddleware.install(app)`` is all that web-prom needs. ORDERS and the others are the shop's own
metrics, from metrics.py.
"""

import asyncio

from fastapi import FastAPI, HTTPException
from metrics import CHECKOUTS, ORDER_EUROS, ORDERS, PAYMENT_SECONDS, PAYMENTS

from web_prom.asgi import PrometheusMiddleware

PRODUCTS = {1: ("teapot", 39), 2: ("kettle", 59), 3: ("samovar", 240)}

app = FastAPI()
PrometheusMiddleware.install(app)


@app.get("/")
async def index() -> str:
    return "Teapots, by FastAPI"


@app.get("/products/{number}")
async def product(number: int) -> dict[str, object]:
    if number not in PRODUCTS:
        raise HTTPException(404)
    name, euros = PRODUCTS[number]
    return {"name": name, "euros": euros}


@app.post("/orders", status_code=201)
async def order(product: int, payment: str) -> str:
    if product not in PRODUCTS or payment not in PAYMENTS:
        raise HTTPException(400)  # checked before it becomes a label, because clients can send any value
    # A `with` block times what is awaited inside it. A decorator of an async function would not.
    with CHECKOUTS.track_inprogress(), PAYMENT_SECONDS.time():
        await asyncio.sleep(0.005)  # the payment provider
    ORDERS.labels(payment).inc()
    ORDER_EUROS.observe(PRODUCTS[product][1])
    return "Thank you."
