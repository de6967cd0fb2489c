"""pair.html in a real browser: the map shown and hidden, by mouse and by keyboard."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import PHONE, OpenPage, is_sideways, keep_image

from tllboost.classifier import PairClassifier, ensemble
from tllboost.demo import make_scenes
from tllboost.explain import explain, write_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect

TAG = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def pair_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Explain a pair with hostile names, by an ensemble with a fusion."""
    folder = tmp_path_factory.mktemp("explained")
    scenes = make_scenes(folder / "scenes", n_scenes=40, n_views=2, size=96).parent
    store = folder / "store"
    X = [[scenes / f"scene_{i:04d}_{v}.jpg" for v in (0, 1)] for i in range(1, 25)]
    cells = [
        PairClassifier(name, head="cosine", validation_fraction=0.3, store=store)
        .fit(X, [1] * len(X))
        .cells_[0]
        for name in ("classic+pixels", "pixels?size=8")
    ]
    left = shutil.copy(scenes / "scene_0001_0.jpg", folder / f"{TAG}left.jpg")
    right = shutil.copy(scenes / "scene_0001_1.jpg", folder / "&amp; \u200bright.jpg")
    found = explain(ensemble(cells, store=store), left, right)
    bundle = folder / "</script><b>run" / "best.tllb"
    return write_page(found, folder / "pair.html", bundle=bundle)


@pytest.fixture
def page(pair_page: Path, open_page: OpenPage) -> Page:
    return open_page(pair_page)


def test_the_page_has_every_part(page: Page) -> None:
    keep_image(page, "pair-desktop")
    titles = [text.strip() for text in page.locator("h2").all_text_contents()]
    assert titles == [
        "Where the score comes from",
        "What each vectorizer adds",
        "What each member says",
        "How to read this",
    ]
    expect(page.locator("h1")).to_contain_text("probability")
    # Beside an image in its own colours stands its map, as large as it.
    assert page.locator(".map rect").count() == 2 * 64
    for figure in page.locator(".pair figure").all():
        image, beside = (figure.locator(one).bounding_box() for one in ("img", ".map"))
        assert image["x"] + image["width"] <= beside["x"]
        assert image["height"] == pytest.approx(beside["height"], abs=2)
    veil = "one => getComputedStyle(one).filter + getComputedStyle(one).opacity"
    assert set(page.locator(".stage img").evaluate_all(f"all => all.map({veil})")) == {
        "none1"
    }
    outlines = page.locator(".marks rect").evaluate_all(
        "all => all.map(one => getComputedStyle(one).fill)"
    )
    assert set(outlines) == {"none"}
    assert page.locator("img").count() == 2
    assert page.locator("img:not([alt])").count() == 0
    assert page.evaluate(
        "[...document.images].every(one => one.complete && one.naturalWidth > 0)"
    )


def test_the_map_is_shown_and_hidden_by_box_and_key(page: Page) -> None:
    maps = page.locator(".map")
    expect(maps.first).to_be_visible()
    page.get_by_label("Show the map").click()
    expect(maps.first).to_be_hidden()
    expect(maps.last).to_be_hidden()
    expect(page.locator(".marks").first).to_be_hidden()
    page.keyboard.press("m")
    expect(maps.last).to_be_visible()
    expect(page.get_by_label("Show the map")).to_be_checked()


def test_the_keyboard_alone_toggles_the_map_and_lights_patches(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "show-map"
    page.keyboard.press("Space")
    expect(page.locator(".map").first).to_be_hidden()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    name = page.evaluate("document.activeElement.dataset.patch")
    looked, lit = page.locator("rect.looked"), page.locator(".marks .lit:visible")
    expect(looked).to_have_count(1)
    assert looked.get_attribute("data-patch") == name
    # In the map and, at the same place, in the image.
    expect(lit).to_have_count(1)
    for side in ("x", "y", "width", "height"):
        assert lit.get_attribute(side) == looked.get_attribute(side)
    page.keyboard.press("Tab")
    expect(looked).to_have_count(1)
    assert looked.get_attribute("data-patch") != name
    page.locator(".map rect").nth(100).hover()
    expect(looked).to_have_count(2)


def test_the_map_can_be_read_without_colour(page: Page) -> None:
    words = page.locator(".patches li").all_text_contents()
    assert len(words) == 10
    for text in words:
        assert ("−" in text) == text.endswith("speaks for")
        assert ("+" in text) == text.endswith("speaks against")
    # Numbers run as one reads: from the top down, and from left to right.
    for where in (".map", ".marks"):
        places = page.locator(f"{where} text").evaluate_all(
            "all => all.map(one => ['y', 'x'].map(key => +one.getAttribute(key)))"
        )
        assert page.locator(f"{where} text").all_text_contents() == [*"12345" * 2]
        assert [places[:5], places[5:]] == [sorted(places[:5]), sorted(places[5:])]
    assert page.locator(".legend").inner_text().startswith("against a match (+")
    page.locator("summary").first.click()
    assert page.locator("details[open] td.number").count() == 64


def test_names_are_shown_as_text(page: Page) -> None:
    expect(page.locator("figcaption").first).to_contain_text(f"{TAG}left.jpg")
    expect(page.locator("dl")).to_contain_text("</script><b>run/best.tllb")
    assert page.locator("dl b").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_to_the_side(
    pair_page: Path, open_page: OpenPage, scheme: str
) -> None:
    page = open_page(pair_page, size=PHONE, scheme=scheme)
    keep_image(page, f"pair-phone-{scheme}")
    for summary in page.locator("summary").all():
        summary.click()
    assert not is_sideways(page)
