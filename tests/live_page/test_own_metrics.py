"""Own metrics with unusual values and labels, and WebSockets."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.live_page.conftest import Pages
from tests.live_page.service import Service

Document = dict[str, Any]


def family(name: str, kind: str, series: list[Document], **members: Any) -> Document:
    return {
        "name": name,
        "type": kind,
        "help": "",
        "unit": "",
        "labels": ["item"],
        "total": None,
        "buckets": None,
        "left_out": 0,
        **members,
        "series": series,
    }


def open_family(pages: Pages, service: Service, described: Document, **options: Any) -> Page:
    """Open the own metrics of a service that has one family, and wait for the second snapshot."""

    def change(document: Document) -> None:
        document["own"] = [described]

    service.change = change
    page = pages.open(service.url + "#/metrics", **options)
    expect(card(page).locator(".finding")).not_to_contain_text("next snapshot")
    return page


def card(page: Page) -> Locator:
    return page.locator("main section").first


def test_label_without_spaces_does_not_widen_the_page(pages: Pages, service: Service) -> None:
    series = [{"labels": ["x" * 300], "value": 4}, {"labels": [""], "value": 2}]
    described = family("shop_things", "gauge", series)

    page = open_family(pages, service, described, viewport={"width": 390, "height": 800})

    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert re.search("x{40,60}…", card(page).locator(".u-legend").inner_text())
    expect(card(page).locator(".table").get_by_role("rowheader", name="(empty)")).to_be_visible()


def test_gauge_below_zero_is_in_the_chart(pages: Pages, service: Service) -> None:
    page = open_family(pages, service, family("outside_celsius", "gauge", [{"labels": ["x"], "value": -7.5}]))
    line = card(page).locator(".u-over")
    expect(line).to_be_visible()

    painted = """(over) => {
        const canvas = over.parentElement.querySelector("canvas");
        const scale = canvas.width / canvas.clientWidth;
        const [left, top] = [over.offsetLeft * scale, over.offsetTop * scale];
        const [width, height] = [over.offsetWidth * scale, over.offsetHeight * scale];
        const { data } = canvas.getContext("2d").getImageData(left, top, width, height);
        const found = new Set();
        for (let at = 0; at < data.length; at += 4) found.add(data.slice(at, at + 3).join());
        return found.has("47,95,179");
    }"""
    page.wait_for_function(f"(over) => ({painted})(over)", arg=line.element_handle())


def test_counter_states_the_rate_of_all_series(pages: Pages, service: Service) -> None:
    """Those that the chart and the snapshot leave out are in the sentence."""

    def change(document: Document) -> None:
        step = service.step
        series = [{"labels": [str(at)], "value": step * (30 - at)} for at in range(20)]
        total = step * 1000
        document["own"] = [family("shop_items_total", "counter", series, total=total, left_out=60)]

    service.change = change
    page = pages.open(service.url + "#/metrics")

    expect(card(page)).to_contain_text("200 per second now.")  # 1000 in 5 s
    expect(card(page)).to_contain_text("the 6 highest of 80")
    card(page).get_by_role("button", name="Show 20 rows").click()
    expect(card(page)).to_contain_text("60 more series have lower values.")


def test_timestamp_is_shown_as_time_since_then(pages: Pages, service: Service) -> None:
    def change(document: Document) -> None:
        series = [{"labels": ["x"], "value": document["time"] - 300}]
        document["own"] = [family("last_import_timestamp_seconds", "gauge", series, unit="seconds")]

    service.change = change
    page = pages.open(service.url + "#/metrics")

    expect(card(page)).to_contain_text("It was 5 min ago.")
    expect(card(page).locator(".table").get_by_role("cell", name="5 min ago")).to_be_visible()


def test_percentile_above_the_highest_bucket_is_not_stated_as_a_value(pages: Pages, service: Service) -> None:
    def change(document: Document) -> None:
        counts = [10 * service.step, 10 * service.step]
        series = [{"labels": ["x"], "count": sum(counts), "sum": 1.0, "counts": counts}]
        document["own"] = [family("order_euros", "histogram", series, buckets=[500, None])]

    service.change = change
    page = pages.open(service.url + "#/metrics")

    expect(card(page)).to_contain_text("5 % or more are greater than 500 now.")
    expect(card(page).locator(".u-legend")).to_contain_text("≥ 500")
    expect(card(page).locator(".table").get_by_role("cell", name="≥ 500")).to_be_visible()


def test_duration_above_the_highest_bucket_is_not_stated_as_a_value(pages: Pages, service: Service) -> None:
    def change(document: Document) -> None:
        for row in document["requests"]["routes"]:
            row["counts"] = [0] * (len(row["counts"]) - 1) + [sum(row["counts"])]

    service.change = change
    service.has_history = False
    page = pages.open(service.url)

    expect(page.locator("#duration")).to_contain_text("5 % or more took longer than 5 s now.")
    expect(page.locator(".figure", has_text="p95").first).to_contain_text("≥ 5 s")


def test_axis_of_a_single_point_is_near_its_time(pages: Pages, service: Service) -> None:
    service.has_history = False
    service.interval_seconds = 1.5
    page = pages.open(service.url)
    expect(page.locator("#requests .finding")).to_contain_text("per second now")

    # The canvas has the labels; the scale is what they are made of.
    legend = page.locator("#requests .u-legend")
    expect(legend).to_be_visible()
    text = page.evaluate(
        """() => new Promise((done) => {
            const paint = CanvasRenderingContext2D.prototype.fillText;
            const texts = [];
            CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
                texts.push(text);
                paint.call(this, text, ...rest);
            };
            const wait = () => (texts.length ? done(texts) : setTimeout(wait, 20));
            document.getElementById("window").dispatchEvent(new Event("change"));
            wait();
        })"""
    )
    assert "00:00:00" not in text


def websockets(step: int) -> Document:
    return {
        "buckets": [1, 60, None],
        "in_progress": 12,
        "routes": [
            {
                "route": "/chat/{room}",
                "codes": {"1000": 4 * step, "1011": step, "_rejected": 2 * step},
                "received": 50 * step,
                "sent": 100 * step,
                "seconds": 70.0 * step,
                "counts": [2 * step, 5 * step, 0],
            }
        ],
        "left_out": 0,
    }


def test_websockets_have_charts_and_a_table(pages: Pages, service: Service) -> None:
    service.change = lambda document: document.update(websockets=websockets(service.step))
    page = pages.open(service.url)

    expect(page.locator("#websockets")).to_contain_text("12 open now.")
    messages = page.get_by_role("region", name="WebSocket messages per second", exact=True)
    expect(messages).to_contain_text("10 received and 20 sent per second now.")
    row = page.get_by_role("table", name="WebSockets").get_by_role("row", name="/chat/{room}")
    expect(row).to_contain_text("10 s")  # 70 s of 7 connections
    expect(row.get_by_role("cell").last).to_have_text(re.compile(r"1000: \d+, 1011: \d+, _rejected: \d+"))


@pytest.mark.parametrize("requests", [True, False])
def test_websockets_appear_only_where_they_are_measured(
    pages: Pages, service: Service, *, requests: bool
) -> None:
    def change(document: Document) -> None:
        if not requests:
            document["requests"]["routes"] = []
            document["websockets"] = websockets(service.step)

    service.change = change
    service.has_history = requests
    page = pages.open(service.url)

    expect(page.get_by_role("table", name="WebSockets")).to_have_count(0 if requests else 1)
    expect(page.locator("main .empty.card")).to_be_hidden()


def test_refused_connections_of_other_programs_are_not_those_of_the_page(
    pages: Pages, service: Service
) -> None:
    """The kernel counts for all programs of the host, since it started."""
    service.change = lambda document: document["server"].update(listen_overflows=525)
    page = pages.open(service.url + "#/workers")

    expect(page.locator("#sockets")).to_contain_text("The kernel refused no connection in the last")
    expect(page.locator("#sockets")).to_contain_text("525 connections to all programs")
