"""Borders of one colour are cut off, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from makers import noise
from PIL import Image, ImageOps

from tllboost.vectorizers.preprocess import trimmed


def bordered(colour: str, box: tuple[int, int, int, int]) -> Image.Image:
    return ImageOps.expand(noise(0, (80, 60)), box, colour)


@pytest.mark.parametrize("colour", ["black", "white", "teal"])
@pytest.mark.parametrize(
    "box", [(0, 9, 0, 9), (12, 0, 3, 0), (5, 0, 0, 0), (7, 8, 9, 10), (0, 0, 0, 0)]
)
def test_borders_are_cut_on_the_sides_that_have_one(
    colour: str, box: tuple[int, int, int, int]
) -> None:
    image = trimmed(bordered(colour, box))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(noise(0, (80, 60))))


def test_a_frame_in_a_frame_is_cut_too() -> None:
    twice = ImageOps.expand(bordered("white", (6, 6, 6, 6)), 5, "black")
    assert trimmed(twice).size == (80, 60)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_borders_of_a_jpeg_are_cut_to_a_pixel(tmp_path: Path, quality: int) -> None:
    bordered("black", (0, 21, 0, 30)).save(tmp_path / "film.jpg", quality=quality)
    with Image.open(tmp_path / "film.jpg") as film:
        image = trimmed(film.convert("RGB"))
    assert image.width == 80
    assert 60 <= image.height <= 62


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (30, 20)])
def test_an_image_of_one_colour_stays_whole(size: tuple[int, int]) -> None:
    for colour in ("black", "white", "navy"):
        assert trimmed(Image.new("RGB", size, colour)).size == size


def test_a_dot_on_a_page_and_two_halves_stay_whole() -> None:
    page = Image.new("RGB", (100, 100), "white")
    page.paste("black", (50, 50, 53, 53))
    assert trimmed(page).size == (100, 100)
    halves = Image.new("RGB", (60, 60), "white")
    halves.paste("black", (0, 0, 60, 30))
    assert trimmed(halves).size == (60, 60)


@pytest.mark.parametrize("seed", range(5))
def test_trimming_the_mirror_image_mirrors_the_trimmed_one(seed: int) -> None:
    left, top, right, bottom = np.random.default_rng(seed).integers(0, 9, 4).tolist()
    image = bordered("black", (left, top, right, bottom))
    np.testing.assert_array_equal(
        np.asarray(trimmed(ImageOps.mirror(image))),
        np.asarray(ImageOps.mirror(trimmed(image))),
    )


@pytest.mark.shared
def test_letterboxes_of_real_images_are_trimmed(tll: Path) -> None:
    paths = sorted((tll / "right").iterdir())[:100]
    images = [Image.open(path).convert("RGB") for path in paths]
    sizes = [(one.size, trimmed(one).size) for one in images]
    cut = [new for old, new in sizes if new != old]
    assert len(cut) >= 10
    assert all(min(size) >= 20 for size in cut)
