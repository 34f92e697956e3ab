"""What the page shows when the service restarts, fails, is silent, or has nothing to show."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.live_page.conftest import Pages
from tests.live_page.service import Service

MINUTE_MS = 60_000


def test_page_states_that_counters_began_again_at_zero(pages: Pages, service: Service) -> None:
    page = pages.open(service.url)
    service.started = service.step

    expect(page.get_by_role("status").filter(has_text="its counters began at zero")).to_be_visible()

    cells = page.get_by_role("table", name="Routes").locator("td").all_inner_texts()
    assert not [cell for cell in cells if re.match(r"-\d", cell)]
    # 55.8 requests per second before and after: the restart is no gap and no peak.
    highest = page.get_by_role("img").first.get_attribute("aria-label") or ""
    assert re.search(r"the highest was 9\d(\.\d)?\.", highest), highest


def test_page_counts_the_restarts_of_workers(pages: Pages, service: Service) -> None:
    page = pages.open(service.url + "#/workers")
    service.started = service.step

    rows = page.get_by_role("table", name="Workers").locator("tbody tr")
    for at in range(4):
        expect(rows.nth(at).locator("td").last).to_have_text("1")


def test_page_does_not_ask_while_nobody_looks(pages: Pages, service: Service) -> None:
    service.interval_seconds = 20.0  # otherwise the page may be reading a snapshot at any time
    page = pages.open(service.url, has_clock=True)
    asked = _requests_of(page)
    _set_hidden(page, True)
    before = len(asked)

    page.clock.run_for(10 * MINUTE_MS)

    assert not asked[before:]
    with page.expect_response(re.compile("snapshot")):
        _set_hidden(page, False)
    assert asked[before:] == ["history", "snapshot"]  # what the page has missed


def test_page_does_not_ask_while_it_is_paused(pages: Pages, service: Service) -> None:
    service.interval_seconds = 20.0
    page = pages.open(service.url, has_clock=True)
    asked = _requests_of(page)
    pause = page.get_by_role("button", name="Pause")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    before = len(asked)

    page.clock.run_for(MINUTE_MS)

    assert not asked[before:]
    expect(page.locator("#state")).to_have_text(re.compile(r"paused, \d+ s old"))
    with page.expect_response(re.compile("snapshot")):
        pause.click()
    expect(page.locator("#state")).to_have_text("live")


@pytest.mark.parametrize(
    ("status", "reason", "sentence"),
    [
        (
            "502 Bad Gateway",
            "http://shop/metrics gave no answer in 5 s",
            "http://shop/metrics gave no answer in 5 s",
        ),
        ("401 Unauthorized", "", "no longer allows this page"),
    ],
)
def test_page_states_a_failure_and_recovers(
    pages: Pages, service: Service, status: str, reason: str, sentence: str
) -> None:
    pages.expected.append("Failed to load resource")
    page = pages.open(service.url)
    service.fail(status, reason)

    alert = page.get_by_role("alert").filter(has_text=sentence)
    expect(alert).to_contain_text("The numbers below are those of 09:1")
    expect(page.get_by_role("table", name="Routes")).to_be_visible()
    service.refusal = None

    expect(alert).to_be_hidden()
    expect(page.locator("#state")).to_have_text("live")


def test_page_reads_its_numbers_if_its_address_has_a_password(pages: Pages, service: Service) -> None:
    """A browser refuses to fetch an address that has a password."""
    page = pages.open(service.url.replace("://", "://operator:secret@"))
    expect(page.locator(".error")).to_be_hidden()
    expect(page.locator(".figures")).to_be_visible()


def test_sign_in_sends_a_token_of_any_letters_in_utf_8(pages: Pages, service: Service) -> None:
    pages.expected.append("Failed to load resource")
    service.fail("401 Unauthorized", "no\n")
    service.may_sign_in = True
    page = pages.open(service.url, ready="#token")
    page.get_by_label("Token").fill("secretà€")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("status")).to_have_text("The service does not accept this token.")

    assert service.given.encode("latin-1").decode() == "Bearer secretà€"


def test_page_states_that_the_service_cannot_be_reached(pages: Pages, service: Service) -> None:
    pages.expected.append("Failed to load resource")
    page = pages.open(service.url)
    page.context.set_offline(True)

    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached.")
    page.context.set_offline(False)

    expect(page.get_by_role("alert")).to_be_hidden()


def test_page_does_not_read_another_version(pages: Pages, service: Service) -> None:
    service.change = lambda document: document.update(version=2)

    page = pages.open(service.url)

    expect(page.get_by_role("alert")).to_contain_text("speaks version 2 of the snapshot")


def test_page_states_that_the_service_has_another_release(pages: Pages, service: Service) -> None:
    page = pages.open(service.url)
    service.change = lambda document: document.update(web_prom="0.2.0")

    expect(page.get_by_text("The service now runs web-prom 0.2.0.")).to_be_visible()


def test_page_states_that_no_request_was_measured(pages: Pages, service: Service) -> None:
    service.has_history = False
    service.change = lambda document: document["requests"].update(routes=[])

    page = pages.open(service.url)

    expect(page.get_by_text("No request was measured yet.")).to_be_visible()


def test_page_states_what_another_exporter_does_not_measure(pages: Pages, service: Service) -> None:
    def change(document: dict[str, Any]) -> None:
        lists = ("workers", "databases", "pools", "caches", "calls", "checks", "verdicts")
        document.update({name: [] for name in lists}, queue_time=None)
        document["requests"] = {"buckets": [None], "in_progress": 0, "routes": [], "left_out": 0}
        document["server"] = {"listeners": [], "listen_overflows": None}

    service.has_history = False
    service.change = change
    page = pages.open(service.url)

    expect(page.get_by_text("The service has no metrics of HTTP requests")).to_be_visible()
    for section, sentence in {
        "Workers": "The service tells nothing about its processes.",
        "Inside requests": "PROM_DATABASE switches it on.",
        "Set-up": "The service checks nothing",
    }.items():
        page.get_by_role("link", name=section).click()
        expect(page.get_by_text(sentence).first).to_be_visible()


def test_page_states_that_the_capacity_is_not_known(pages: Pages, service: Service) -> None:
    def change(document: dict[str, Any]) -> None:
        for worker in document["workers"]:
            worker["capacity"] = None

    service.has_history = False
    service.change = change

    page = pages.open(service.url)

    expect(page.get_by_text("set PROM_WORKER_CAPACITY")).to_be_visible()


def test_page_shows_text_of_clients_as_text(pages: Pages, service: Service) -> None:
    def change(document: dict[str, Any]) -> None:
        document["title"] = "<img src=x onerror=alert(1)>"
        document["requests"]["routes"][0]["route"] = "/<b>%E0%A4%A"

    service.change = change
    page = pages.open(service.url)
    page.get_by_role("link", name="/<b>%E0%A4%A").click()

    expect(page.get_by_role("heading", name="GET /<b>%E0%A4%A")).to_be_visible()
    expect(page.get_by_role("heading", name="<img src=x")).to_be_visible()


def _requests_of(page: Page) -> list[str]:
    """Return a list to which each request that the page starts from now on is added.

    The service learns of a request later: one that it sees after a pause may have been sent before the pause.
    """
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[-1].partition(".")[0]))
    return asked


def _set_hidden(page: Page, is_hidden: bool) -> None:
    """Have the page believe that its tab is in the background. A headless browser has only one in front."""
    page.evaluate(
        """(isHidden) => {
            Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )
