"""What a reader does on the page: sort, filter, follow links, go back."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.live_page.conftest import Pages
from tests.live_page.service import Service


def routes(page: Page) -> Locator:
    return page.get_by_role("table", name="Routes")


def first_cells(page: Page) -> list[str]:
    return [text.split()[-1] for text in routes(page).locator("tbody th").all_inner_texts()]


def wait_for_polls(page: Page, service: Service, number: int = 2) -> None:
    """Wait until the page has read a number of snapshots more."""
    wanted = service.step + number
    while service.step < wanted:
        with page.expect_response(re.compile("snapshot")):
            pass


def test_page_table_sorts_by_each_column_with_the_keyboard(pages: Pages, service: Service) -> None:
    page = pages.open(service.url)
    assert first_cells(page)[0] == "/search"  # the most time
    button = routes(page).get_by_role("button", name="Requests/s")
    button.focus()

    page.keyboard.press("Enter")
    expect(routes(page).locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    most_first = first_cells(page)
    page.keyboard.press("Enter")
    expect(routes(page).locator("th[aria-sort]")).to_have_attribute("aria-sort", "ascending")

    assert most_first[:2] == ["/products/<int:number>", "/"]
    assert first_cells(page) == most_first[::-1]
    expect(button).to_be_focused()


def test_page_filter_stays_while_snapshots_come(pages: Pages, service: Service) -> None:
    page = pages.open(service.url)
    page.get_by_role("searchbox", name="Filter routes").fill("ORD")
    expect(routes(page).locator("tbody tr")).to_have_count(1)

    wait_for_polls(page, service)

    assert first_cells(page) == ["/orders"]
    page.get_by_role("searchbox").fill("no such route")
    expect(page.locator("#routes").get_by_text("No row contains this text.")).to_be_visible()


def test_page_keeps_the_focus_while_snapshots_come(pages: Pages, service: Service) -> None:
    page = pages.open(service.url)
    routes(page).get_by_role("link", name="/reviews").focus()

    wait_for_polls(page, service)

    expect(routes(page).get_by_role("link", name="/reviews")).to_be_focused()


def test_page_route_opens_with_its_history_and_goes_back(pages: Pages, service: Service) -> None:
    service.holds = True
    page = pages.open(service.url)
    routes(page).get_by_role("link", name="/orders").click()

    expect(page.get_by_role("heading", name="POST /orders")).to_be_visible()
    expect(page.get_by_role("main")).to_be_focused()
    expect(page.locator("main canvas")).to_have_count(2)
    expect(page.get_by_role("table", name="Exception")).to_contain_text("PaymentError")
    duration = page.get_by_role("region", name="Duration", exact=True)
    duration.get_by_text("Numbers").click()
    expect(
        duration.get_by_role("row").nth(10)
    ).to_be_visible()  # one for each minute before the page was open
    page.go_back()

    expect(routes(page)).to_be_visible()


def test_page_verdict_leads_to_its_numbers(pages: Pages, service: Service) -> None:
    page = pages.open(service.url + "#/setup")
    page.get_by_role("link", name="Overview").click()

    page.get_by_role("link", name="Show queue time").click()

    waiting = page.get_by_role("region", name="Waiting")
    expect(waiting).to_be_focused()
    expect(waiting).to_be_in_viewport()


def test_page_skip_link_stays_in_the_view(pages: Pages, service: Service) -> None:
    page = pages.open(service.url + "#/workers")
    page.keyboard.press("Tab")

    page.keyboard.press("Enter")

    expect(page.get_by_role("main")).to_be_focused()
    expect(page.get_by_role("link", name="Workers", exact=True)).to_have_attribute("aria-current", "page")


def test_page_charts_have_a_finding_and_the_same_numbers_as_a_table(pages: Pages, service: Service) -> None:
    service.holds = True
    page = pages.open(service.url)
    charts = page.get_by_role("img")
    sentences = [chart.get_attribute("aria-label") or "" for chart in charts.all()]

    for summary in page.locator("summary").all():
        summary.click()

    assert len(sentences) == 6
    assert all(re.fullmatch(r"[A-Z][a-z ]+\. .+\.", sentence) for sentence in sentences), sentences
    table = page.get_by_role("region", name="Numbers of Requests per second")
    expect(table.locator("tbody tr").first).to_be_visible()
    now = sum(float(text) for text in table.locator("tbody tr").first.locator("td").all_inner_texts())
    stated = re.search(r"([\d.]+) per second now", sentences[0])
    assert stated
    assert now == pytest.approx(float(stated[1]), abs=0.2)


def test_page_shows_own_metrics_by_their_type(pages: Pages, service: Service) -> None:
    page = pages.open(service.url + "#/metrics")
    wait_for_polls(page, service)
    kinds = {"shop_basket_euros": "p95", "shop_orders_total": "card", "shop_checkouts_in_progress": "all"}

    for name, series in kinds.items():
        expect(page.get_by_role("region", name=name, exact=True).first.locator(".u-legend")).to_contain_text(
            series
        )
    page.get_by_role("searchbox").fill("basket")

    expect(page.locator("main section")).to_have_count(1)


def test_page_shows_the_inside_of_requests(pages: Pages, service: Service) -> None:
    page = pages.open(service.url + "#/inside")
    wait_for_polls(page, service)

    expect(page.get_by_role("table", name="Database operations")).to_contain_text("IntegrityError")
    select = page.get_by_role("table", name="Database operations").get_by_role("row", name="SELECT")
    expect(select.get_by_role("cell").nth(2)).to_have_text("60")  # 300 in 5 s
    expect(page.get_by_role("table", name="Caches").get_by_role("row", name="get")).to_contain_text("96 %")


def test_page_window_selects_what_the_figures_are_of(pages: Pages, service: Service) -> None:
    page = pages.open(service.url)
    expect(page.locator(".figure").first).to_contain_text("the last 5 min")

    page.get_by_label("Window").select_option("1 min")

    expect(page.locator(".figure").first).to_contain_text("the last 60 s")
    expect(page.locator("#routes h2")).not_to_contain_text("min")


def test_page_fits_a_phone(pages: Pages, service: Service) -> None:
    page = pages.open(service.url, viewport={"width": 390, "height": 800})
    widths = {}

    for section in ("", "workers", "inside", "metrics", "setup", "route/GET%20%2Freviews"):
        page.evaluate("(section) => { location.hash = `#/${section}`; }", section)
        page.wait_for_function("(section) => document.querySelector('main > div')", arg=section)
        widths[section] = page.evaluate("document.documentElement.scrollWidth")

    assert set(widths.values()) == {390}, widths
