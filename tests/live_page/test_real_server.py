"""The page of a real gunicorn with several workers shows what /metrics says at the same moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.live_page.conftest import Pages
from tests.servers.process import Gunicorn, Scratch, scratch

ENVIRON = {"PROM_LIVE": "true", "PROM_ALLOWED_NETWORKS": "127.0.0.0/8", "PROM_WORKER_CAPACITY": "1"}


@pytest.fixture
def place() -> Iterator[Scratch]:
    with scratch() as made:
        yield made


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_page_agrees_with_metrics_of_all_workers(pages: Pages, place: Scratch) -> None:
    with Gunicorn(place, workers=4, environ=ENVIRON) as server:
        page = pages.open(f"http://127.0.0.1:{server.port}/live/#/workers")
        expect(page.get_by_role("table", name="Workers").locator("tbody tr")).to_have_count(4)
        for at in range(40):
            server.get(f"/items/{at % 4}")  # every fourth is a 404
        for _ in range(5):
            server.get("/error")
            server.get("/orders", "POST")

        page.goto(page.url.replace("workers", "route/GET%20%2Fitems%2F%3Cint%3Anumber%3E"))
        statuses = page.get_by_role("table", name="Status")
        for status, requests in (("200", "30"), ("404", "10")):
            expect(statuses.get_by_role("row", name=status).locator("td")).to_have_text(requests)
        shown = {
            row.locator("th").inner_text(): number(row.locator("td").inner_text())
            for row in statuses.locator("tbody tr").all()
        }
        route = {"method": "GET", "route": "/items/<int:number>"}
        measured = {
            status: server.value("http_requests_total", status=status, **route) for status in ("200", "404")
        }
        page.get_by_role("link", name="Own metrics").click()
        orders = page.get_by_role("table", name="shop_orders_total").locator("tbody td")
        expect(orders).to_have_text("5")

        assert shown == measured == {"200": 30, "404": 10}
        assert server.value("shop_orders_total") == 5
