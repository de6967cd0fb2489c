"""Take the README's images of a report: ``screenshots.py results/demo/report.html``.

Needs Debian's Chromium and pip's playwright, as the tests of pages do.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "images"
COLOURS = 256
PATIENCE_MS = 180_000  # a busy machine is no reason to give up
SHOWN = """() => [...document.images].every((one) => {
  const { top, bottom, width } = one.getBoundingClientRect();
  return !width || bottom < 0 || top > innerHeight || one.naturalWidth;
})"""

sys.path.insert(0, str(ROOT / "tests"))


class Shot(NamedTuple):
    """One image: what part of the page it begins with, and how it is looked at."""

    name: str
    part: str
    size: tuple[int, int]
    scheme: str = "light"


SHOTS = (
    Shot("report-top", "top", (1120, 1330)),
    Shot("report-images", "gallery", (1120, 900)),
    Shot("report-gain", "gain", (1120, 1330)),
    Shot("report-cell-dark", "cell", (1120, 1270), "dark"),
    Shot("report-phone-top", "top", (360, 740)),
    Shot("report-phone-images", "gallery", (360, 740), "dark"),
)


def main() -> None:
    """Write a PNG for each of SHOTS."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    from browser import ARGUMENTS, find_chromium
    from playwright.sync_api import sync_playwright

    arguments.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=list(ARGUMENTS)
        )
        for shot in SHOTS:
            path = arguments.out / f"{shot.name}.png"
            path.write_bytes(taken(browser, arguments.report, shot))
            print(f"{path}: {path.stat().st_size:,} bytes")
        browser.close()


def taken(browser: Browser, report: Path, shot: Shot) -> bytes:
    """Return a PNG of few colours: a third of the bytes, and no eye sees it."""
    context = browser.new_context(
        viewport={"width": shot.size[0], "height": shot.size[1]},
        color_scheme=shot.scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(report.resolve().as_uri())
    if shot.part != "top":
        page.evaluate("id => document.getElementById(id).scrollIntoView()", shot.part)
    page.wait_for_function(SHOWN)
    image = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    data = io.BytesIO()
    small.save(data, "PNG", optimize=True)
    return data.getvalue()


if __name__ == "__main__":
    main()
