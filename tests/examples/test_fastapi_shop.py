"""The shop in FastAPI: its requests, its orders and the queries of its database are measured."""

from __future__ import annotations

from tests.examples.demo_process import EXAMPLES
from tests.web_prom.support import python

VISIT = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
from fastapi_shop import app
from starlette.testclient import TestClient
with TestClient(app) as client:
    assert client.get("/products/1").json() == {{"name": "teapot", "euros": 39}}
    assert client.get("/products/9").status_code == 404
    assert client.post("/orders?product=3&payment=card").status_code == 201
    assert client.post("/orders?product=3&payment=shells").status_code == 400
    print(client.get("/metrics").text)
"""


def test_fastapi_shop_measures_requests_orders_and_queries() -> None:
    """Each request of a product sends one query."""
    lines = python(VISIT).splitlines()
    for line in (
        'http_requests_total{method="GET",route="/products/{number}",status="200"} 1.0',
        'http_requests_total{method="GET",route="/products/{number}",status="404"} 1.0',
        'http_request_db_queries_total{method="GET",route="/products/{number}"} 2.0',
        'http_request_db_queries_total{method="POST",route="/orders"} 2.0',
        'shop_orders_total{payment="card"} 1.0',
        "shop_order_euros_sum 240.0",
    ):
        assert line in lines, lines
