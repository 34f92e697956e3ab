"""A small shop in Flask, measured by web-prom.

From the directory above this one::

    gunicorn --config python:web_prom.gunicorn --workers 2 --chdir examples flask_shop:app

``FlaskProm(app)`` is all that web-prom needs. ORDERS and the others are the shop's own, from metrics.py.
"""

import time
from collections.abc import Iterator

from flask import Flask, Response, abort, request, send_file
from metrics import CHECKOUTS, ORDER_EUROS, ORDERS, PAYMENT_SECONDS, PAYMENTS

from flask_prom import FlaskProm

PRODUCTS = {1: ("teapot", 39), 2: ("kettle", 59), 3: ("samovar", 240)}
SOLD_OUT = {3}

app = Flask(__name__)
prom = FlaskProm(app)


class SoldOutError(Exception):
    """The product is sold out."""


@app.errorhandler(SoldOutError)
def sold_out(_error: SoldOutError) -> tuple[str, int]:
    return "Sold out.\n", 409


@app.get("/")
def index() -> str:
    links = ("/products/1", "/catalogue.csv", "/search", "/report", "/broken", "/no/such/page", "/metrics")
    return "<h1>Teapots, by Flask</h1>" + "".join(f'<p><a href="{link}">{link}</a></p>' for link in links)


@app.get("/products/<int:number>")
def product(number: int) -> dict[str, object]:
    if number not in PRODUCTS:
        abort(404)
    name, euros = PRODUCTS[number]
    return {"name": name, "euros": euros}


@app.post("/orders")
def order() -> tuple[str, int]:
    number, payment = request.form.get("product", type=int), request.form.get("payment", "")
    if number not in PRODUCTS or payment not in PAYMENTS:
        abort(400)  # checked before it becomes a label, because clients can send any value
    if number in SOLD_OUT:
        raise SoldOutError
    with CHECKOUTS.track_inprogress(), PAYMENT_SECONDS.time():
        time.sleep(0.005)  # the payment provider
    ORDERS.labels(payment).inc()
    ORDER_EUROS.observe(PRODUCTS[number][1])
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
