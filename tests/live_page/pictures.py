"""The pictures of the live page in the documentation: `make pictures` makes them from the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import sync_playwright

from tests.live_page.conftest import FLAGS, chromium
from tests.live_page.service import Service, serve

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
MAX_BYTES = 150_000


class Picture(NamedTuple):
    """A picture: its file, the section of the page, the size in pixels, and the colour scheme."""

    name: str
    section: str
    width: int
    height: int
    scheme: str


PICTURES = (
    Picture("live-light.png", "", 1280, 800, "light"),
    Picture("live-dark.png", "", 1280, 800, "dark"),
    Picture("live-routes.png", "@routes", 1280, 640, "light"),
    Picture("live-route.png", "route/GET%20%2Freviews", 1280, 640, "light"),
    Picture("live-phone.png", "", 390, 780, "dark"),
)


def main() -> None:
    """Make all pictures."""
    FOLDER.mkdir(exist_ok=True)
    service = Service(interval_seconds=600.0)
    service.holds = True
    with serve(service), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        for picture in PICTURES:
            options: dict[str, Any] = {"color_scheme": picture.scheme}
            context = browser.new_context(
                viewport={"width": picture.width, "height": picture.height},
                timezone_id="UTC",
                reduced_motion="reduce",
                **options,
            )
            page = context.new_page()
            page.goto(f"{service.url}#/{picture.section}")
            page.wait_for_selector("main canvas")
            page.wait_for_function("document.fonts.status === 'loaded'")
            page.evaluate(
                "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
            )
            # The outline of a card that a link led to is not part of the picture.
            page.evaluate("document.activeElement.blur()")
            path = FOLDER / picture.name
            page.screenshot(path=path)
            context.close()
            size = path.stat().st_size
            print(f"{path.relative_to(FOLDER.parents[1])}: {size} bytes")
            assert size < MAX_BYTES, f"{picture.name} has {size} bytes, more than {MAX_BYTES}"
        browser.close()


if __name__ == "__main__":
    main()
