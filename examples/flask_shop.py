"""A small shop in Flask, measured by web-prom.

From the directory above this one::

    gunicorn --config python:web_prom.gunicorn --workers 2 --chdir examples flask_shop:app

``FlaskProm(app)`` is all that web-prom needs to measure requests. PROM_DATABASE and PROM_CACHE add the
database and the cache. ORDERS and the others are the shop's own, from metrics.py.
"""

import time
from collections.abc import Iterator

from flask import Flask, Response, abort, request, send_file
from flask_caching import Cache
from flask_shop_data import ProductPage, create_products, find_product, find_reviews
from metrics import CHECKOUTS, ORDER_EUROS, ORDERS, PAYMENT_SECONDS, PAYMENTS

from flask_prom import FlaskProm

SOLD_OUT = {3}

create_products()
app = Flask(__name__)
app.config.update(PROM_DATABASE=True, PROM_CACHE=True, CACHE_TYPE="SimpleCache")
cache = Cache(app)
prom = FlaskProm(app)


class SoldOutError(Exception):
    """The product is sold out."""


@app.errorhandler(SoldOutError)
def sold_out(_error: SoldOutError) -> tuple[str, int]:
    return "Sold out.\n", 409


@app.get("/")
def index() -> str:
    links = (
        "/products/1",
        "/reviews",
        "/catalogue.csv",
        "/search",
        "/report",
        "/broken",
        "/no/such/page",
        "/metrics",
    )
    return "<h1>Teapots, by Flask</h1>" + "".join(f'<p><a href="{link}">{link}</a></p>' for link in links)


@app.get("/products/<int:number>")
def product(number: int) -> ProductPage:
    found: ProductPage | None = cache.get(f"product {number}")
    if found is None:
        found = find_product(number) or abort(404)
        cache.set(f"product {number}", found)
    return found


@app.get("/reviews")
def reviews() -> list[str]:
    return find_reviews()  # a query for each product: the metrics show the repeated queries


@app.post("/orders")
def order() -> tuple[str, int]:
    number, payment = request.form.get("product", type=int), request.form.get("payment", "")
    found = find_product(number) if number else None
    if found is None or payment not in PAYMENTS:
        abort(400)  # checked before it becomes a label, because clients can send any value
    if number in SOLD_OUT:
        raise SoldOutError
    with CHECKOUTS.track_inprogress(), PAYMENT_SECONDS.time():
        time.sleep(0.005)  # the payment provider
    ORDERS.labels(payment).inc()
    ORDER_EUROS.observe(found["euros"])
    return "Thank you.\n", 201


@app.get("/search")
def search() -> str:
    time.sleep(0.2)  # a slow query
    return "Nothing found.\n"


@app.get("/report")
def report() -> Response:
    def lines() -> Iterator[str]:
        for month in ("January", "February", "March"):
            time.sleep(0.1)
            yield f"{month},0\n"

    return Response(lines(), mimetype="text/csv")  # measured until its last line


@app.get("/catalogue.csv")
def catalogue() -> Response:
    return send_file("catalogue.csv")


@app.get("/broken")
def broken() -> str:
    raise RuntimeError("this page is broken, to show how it is measured")


@app.get("/health")
@prom.exclude
def health() -> str:
    return "ok\n"
