"""The site of the documentation: it builds without a warning, and is whole."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from guides import ROOT
from test_results import script

import tllboost

PAGES = sorted((ROOT / "docs").glob("*.md"))
CONFIG = SimpleNamespace(extra={"source": "https://code.example/tllboost"})
PAGE = SimpleNamespace(file=SimpleNamespace(src_uri="guide.md"))


class Loaded(HTMLParser):
    """Addresses of what a page loads by itself: scripts, styles, images, fonts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            named = dict(attrs)
            self.found += [named[key] or "" for key in ("src", "href") if key in named]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="needs the extra tllboost[docs]")
    pytest.importorskip("mkdocstrings_handlers.python")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_guide_and_every_public_name(site: Path) -> None:
    for page in PAGES:
        name = "index" if page.stem == "README" else page.stem
        assert (site / f"{name}.html").is_file(), name
    reference = (site / "api.html").read_text(encoding="utf-8")
    public = set(tllboost.__all__) - {"__version__"}
    anchors = set(re.findall(r'id="tllboost\.(\w+)"', reference))
    assert public <= anchors
    assert not re.search(r":(?:class|func|meth):<|path - like", reference)


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        parser = Loaded()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.found
        assert not [one for one in parser.found if re.match(r"(https?:)?//", one)]
    for style in site.glob("assets/stylesheets/*.css"):
        assert not re.search(r"url\(['\"]?https?:", style.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("link", "becomes", "warned"),
    [
        ("[a](../CHANGELOG.md)", "/blob/main/CHANGELOG.md)", False),
        ("[a](../README.md#licence)", "/blob/main/README.md#licence)", False),
        ("[a](../benchmarks/pocket)", "/tree/main/benchmarks/pocket)", False),
        ("[a](../nowhere.md)", "/blob/main/nowhere.md)", True),
    ],
)
def test_a_link_out_of_the_guides_becomes_an_address_or_a_warning(
    link: str, becomes: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning ends the build."""
    with caplog.at_level(logging.WARNING):
        made = script("site_hooks").on_page_markdown(link, page=PAGE, config=CONFIG)
    assert made == f"[a](https://code.example/tllboost{becomes}"
    assert bool(caplog.records) == warned
