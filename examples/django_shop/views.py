"""The shop's pages: the same as in flask_shop.py, for Django. ORDERS and the others are from metrics.py."""

import time
from collections.abc import Iterator
from pathlib import Path

from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from metrics import CHECKOUTS, ORDER_EUROS, ORDERS, PAYMENT_SECONDS, PAYMENTS

PRODUCTS = {"1": ("teapot", 39), "2": ("kettle", 59), "3": ("samovar", 240)}
SOLD_OUT = {"3"}
CATALOGUE = Path(__file__).parent.with_name("catalogue.csv")


class SoldOutError(Exception):
    """The product is sold out."""


def index(_request: HttpRequest) -> HttpResponse:
    links = ("/products/1", "/catalogue.csv", "/search", "/report", "/broken", "/no/such/page", "/metrics")
    items = "".join(f'<p><a href="{link}">{link}</a></p>' for link in links)
    return HttpResponse("<h1>Teapots, by Django</h1>" + items)


def product(_request: HttpRequest, number: int) -> HttpResponse:
    if str(number) not in PRODUCTS:
        raise Http404
    name, euros = PRODUCTS[str(number)]
    return JsonResponse({"name": name, "euros": euros})


def order(request: HttpRequest) -> HttpResponse:
    number, payment = request.POST.get("product"), request.POST.get("payment")
    if number not in PRODUCTS or payment not in PAYMENTS:
        return HttpResponse(
            status=400
        )  # checked before it becomes a label, because clients can send any value
    try:
        check_out(number)
    except SoldOutError:
        return HttpResponse("Sold out.\n", status=409)
    ORDERS.labels(payment).inc()
    ORDER_EUROS.observe(PRODUCTS[number][1])
    return HttpResponse("Thank you.\n", status=201)


def check_out(number: str) -> None:
    if number in SOLD_OUT:
        raise SoldOutError
    with CHECKOUTS.track_inprogress(), PAYMENT_SECONDS.time():
        time.sleep(0.005)  # the payment provider


def search(_request: HttpRequest) -> HttpResponse:
    time.sleep(0.2)  # a slow query
    return HttpResponse("Nothing found.\n")


def report(_request: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        for month in ("January", "February", "March"):
            time.sleep(0.1)
            yield f"{month},0\n"

    return StreamingHttpResponse(lines(), content_type="text/csv")  # measured until its last line


def catalogue(_request: HttpRequest) -> FileResponse:
    return FileResponse(CATALOGUE.open("rb"))


def broken(_request: HttpRequest) -> HttpResponse:
    raise RuntimeError("this page is broken, to show how it is measured")
