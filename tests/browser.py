"""A real browser for the tests that look at pages: Debian's Chromium, headless.

`open_page` opens a file as a user would and, when the test is over, holds the page to
what every page promises: no error in its console, no request to any network.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Open a file: ``open_page(path, size=DESKTOP, scheme="light")``."""
    asked: list[str] = []
    wrong: list[str] = []
    contexts = []

    def open_file(
        path: Path, *, size: tuple[int, int] = DESKTOP, scheme: str = "light"
    ) -> Page:
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.set_default_timeout(_PATIENCE_MS)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(f"{said.type}: {said.text}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.goto(path.resolve().as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not wrong
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]


def is_sideways(page: Page) -> bool:
    """Return whether the page itself scrolls to the side."""
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    return bool(page.evaluate(wide))


def keep_image(page: Page, name: str) -> None:
    """Keep what the page looks like, where someone asked for it."""
    if folder := os.environ.get(SCREENSHOTS):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")
