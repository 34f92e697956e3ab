"""The products of the Flask shop and their reviews: SQLAlchemy, and SQLite in the memory of each worker.

SHOP_DATABASE can name another database, for example ``postgresql+psycopg://shop@127.0.0.1/shop``.
"""

from __future__ import annotations

import os
from typing import TypedDict

from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import QueuePool

IN_MEMORY = "sqlite:///file:shop?mode=memory&cache=shared&uri=true"
URL = os.environ.get("SHOP_DATABASE", IN_MEMORY)

NAMES = ("teapot", "kettle", "samovar", "tray", "cup", "saucer", "spoon", "strainer", "tin", "cosy")
EUROS = (39, 59, 240, 25, 12, 6, 4, 9, 15, 19)

# The connections share the database, which exists as long as one of them is open. Threads take turns in them.
_ANY_THREAD = {"check_same_thread": False} if URL == IN_MEMORY else {}
engine = create_engine(URL, poolclass=QueuePool, connect_args=_ANY_THREAD)


class ProductPage(TypedDict):
    """What the page of a product shows."""

    name: str
    euros: int


class Base(DeclarativeBase):  # type: ignore[misc]
    """The tables of the shop."""


class Product(Base):
    """A product with its price in euros."""

    __tablename__ = "products"

    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    euros: Mapped[int]
    reviews: Mapped[list[Review]] = relationship()


class Review(Base):
    """What a customer wrote about a product."""

    __tablename__ = "reviews"

    number: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[int] = mapped_column(ForeignKey("products.number"))
    text: Mapped[str]


def create_products() -> None:
    """Create the tables and the products, if the database has none."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        if session.scalar(select(Product).limit(1)) is None:
            for number, (name, euros) in enumerate(zip(NAMES, EUROS, strict=True), 1):
                review = Review(text=f"A good {name}.")
                session.add(Product(number=number, name=name, euros=euros, reviews=[review]))
            session.commit()


def find_product(number: int) -> ProductPage | None:
    """Return a product, or None: one query."""
    with Session(engine) as session:
        product = session.get(Product, number)
        return None if product is None else {"name": product.name, "euros": product.euros}


def find_reviews() -> list[str]:
    """Return all reviews, with a fault: one query for the products, and one more for the reviews of each.

    ``select(Product).options(selectinload(Product.reviews))`` would take two queries.
    """
    with Session(engine) as session:
        products = session.scalars(select(Product))
        return [f"{product.name}: {review.text}" for product in products for review in product.reviews]
