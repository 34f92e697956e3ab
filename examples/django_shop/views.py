"""The shop's pages: the same as in flask_shop.py, for Django. ORDERS and the others are from metrics.py."""

import time
from collections.abc import Iterator
from pathlib import Path

from django.core.cache import cache
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from metrics import CHECKOUTS, ORDER_EUROS, ORDERS, PAYMENT_SECONDS, PAYMENTS

from django_shop.models import Product

SOLD_OUT = {"3"}
CATALOGUE = Path(__file__).parent.with_name("catalogue.csv")


class SoldOutError(Exception):
    """The product is sold out."""


def index(_request: HttpRequest) -> HttpResponse:
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
    items = "".join(f'<p><a href="{link}">{link}</a></p>' for link in links)
    return HttpResponse("<h1>Teapots, by Django</h1>" + items)


def product(_request: HttpRequest, number: int) -> HttpResponse:
    found = cache.get(f"product {number}")
    if found is None:
        found = Product.objects.filter(id=number).values("name", "euros").first()
        if found is None:
            raise Http404
        cache.set(f"product {number}", found)
    return JsonResponse(found)


def reviews(_request: HttpRequest) -> JsonResponse:
    # A fault: a query for each product. Product.objects.prefetch_related("reviews") would take two queries.
    products = Product.objects.all()
    texts = [f"{product.name}: {review.text}" for product in products for review in product.reviews.all()]
    return JsonResponse(texts, safe=False)


def order(request: HttpRequest) -> HttpResponse:
    number, payment = request.POST.get("product"), request.POST.get("payment")
    found = Product.objects.filter(id=number).first() if str(number).isdigit() else None
    if found is None or payment not in PAYMENTS:
        return HttpResponse(
            status=400
        )  # checked before it becomes a label, because clients can send any value
    try:
        check_out(str(number))
    except SoldOutError:
        return HttpResponse("Sold out.\n", status=409)
    ORDERS.labels(payment).inc()
    ORDER_EUROS.observe(found.euros)
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
