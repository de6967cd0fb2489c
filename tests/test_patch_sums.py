"""What `classic` tells of an image's patches, and what moving a thing changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tllboost.merges import unit_rows
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.classic import (
    WEIGHTS,
    _waves,
    blocks,
    gradient_histograms,
    gradients_of,
    lab_of,
    near_centre,
    patch_sums,
)

SIDE = 96
SEEDS = st.integers(0, 2**32 - 1)


def scene(seed: int, *, shift: int = 0) -> np.ndarray:
    """Return a thing on grey, about the middle of a square channel."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8))
    thing = np.asarray(coarse.resize((60, 60), Image.Resampling.BICUBIC))
    channel = np.full((SIDE, SIDE), 128, dtype=np.float32)
    low = (SIDE - 60) // 2 + shift
    channel[low : low + 60, low : low + 60] = thing
    return channel


def sums(channel: np.ndarray) -> np.ndarray:
    return patch_sums(gradients_of(channel), cell_sides=(4, 6), n_waves=16, floor=2.0)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("n_waves", [2, 16, 24, 127])
def test_there_are_two_kinds_a_wave_and_none_holds_its_own(n_waves: int) -> None:
    gradients = gradients_of(scene(0))
    found = patch_sums(gradients, cell_sides=(6,), n_waves=n_waves, floor=2.0)
    assert found.shape == (2 * n_waves * (n_waves - 1),)
    assert found.dtype == np.float32


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_flat_image_has_no_patches(grey: int) -> None:
    flat = np.full((SIDE, SIDE), grey, dtype=np.float32)
    assert not sums(flat).any()


@given(SEEDS, st.floats(0, 1e6))
def test_sums_are_finite_whatever_the_contrast(seed: int, contrast: float) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.random((SIDE, SIDE), dtype=np.float32) * np.float32(contrast)
    assert np.isfinite(sums(noise)).all()


@given(SEEDS)
def test_light_that_is_added_to_an_image_changes_nothing(seed: int) -> None:
    channel = scene(seed)
    assert cosine(sums(channel), sums(channel + 40)) > 0.999


@given(SEEDS)
def test_a_weaker_contrast_is_still_the_same_image(seed: int) -> None:
    channel = scene(seed)
    assert cosine(sums(channel), sums(channel / 2)) > 0.9


@given(SEEDS)
def test_a_negative_is_another_image(seed: int) -> None:
    channel = scene(seed)
    assert cosine(sums(channel), sums(255 - channel)) < 0.5


@pytest.mark.parametrize("shift", [12, 18])
def test_a_thing_that_moved_is_found_where_cells_lose_it(shift: int) -> None:
    def cells(channel: np.ndarray) -> np.ndarray:
        gradients = gradients_of(channel)
        return gradient_histograms(gradients, n_cells=8, n_orientations=12, floor=5.0)

    def found(describe: Callable[[np.ndarray], np.ndarray]) -> int:
        still = unit_rows(np.array([describe(scene(seed)) for seed in range(40)]))
        moved = np.array([describe(scene(seed, shift=shift)) for seed in range(40)])
        nearest = (still @ unit_rows(moved).T).argmax(axis=1)
        return int((nearest == np.arange(40)).sum())

    assert found(sums) == 40
    assert found(cells) < 10


def test_waves_stand_at_right_angles_and_hold_no_constant() -> None:
    waves = _waves(127)
    assert waves.shape == (128, 127)
    unit = waves / np.linalg.norm(waves, axis=0)
    np.testing.assert_allclose(unit.T @ unit, np.eye(127), atol=1e-5)
    np.testing.assert_allclose(waves.sum(axis=0), 0, atol=1e-4)
    speed = np.linalg.norm(waves, axis=0)
    assert (np.diff(speed) > -1e-5).all()


@pytest.mark.parametrize("n_cells", [1, 8, 37])
def test_the_middle_of_an_image_counts_most(n_cells: int) -> None:
    weights = near_centre(n_cells, 0.4)
    assert weights.shape == (n_cells, n_cells)
    assert weights.max() == weights[n_cells // 2, n_cells // 2]
    np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-6)
    assert weights.min() == weights[0, 0] > 0


def test_colours_are_those_of_scikit_image_to_the_last_bit() -> None:
    from skimage.color import rgb2lab

    rng = np.random.default_rng(0)
    for highest in (256, 12):  # dark colours have a formula of their own
        pixels = rng.integers(0, highest, (80, 80, 3), dtype=np.uint8)
        np.testing.assert_array_equal(lab_of(pixels), rgb2lab(pixels))
    levels = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)
    np.testing.assert_array_equal(lab_of(levels), rgb2lab(levels))


@given(SEEDS)
def test_gradients_are_hypotenuses_to_the_last_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channel = rng.normal(0, 30, (SIDE, SIDE)).astype(np.float32)
    magnitude, _ = gradients_of(channel)
    across, down = channel[1:-1, 2:] - channel[1:-1, :-2], channel[2:] - channel[:-2]
    expected = np.hypot(across, down[:, 1:-1])
    np.testing.assert_array_equal(magnitude[1:-1, 1:-1], expected)


def test_classic_is_its_blocks_at_the_lengths_it_says() -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((200, 245), Image.Resampling.BICUBIC)
    vector = make_vectorizer("classic").transform([image])[0]
    found = blocks(image)
    assert list(found) == list(WEIGHTS)
    ends = np.cumsum([len(block) for block in found.values()])
    assert ends[-1] == len(vector)
    for part, (name, block) in zip(
        np.split(vector, ends[:-1]), found.items(), strict=True
    ):
        assert np.square(part).sum() == pytest.approx(WEIGHTS[name], rel=1e-4)
        assert cosine(part, block) == pytest.approx(1, abs=1e-5)
