"""The shop in FastAPI, measured by web-prom.

From the directory above this one, with a directory that the workers share::

    PROMETHEUS_MULTIPROC_DIR=$(mktemp -d) uvicorn --app-dir examples --workers 4 fastapi_shop:app

``PrometheusMiddleware.install(app)`` is all that web-prom needs to measure requests. PROM_DATABASE adds the
database. ORDERS and the others are the shop's own metrics, from metrics.py.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from metrics import CHECKOUTS, ORDER_EUROS, ORDERS, PAYMENT_SECONDS, PAYMENTS
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import StaticPool

from web_prom.asgi import PrometheusMiddleware

# SQLite in the memory of each worker.
engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)


class Base(DeclarativeBase):  # type: ignore[misc]
    """The table of the shop."""


class Product(Base):
    """A product with its price in euros."""

    __tablename__ = "products"

    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    euros: Mapped[int]


PRODUCTS = [
    {"number": 1, "name": "teapot", "euros": 39},
    {"number": 2, "name": "kettle", "euros": 59},
    {"number": 3, "name": "samovar", "euros": 240},
]


@asynccontextmanager
async def create_products(_app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(insert(Product), PRODUCTS)
    yield
    await engine.dispose()


app = FastAPI(lifespan=create_products)
PrometheusMiddleware.install(app, database=True)


@app.get("/")
async def index() -> str:
    return "Teapots, by FastAPI"


async def find_product(number: int) -> Product | None:
    async with AsyncSession(engine) as session:
        found: Product | None = await session.get(Product, number)
        return found


@app.get("/products/{number}")
async def product(number: int) -> dict[str, object]:
    found = await find_product(number)
    if found is None:
        raise HTTPException(404)
    return {"name": found.name, "euros": found.euros}


@app.post("/orders", status_code=201)
async def order(product: int, payment: str) -> str:
    found = await find_product(product)
    if found is None or payment not in PAYMENTS:
        raise HTTPException(400)  # checked before it becomes a label, because clients can send any value
    # A `with` block times what is awaited inside it. A decorator of an async function would not.
    with CHECKOUTS.track_inprogress(), PAYMENT_SECONDS.time():
        await asyncio.sleep(0.005)  # the payment provider
    ORDERS.labels(payment).inc()
    ORDER_EUROS.observe(found.euros)
    return "Thank you."
