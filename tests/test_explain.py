"""Explaining a pair: maps, shares, members, the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import tiny_network
from conftest import write_image
from explained import GRID, fitted, log_odds, looking, pair, scenes
from PIL import Image

from tllboost.calibration import Calibration
from tllboost.classifier import PairClassifier, ensemble
from tllboost.demo import make_scenes
from tllboost.errors import ImageError, UsageError
from tllboost.explain import Explanation, explain, short_form, write_page
from tllboost.explain.attribution import covered, leaves_of
from tllboost.explain.pair import signed, telling_patches
from tllboost.images import open_image
from tllboost.pairs import pairs_from_paths
from tllboost.scoring import similarity_names
from tllboost.store import VectorStore

# Fixtures.
__all__ = ["pair", "scenes"]


# maps


def planted(
    folder: Path, thing: Path, backgrounds: tuple[Image.Image, Image.Image]
) -> list[Path]:
    """Paste one thing into two images, over 3 x 3 of their 8 x 8 patches."""
    paths = [folder / "0.png", folder / "1.png"]
    places = (20, 40), (80, 60)
    for path, background, place in zip(paths, backgrounds, places, strict=True):
        image = background.resize((160, 160))
        image.paste(Image.open(thing).resize((60, 60)), place)
        image.save(path)
    return paths


def lies_on_the_thing(found: Explanation) -> Iterator[tuple[bool, float, float]]:
    """Tell of both maps whether the most telling patch does, and the mean changes."""
    places = (found.left_map, (2, 1)), (found.right_map, (3, 4))
    for changes, (row, column) in places:
        inside = np.zeros(changes.shape, dtype=bool)
        inside[row : row + 3, column : column + 3] = True
        top = np.unravel_index(changes.argmin(), changes.shape)
        yield bool(inside[top]), changes[inside].mean(), changes[~inside].mean()


def test_covering_what_two_images_share_costs_the_most(
    tmp_path: Path, scenes: Path
) -> None:
    flat = [Image.new("RGB", (9, 9), name) for name in ("lightsteelblue", "wheat")]
    paths = planted(tmp_path, scenes / "scene_0007_0.jpg", (flat[0], flat[1]))
    found = explain(ensemble([looking("classic")]), *paths)
    for hit, inside, outside in lies_on_the_thing(found):
        assert hit
        assert inside < outside


@pytest.mark.shared
@pytest.mark.parametrize("number", [1, 4])
def test_a_network_finds_what_two_photographs_share(
    number: int, tmp_path: Path, scenes: Path, shared: Path
) -> None:
    behind = [
        Image.open(scenes / f"scene_{number + side:04d}_0.jpg") for side in (20, 21)
    ]
    thing = scenes / f"scene_{number:04d}_0.jpg"
    paths = planted(tmp_path, thing, (behind[0], behind[1]))
    network = f"onnx:{shared / 'weights' / 'mobilenetv2.onnx'}"
    found = explain(ensemble([looking(network)]), *paths)
    for hit, inside, outside in lies_on_the_thing(found):
        assert hit
        assert inside < -0.05 < outside


CLASSIFIERS: dict[str, Callable[[Path], PairClassifier]] = {
    "one": lambda scenes: ensemble([looking("classic")]),
    "fusion": lambda scenes: ensemble([looking("classic+pixels")]),
    "weighted": lambda scenes: ensemble([looking("classic?weight=0.2+pixels")]),
    "trained": lambda scenes: fitted(scenes, "pixels", head="logistic"),
    "projected": lambda scenes: fitted(
        scenes, "pixels?size=8", projection="infonce", head="cosine", device="cpu"
    ),
    "boosted": lambda scenes: fitted(
        scenes, "pixels+pixels?size=8", head="xgboost?max_depth=3"
    ),
    "ensemble": lambda scenes: ensemble(
        [looking("classic"), looking("classic+pixels"), looking("pixels?size=8")],
        calibration=Calibration(0.7, 0.2),
    ),
}


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_each_change_is_that_of_scoring_the_covered_image(
    kind: str, scenes: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    classifier = CLASSIFIERS[kind](scenes)
    found = explain(classifier, *pair, grid=GRID)
    whole = log_odds(classifier, *pair)
    assert found.log_odds == pytest.approx(whole, abs=1e-6)
    for side, changes in enumerate((found.left_map, found.right_map)):
        versions = list(covered(open_image(pair[side]), GRID))
        assert len(versions) == changes.size
        for patch in (0, 6, 15):
            path = tmp_path / "covered.png"
            versions[patch].save(path)
            both = [path if one == side else pair[one] for one in (0, 1)]
            assert changes.flat[patch] == pytest.approx(
                log_odds(classifier, *both) - whole, abs=1e-4
            )


def test_a_large_photograph_is_covered_as_it_is_decoded(tmp_path: Path) -> None:
    """Networks see a JPEG at a fraction of its size; the cover must be on that."""
    network = tiny_network(tmp_path / "net.onnx")
    classifier = ensemble([looking(f"onnx:{network}?size=64")])
    (leaf,) = leaves_of(classifier.cells_).values()
    left = write_image(tmp_path / "left.jpg", seed=1, size=(1600, 1200))
    right = write_image(tmp_path / "right.png", seed=2)
    assert leaf.input_size is not None
    shrunk = open_image(left, shrink_to=leaf.input_size)
    assert shrunk.width < 1600
    found = explain(classifier, left, right, grid=2)
    path = tmp_path / "covered.png"
    list(covered(shrunk, 2))[3].save(path)
    by_hand = log_odds(classifier, path, right) - log_odds(classifier, left, right)
    assert found.left_map[1, 1] == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize("merge", ["dot", "l1", "l2"])
def test_swapping_the_images_swaps_the_maps(
    merge: str, scenes: Path, pair: tuple[Path, Path]
) -> None:
    classifier = fitted(scenes, "pixels?size=8", merge=merge, head="logistic")
    there = explain(classifier, *pair, grid=GRID)
    back = explain(classifier, *reversed(pair), grid=GRID)
    np.testing.assert_allclose(there.left_map, back.right_map, atol=1e-6)
    np.testing.assert_allclose(there.right_map, back.left_map, atol=1e-6)


def test_covering_what_is_flat_changes_nothing(tmp_path: Path, pair: Any) -> None:
    flat = tmp_path / "flat.png"
    Image.new("RGB", (64, 48), (90, 120, 30)).save(flat)
    found = explain(ensemble([looking("classic")]), flat, pair[1], grid=GRID)
    assert not found.left_map.any()
    assert telling_patches(found.left_map) == []
    assert "nothing changes" in short_form(found)


def test_an_image_of_fewer_pixels_than_patches_is_no_problem(
    tmp_path: Path, pair: Any
) -> None:
    tiny = tmp_path / "tiny.png"
    Image.new("RGB", (3, 5), "red").save(tiny)
    found = explain(ensemble([looking("pixels?size=8")]), tiny, pair[1], grid=8)
    assert np.isfinite(found.left_map).all()


def test_what_is_covered_is_not_stored(tmp_path: Path, pair: Any) -> None:
    classifier = ensemble([looking("classic")], store=tmp_path / "store")
    explain(classifier, *pair, grid=GRID)
    with VectorStore(tmp_path / "store") as store:
        assert [one["n_rows"] for one in store.info()] == [2]


# shares and members


def test_shares_sum_to_what_all_vectorizers_add(pair: Any) -> None:
    classifier = ensemble([looking("classic+pixels+pixels?size=8")])
    found = explain(classifier, *pair, grid=2)
    assert [share.name for share in found.vectorizers] == [
        *("classic", "pixels", "pixels?size=8")
    ]
    added = sum(share.adds for share in found.vectorizers)
    assert found.without_vectorizers + added == pytest.approx(found.log_odds, abs=1e-6)
    # With zero vectors the cosine is 0, and the curve's intercept is left.
    assert found.without_vectorizers == pytest.approx(-3.0)


def test_shares_of_two_are_what_each_adds_first_and_last(pair: Any) -> None:
    classifier = ensemble([looking("classic+pixels")])
    found = explain(classifier, *pair, grid=2)
    alone = [
        log_odds(ensemble([looking(name)]), *pair) for name in ("classic", "pixels")
    ]
    for one, other in ((0, 1), (1, 0)):
        first = alone[one] - found.without_vectorizers
        last = found.log_odds - alone[other]
        assert found.vectorizers[one].adds == pytest.approx(
            (first + last) / 2, abs=1e-5
        )


def test_members_say_what_they_score_alone(pair: Any) -> None:
    cells = [looking("classic"), looking("pixels?size=8")]
    cells[0] = replace(cells[0], weight=3.0)
    classifier = ensemble(cells, calibration=Calibration(0.7, 0.2))
    found = explain(classifier, *pair, grid=2)
    for member, cell in zip(found.members, cells, strict=True):
        assert member.log_odds == pytest.approx(log_odds(ensemble([cell]), *pair))
    said = sum(member.adds for member in found.members)
    assert said + 0.2 == pytest.approx(found.log_odds)
    assert [share.name for share in found.vectorizers] == ["classic", "pixels?size=8"]


@pytest.mark.parametrize("merge", ["similarity", "similarity+dot"])
def test_similarities_add_up_from_unrelated_images_to_the_log_odds(
    tmp_path: Path, merge: str
) -> None:
    """Shares are named, and those of a linear head are its weights times the values."""
    pairs = make_scenes(tmp_path / "images", n_scenes=30, n_views=2)
    names = [[f"scene_{i:04d}_{v}.jpg" for v in (0, 1)] for i in range(1, 31)]
    X = [[pairs.parent / one for one in pair] for pair in names]
    model = PairClassifier(
        "classic+pixels", merge=merge, head="logistic", validation_fraction=0.3
    ).fit(X)
    found = explain(model, *X[0], grid=2)
    assert found.of_unrelated is not None
    shares = {share.name: share.adds for share in found.similarities}
    added = sum(shares.values())
    assert found.of_unrelated + added == pytest.approx(found.log_odds, abs=1e-5)
    (cell,) = model.cells_
    names = similarity_names(cell.vectorizer, "none")
    assert {*shares} <= {*names}
    assert names[:5] == [
        "cosine, classic+pixels",
        "S-norm, classic+pixels",
        "difference of z-norms, classic+pixels",
        "CSLS, classic+pixels",
        "cosine, shape of classic",
    ]
    assert names[4 * 8 - 1 : 4 * 8] == ["CSLS, pixels"]
    assert names[-1] == "S-norm of roots, pixels"
    head, references = cell.scorer.fitted, cell.scorer.references
    assert references is not None
    table = pairs_from_paths(X[:1])
    (vectors,), _ = model.vectors_of(table.paths, table.ids)
    row = cell.features(vectors, table.left, table.right).similarities[0]
    away = row - references.unrelated(200).mean(axis=0)
    slope = cell.scorer.calibration_.slope
    coef = head.part.coef[: len(names)]
    by_hand = dict(zip(names, slope * coef * away, strict=True))
    at = references.baseline[0]
    by_hand[names[at]] += slope * float(head.slope) * away[at]
    for name, adds in shares.items():
        assert adds == pytest.approx(by_hand[name], abs=1e-3)
    first = found.similarities[0]
    assert f"{signed(first.adds)}  {first.name}" in short_form(found)
    page = write_page(found, tmp_path / "pair.html").read_text("utf-8")
    assert "What each similarity adds" in page


def test_one_vectorizer_has_no_shares_and_one_cell_no_members(pair: Any) -> None:
    found = explain(ensemble([looking("pixels")]), *pair, grid=2)
    assert (found.vectorizers, found.without_vectorizers, found.members) == (
        [],
        None,
        [],
    )


def test_more_vectorizers_than_can_be_combined_are_told(pair: Any) -> None:
    nine = "+".join(f"pixels?size={side}" for side in range(2, 11))
    found = explain(ensemble([looking(nine)]), *pair, grid=2)
    assert found.vectorizers == []
    assert "9 vectorizers" in found.notes[0]


# refusals


def test_what_can_not_be_explained_is_refused(tmp_path: Path, pair: Any) -> None:
    classifier = ensemble([looking("pixels")])
    with pytest.raises(UsageError, match="grid=1 is out of range; it must be 2 to 32"):
        explain(classifier, *pair, grid=1)
    with pytest.raises(ImageError, match=r"none\.jpg"):
        explain(classifier, pair[0], tmp_path / "none.jpg")
    np.savez(tmp_path / "v.npz", ids=["left", "right"], vectors=np.eye(2))
    with pytest.raises(UsageError, match="nothing to cover"):
        explain(ensemble([looking(f"vectors:{tmp_path}/v.npz")]), *pair)
