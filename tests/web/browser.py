"""A real headless Chromium for the journeys: Debian's, driven through Playwright."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

if TYPE_CHECKING:
    from served import Served

AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium() -> str | None:
    """Where the browser is, None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def launched() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def context(browser: Browser, url: str, *, scheme: str = "light", width: int = 1440, height: int = 900) -> BrowserContext:
    made = browser.new_context(
        base_url=url, viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light", locale="en-GB",
        bypass_csp=False, reduced_motion="reduce",
    )  # fmt: skip
    made.set_default_timeout(15_000)
    return made


def violations(page: Page) -> list[str]:
    """What axe finds against WCAG A and AA, one line each."""
    page.evaluate(AXE.read_text() + "; null")
    found: dict[str, Any] = page.evaluate("() => axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})")
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: "
        + json.dumps([f"{' '.join(map(str, node['target']))} {node.get('failureSummary', '')[:300]}" for node in each["nodes"][:4]])
        for each in found["violations"]
    ]


def problems(served: Served, browser: Browser, places: Sequence[str], *, scheme: str, size: tuple[int, int]) -> list[str]:
    """What keeps somebody from using these pages on a screen of this size: what axe finds, and pages wider than the window."""
    if not AXE.exists():
        pytest.skip("axe is not installed: scripts/web.sh install")
    tab = context(browser, served.url, scheme=scheme, width=size[0], height=size[1])
    page = tab.new_page()
    page.goto(served.link())
    page.wait_for_url("**/home")
    found = []
    for place in places:
        page.goto(place)
        page.wait_for_load_state("networkidle")
        expect(page.locator("[aria-busy=true]")).to_have_count(0, timeout=30_000)
        found += [f"{place}: {each}" for each in violations(page)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{place} is wider than the window")
    tab.close()
    return found
