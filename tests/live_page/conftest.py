"""A browser, and pages in it that may not have an error."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.live_page.service import Service, serve
from tests.programs import needs_program

PATIENCE_MS = 30_000
"""How long the page may take on a busy machine."""

READY = "main > div, main > .error:not([hidden])"
# Chromium uses only the last switch of this name, so the features that Playwright disables are here, too.
# The last three start two more renderers for each page: a spare one, and one for suggestions of addresses.
_DISABLED_FEATURES = (
    "AimEnabled",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "ThirdPartyStoragePartitioning",
    "SpareRendererForSitePerProcess",
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxPopup",
)
FLAGS = (
    f"--disable-features={','.join(_DISABLED_FEATURES)}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Return the path of the Chromium without a window, which takes a quarter less processor time."""
    return needs_program("chromium-headless-shell", package="chromium-headless-shell")


# Playwright keeps an event loop running in its thread, which tests with a loop of their own do not stand: no
# test of another module may come between.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium with an empty profile."""
    path = chromium()
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def service() -> Iterator[Service]:
    """Serve a live page whose numbers the test decides."""
    with serve(Service()) as served:
        yield served


class Pages:
    """Opens pages, and keeps what goes wrong in them.

    Attributes:
        problems: Messages of the console, exceptions, and violations of the Content-Security-Policy.
        expected: Parts of messages that are no problem.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._opened: list[Page] = []
        self.problems: list[str] = []
        self.expected: list[str] = []

    def open(self, url: str, *, has_clock: bool = False, ready: str = READY, **options: Any) -> Page:
        """Open an address in a new profile and return the page when it shows numbers or a problem.

        Args:
            url: The address.
            has_clock: Whether the test moves the page's clock.
            ready: The selector of what the page shows when it is ready.
            options: Of the profile, as Playwright's ``new_context`` takes them.
        """
        context = self._browser.new_context(timezone_id="UTC", **options)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        self._opened.append(page)
        page.on("console", self._keep)
        page.on("pageerror", lambda error: self.problems.append(f"{error.message} {error.stack}"))
        if has_clock:
            page.clock.install()
        page.goto(url)
        page.wait_for_selector(ready)
        return page

    def close(self) -> None:
        """Close the pages."""
        for page in self._opened:
            page.context.close()

    def _keep(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(each in message.text for each in self.expected):
            self.problems.append(message.text)


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    """Open pages. The test fails if the console of one of them has an error or a warning."""
    opened = Pages(browser)
    yield opened
    opened.close()
    assert not opened.problems


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the script of axe-core, which npm fetches."""
    folder = tmp_path_factory.mktemp("axe")
    npm = needs_program("npm", package="npm")
    packed = subprocess.run(
        [npm, "pack", "axe-core@4", "--silent"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert packed.returncode == 0, f"npm cannot fetch axe-core:\n{packed.stdout}{packed.stderr}"
    (archive,) = folder.glob("axe-core-*.tgz")
    shutil.unpack_archive(archive, folder)
    return (folder / "package" / "axe.min.js").read_text("utf-8")
