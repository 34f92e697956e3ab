"""axe-core finds nothing against WCAG 2.2 AA, in light and dark and on a phone."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.live_page.conftest import Pages
from tests.live_page.service import Service
from web_prom.exposition.http import text_response

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1400, "height": 900}},
    "dark phone": {"color_scheme": "dark", "viewport": {"width": 390, "height": 800}},
}
# axe also reports what it finds no fault with: that is a hundred times as much.
RUN = """(tags) => axe.run({ runOnly: tags, resultTypes: ["violations"] })
    .then(({ violations }) => violations)"""
SECTIONS = ("Workers", "Inside requests", "Own metrics", "Set-up", "Overview")


@pytest.mark.parametrize("look", LOOKS)
def test_page_has_no_finding_of_axe(pages: Pages, service: Service, axe: str, look: str) -> None:
    service.interval_seconds = 5.0  # axe takes a while
    page = pages.open(service.url, reduced_motion="reduce", **LOOKS[look])
    page.evaluate(axe)
    findings = []
    for section in SECTIONS:
        link = page.get_by_role("link", name=section, exact=True)
        link.click()
        expect(link).to_have_attribute("aria-current", "page")
        for summary in page.locator("summary").all():
            summary.click()
        found = page.evaluate(RUN, TAGS)
        findings += [
            (section, violation["id"], [node["html"][:200] for node in violation["nodes"]][:3])
            for violation in found
        ]

    assert findings == []


def test_sign_in_has_no_finding_of_axe(pages: Pages, service: Service, axe: str) -> None:
    pages.expected.append("Failed to load resource")
    service.refusal = text_response("401 Unauthorized", "no\n")
    service.may_sign_in = True
    page = pages.open(service.url, color_scheme="dark", ready="#token")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("status")).to_have_text("The service does not accept this token.")
    page.evaluate(axe)

    found = page.evaluate(RUN, TAGS)

    assert [violation["id"] for violation in found] == []
