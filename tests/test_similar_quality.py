"""Folders with planted copies, and what is said of the pairs that are found there."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tllboost.similar import USUAL

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def script(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


copies = script("similar_copies")


def folder_of(n_others: int = 40) -> Any:
    """Two families of an original, a mirrored and a framed copy among others."""
    kinds = ["original", "mirrored", "framed"] * 2 + ["other"] * n_others
    family = np.array([0] * 3 + [1] * 3 + [-1] * n_others)
    names = [f"{at}.jpg" for at in range(len(kinds))]
    return copies.Truth([*map(Path, names)], family, kinds, names)


def square_of(truth: Any, seed: int) -> np.ndarray:
    """Scores in tenths, many of them equal; those of one family are higher."""
    rng = np.random.default_rng(seed)
    n = len(truth.files)
    left, right = np.indices((n, n))
    same = copies.of_one_family(truth, np.column_stack([left.ravel(), right.ravel()]))
    scores = np.round(rng.random((n, n)) + 0.5 * same.reshape(n, n), 1)
    return np.triu(scores) + np.triu(scores, 1).T


def counted(scores: np.ndarray, truth: Any, threshold: float) -> tuple[int, int]:
    """Right and wrong pairs from a threshold on, one by one."""
    right = wrong = 0
    for left in range(len(scores)):
        for other in range(left):
            if scores[left, other] >= threshold:
                both = truth.family[[left, other]]
                is_right = both[0] == both[1] >= 0
                right, wrong = right + is_right, wrong + (not is_right)
    return right, wrong


@pytest.mark.parametrize("seed", range(8))
def test_found_is_what_counting_one_by_one_gives(seed: int) -> None:
    truth = folder_of()
    scores = square_of(truth, seed)
    n = len(truth.files)
    every = copies.listed(scores, truth, 0)
    assert len(every.ends) == n * (n - 1) // 2
    levels = np.unique(every.score)
    counts = {level: counted(scores, truth, level) for level in levels}
    for level, (right, wrong) in counts.items():
        found = copies.evaluate(every, truth, threshold=level)
        assert found.precision == right / (right + wrong)
        assert found.recall == right / 6
        assert found.wrong == wrong / (n * (n - 1) // 2 - 6)
    for least in (0.3, 0.6, 1.0):
        asked = copies.evaluate(every, truth, precision=least).threshold
        good = [one for one, (r, w) in counts.items() if r / (r + w) >= least]
        assert asked == min(good, default=np.inf)
    for share in (0.0, 0.01, 0.1):
        asked = copies.evaluate(every, truth, wrong=share).threshold
        most = share * (n * (n - 1) // 2 - 6)
        assert asked == min((o for o, (_, w) in counts.items() if w <= most))


def test_what_is_left_out_of_a_list_changes_no_point() -> None:
    truth = folder_of(200)
    scores = square_of(truth, 0) + np.random.default_rng(0).random((206, 206)) / 100
    scores = np.maximum(scores, scores.T)
    short, every = copies.listed(scores, truth), copies.listed(scores, truth, 0)
    assert len(short.score) < len(every.score) / 100
    for asked in ({"precision": 0.95}, {"wrong": 1e-4}):
        assert copies.evaluate(short, truth, **asked) == copies.evaluate(
            every, truth, **asked
        )


def test_a_kind_is_found_with_its_original_alone() -> None:
    truth = folder_of()
    # A copy with its original, whichever comes first; and two copies of one family.
    pairs = copies.Scored(np.array([[1, 0], [4, 5]]), np.array([0.9, 0.8]))
    found = copies.evaluate(pairs, truth, threshold=0.5)
    assert found.by_kind == {"mirrored": 0.5, "framed": 0.0}
    assert (found.precision, found.recall) == (1.0, 2 / 6)


def test_no_pair_is_no_copy() -> None:
    none = copies.Scored(np.empty((0, 2), np.int64), np.empty(0))
    found = copies.evaluate(none, folder_of(), precision=0.95)
    assert (found.threshold, found.recall, found.wrong) == (np.inf, 0, 0)


@pytest.mark.parametrize("kind", script("similar_copies").KINDS)
def test_a_copy_is_another_image_of_the_same_kind_each_time(kind: str) -> None:
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(256, size=(120, 160, 3), dtype=np.uint8))
    one, again = (copies.KINDS[kind](image, np.random.default_rng(7)) for _ in range(2))
    assert one.tobytes() == again.tobytes()
    assert (one.tobytes() == image.tobytes()) == (kind == "recompressed")
    share = one.width * one.height / (image.width * image.height)
    if kind.startswith("cropped"):
        assert share == pytest.approx(1 - int(kind.split()[1]) / 100, abs=0.01)
    if kind.startswith("sides cut"):
        left = 1 - int(kind.split()[2]) / 100
        assert (one.width, one.height) == (round(160 * left), round(120 * left))


def test_the_page_of_copies_is_what_its_figures_make() -> None:
    module = script("similar_quality")
    figures = json.loads((module.OUT / "figures.json").read_text("utf-8"))
    assert (module.OUT / "README.md").read_text("utf-8") == module.page(figures)


def test_the_limits_of_the_command_are_those_that_were_measured() -> None:
    module = script("similar_quality")
    figures = json.loads((module.OUT / "figures.json").read_text("utf-8"))
    measured = {name: round(of, 2) for name, of in module.usual_of(figures).items()}
    assert measured == USUAL == figures["folder"]["usual"]
