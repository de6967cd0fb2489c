"""A real browser for the tests that look at pages: Debian's Chromium, headless.

`open_page` opens a file as a user would and, when the test is over, holds the page to
what every page promises: no error in its console, no request to any network.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = [
    "ARGUMENTS",
    "DESKTOP",
    "PHONE",
    "OpenPage",
    "chromium",
    "find_chromium",
    "is_sideways",
    "keep_image",
    "open_page",
    "tab",
]

DESKTOP, PHONE = (1280, 900), (360, 740)
SCREENSHOTS = "TLLBOOST_SCREENSHOTS"
"""Environment variable: a folder that images of the pages are written to."""
_NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE_MS = 15_000

OpenPage = Callable[..., "Page"]


def find_chromium() -> str | None:
    """Return where a Chromium lies, or None."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Chromium with a profile of its own, which is thrown away."""
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium, not there: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="needs pip's playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=list(ARGUMENTS)
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def tab(chromium: Browser) -> Page:
    """The one tab of all tests: a new one costs more than most of them."""
    page = chromium.new_context(reduced_motion="reduce").new_page()
    page.set_default_timeout(_PATIENCE_MS)
    return page


@pytest.fixture
def open_page(tab: Page) -> Iterator[OpenPage]:
    """Open a file: ``open_page(path, size=DESKTOP, scheme="light")``."""
    asked: list[str] = []
    wrong: list[str] = []
    listeners: dict[str, Callable[[Any], None]] = {
        "request": lambda request: asked.append(request.url),
        "pageerror": lambda error: wrong.append(str(error)),
        "console": lambda said: wrong.append(f"{said.type}: {said.text}"),
        "dialog": lambda dialog: wrong.append(f"dialog: {dialog.message}"),
    }

    def open_file(
        path: Path, *, size: tuple[int, int] = DESKTOP, scheme: str = "light"
    ) -> Page:
        tab.set_viewport_size({"width": size[0], "height": size[1]})
        tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        tab.goto(path.resolve().as_uri())
        return tab

    for event, listener in listeners.items():
        tab.on(event, listener)  # type: ignore[call-overload]
    yield open_file
    # What the page still does is of this test, and the next finds it as it was opened.
    tab.goto("about:blank")
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert not wrong
    assert not [url for url in asked if not url.startswith(("file:", "data:", "about"))]


def is_sideways(page: Page) -> bool:
    """Return whether the page itself scrolls to the side."""
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    return bool(page.evaluate(wide))


def keep_image(page: Page, name: str) -> None:
    """Keep what the page looks like, where someone asked for it."""
    if folder := os.environ.get(SCREENSHOTS):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")
