"""Similarities that are normalised against unrelated images, from fit to bundle."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import make_classifier, make_vectors, save
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import auc, fit, plant
from PIL import Image

import tllboost
from tllboost.classifier import PairClassifier, ensemble
from tllboost.demo import make_scenes
from tllboost.errors import UsageError
from tllboost.grid import work
from tllboost.grid.cells import Cell
from tllboost.grid.measure import Bench, fit_scorer
from tllboost.grid.records import read_images, read_scores, read_splits
from tllboost.grid.run import run_grid
from tllboost.heads.fitted import FittedHead, Linear
from tllboost.merges import PairFeatures, Width, unit_rows
from tllboost.pairs import read_pairs
from tllboost.projections import make_projection
from tllboost.rank import VectorIndex, best, rank_images
from tllboost.references import References
from tllboost.report import read_run
from tllboost.scoring import FittedCell, PairScorer, joint_score, similarity_names
from tllboost.splits import Protocol
from tllboost.vectorizing import vectorize

N_IMAGES, N_REFERENCES, WIDTHS = 120, 96, [40, 24]
LAYOUTS: dict[str, Any] = {
    "plain": WIDTHS,
    "maps": [Width(40, side=2), Width(24, side=1)],
}
POCKET = Path(tllboost.__file__).parent / "vectorizers" / "pocket.onnx"
MAP = f"onnx:{POCKET}?output=averagepool_45&cells=3"


@lru_cache
def images(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(5, sum(WIDTHS))) * 3
    vectors = 1 + rng.normal(size=(N_IMAGES, 5)) @ common
    return (vectors + rng.normal(size=vectors.shape)).astype(np.float32)


@lru_cache
def references(layout: str = "plain") -> References:
    drawn_from = np.arange(N_REFERENCES)
    return References.drawn(images(), drawn_from, LAYOUTS[layout], seed=0)


def white(vectors: np.ndarray, side: int = 1) -> np.ndarray:
    """Whiten one part by the images of the training set; each row at length 1.

    Of a map each position first, which are known of all these images, then the whole.
    """
    each = vectors.reshape(len(vectors) * side**2, -1)
    unit = unit_rows(each.astype(np.float64))
    known = unit[: N_REFERENCES * side**2]
    unit -= known.mean(axis=0)
    _, lengths, axes = np.linalg.svd(known - known.mean(axis=0))
    n = min(N_REFERENCES // 8 - 8, unit.shape[1] // 8)
    shrunk = lengths[n] / np.sqrt(lengths[:n] ** 2 + lengths[n] ** 2)
    unit -= (unit @ axes[:n].T * (1 - shrunk)) @ axes[:n]
    unit = unit_rows(unit).reshape(vectors.shape)
    return white(unit) if side > 1 else unit


def by_hand(vectors: np.ndarray, left: int, right: int, side: int) -> list[float]:
    """Compute a row by the definitions, a reference at a time.

    The first part may be a map of `side` positions a side.
    """
    row = []
    others = [one for one in range(N_REFERENCES) if one not in (left, right)]
    parts = slice(0, 40), slice(40, 64)
    whole = np.hstack(
        [
            white(vectors[:, part], n)
            * np.linalg.norm(vectors[:, part], axis=1, keepdims=True)
            for part, n in zip(parts, (side, 1), strict=True)
        ]
    )
    first = white(vectors[:, parts[0]], side)
    whitened = [unit_rows(whole), first, white(vectors[:, parts[1]])]
    for part, known in zip((slice(0, 64), *parts), whitened, strict=True):
        unit = unit_rows(vectors[:, part].astype(np.float64))
        cosine = unit[left] @ unit[right]
        told = known[left] @ known[right]
        found = [[known[one] @ known[x] for x in others] for one in (left, right)]
        z = [(told - np.mean(one)) / np.std(one) for one in found]
        near = [np.mean(sorted(one)[-10:]) for one in found]
        row += [cosine, np.mean(z), abs(z[0] - z[1]), 2 * told - sum(near)]
    beside = []
    for part in whitened[1:]:
        roots = unit_rows(np.sign(part) * np.sqrt(np.abs(part)))
        beside.append((roots, roots))
    if side > 1:
        mirrored = first.reshape(len(first), side, side, -1)[:, :, ::-1]
        beside.insert(1, (first, mirrored.reshape(first.shape)))
    for ours, theirs in beside:
        told = ours[left] @ theirs[right]
        found = [[ours[one] @ theirs[x] for x in others] for one in (left, right)]
        row.append(np.mean([(told - np.mean(one)) / np.std(one) for one in found]))
    return row


@settings(max_examples=30)
@given(
    st.sampled_from([*LAYOUTS]),
    st.integers(0, N_IMAGES - 1),
    st.integers(0, N_IMAGES - 1),
)
def test_a_row_is_that_of_the_definitions_without_the_pairs_own_images(
    layout: str, left: int, right: int
) -> None:
    if left == right:
        return
    made, side = references(layout), {"plain": 1, "maps": 2}[layout]
    (row,) = made.rows(images(), np.array([left]), np.array([right]))
    assert made.n_features == len(row) == 14 + (side > 1)
    np.testing.assert_allclose(row, by_hand(images(), left, right, side), atol=4e-3)


@settings(max_examples=20)
@given(
    st.sampled_from([*LAYOUTS]),
    st.lists(st.tuples(*[st.integers(0, N_IMAGES - 1)] * 2), min_size=1),
)
def test_swapping_permuting_and_scaling_change_no_similarity(
    layout: str, pairs: list[tuple[int, int]]
) -> None:
    left, right = np.array(pairs).T
    made = references(layout)
    rows = made.rows(images(), left, right)
    swapped = made.rows(images(), right, left)
    np.testing.assert_allclose(rows, swapped, atol=1e-5)
    # A map and a mirrored one are not added up in the same order.
    told = np.arange(rows.shape[1]) != (13 if layout == "maps" else -1)
    np.testing.assert_array_equal(rows[:, told], swapped[:, told])
    order = np.random.default_rng(0).permutation(len(pairs))
    some = made.rows(images(), left[order], right[order])
    np.testing.assert_allclose(some, rows[order], atol=1e-4)
    larger = made.rows(8 * images(), left, right)
    np.testing.assert_allclose(larger, rows, atol=1e-4)


def test_a_map_that_looks_the_other_way_is_known_by_its_mirrored_similarity() -> None:
    maps = np.random.default_rng(0).normal(size=(120, 3, 3, 8)).astype(np.float32)
    maps[60:] = maps[:60, :, ::-1]
    vectors = maps.reshape(120, -1)
    drawn_from, of_maps = np.arange(50), [Width(72, side=3)]
    made = References.drawn(vectors, drawn_from, of_maps, seed=0)
    rows = made.rows(vectors, np.arange(50, 60), np.arange(110, 120))
    unlike = made.rows(vectors, np.arange(50, 60), np.arange(100, 110))
    assert rows[:, -1].min() > unlike[:, -1].max() + 3
    assert rows[:, 1].min() < unlike[:, 1].max()
    plain = References.drawn(vectors, drawn_from, of_maps, seed=0, whitened=False)
    assert plain.n_features == 4


@pytest.mark.parametrize("side", [1, 2])
def test_zero_vectors_and_references_that_are_all_alike_give_finite_rows(
    side: int,
) -> None:
    vectors = np.zeros((20, 4), np.float32)
    vectors[10:] = 1
    for drawn_from in (np.arange(20), np.arange(10), np.arange(10, 20)):
        made = References.drawn(vectors, drawn_from, [Width(4, side=side)], seed=0)
        rows = made.rows(vectors, np.array([0, 0, 12]), np.array([1, 12, 13]))
        assert np.isfinite(rows).all()


def test_references_are_as_many_as_four_megabytes_hold_and_no_picture_twice() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(300, 20_000)).astype(np.float32)
    made = References.drawn(wide, np.arange(300), seed=0)
    assert made.vectors.nbytes == 4_000_000
    assert len(made.common) == 300 // 8 - 8
    assert made.mean.any()
    plain = References.drawn(wide, np.arange(300), seed=0, whitened=False)
    assert len(plain.vectors) == 100
    assert not plain.mean.any()
    few = References.drawn(wide, np.arange(64), seed=0)
    assert (len(few.common), few.mean.any()) == (0, True)
    maps = References.drawn(wide, np.arange(300), [Width(20_000, side=10)], seed=0)
    wider = np.tile(wide[:, :5_000], 14)
    many = References.drawn(wider, np.arange(300), seed=0)
    assert (len(many.common), len(many.vectors)) == (28, 28)
    assert maps.common.shape == (300 // 8 - 8, 20_200)
    narrow = np.repeat(rng.normal(size=(300, 4)).astype(np.float32), 3, axis=0)
    assert len(References.drawn(narrow, np.arange(900), seed=0).vectors) <= 300


def hubs() -> tuple[np.ndarray, object]:
    """Plant pairs beside images that are near to everything."""
    data = plant(noise=0.5)
    vectors = data.vectors.copy()
    vectors[::4] += 1.5
    return vectors, data.split


def test_where_some_images_are_near_to_all_s_norm_is_better() -> None:
    vectors, split = hubs()
    drawn_from = np.union1d(split.train.left, split.train.right)
    made = References.drawn(vectors, drawn_from, seed=0, whitened=False)
    test = split.test
    rows = made.rows(vectors, test.left, test.right)
    assert auc(rows[:, 1], test) > auc(rows[:, 0], test) + 0.02


def test_where_images_differ_in_little_the_normalised_cosine_is_the_plain_one() -> None:
    data = plant(n_dims=64, n_signal=4, noise=0.3)
    vectors = data.vectors * 0.2
    vectors[:, :4] *= 15
    bench = Bench(vectors, data.split, "similarity", 0)
    rows = np.asarray(bench.features[2])
    scorer = fit_scorer(bench, "cosine-norm")
    assert auc(rows[:, 1], data.split.test) < auc(rows[:, 0], data.split.test) - 0.05
    told = scorer.score(bench.features[2])
    np.testing.assert_array_equal(told.astype(np.float32), rows[:, 0])


def test_where_images_share_much_the_normalised_cosine_is_better() -> None:
    data = plant(n_dims=64, n_signal=60)
    split, rng = data.split, np.random.default_rng(0)
    common = rng.normal(size=(6, 64)) * 2
    shared = rng.normal(size=(len(data.vectors), 6)) @ common
    vectors = (data.vectors + shared + 3).astype(np.float32)
    bench = Bench(vectors, split, "similarity", 0)
    rows = bench.features[2]
    told = fit_scorer(bench, "cosine-norm").score(rows)
    plain = rows.cosine(frozen=True)
    assert auc(told, split.test) > auc(plain, split.test) + 0.1
    assert np.array_equal(rows.cosine(), np.asarray(rows)[:, 1])
    assert bench.scorer.references is not None
    known = {tuple(one) for one in bench.scorer.references.vectors.round(2).tolist()}
    outside = np.union1d(split.test.left, split.test.right)
    seen = unit_rows(vectors[outside]).astype(np.float16).round(2).tolist()
    assert not known & {tuple(one) for one in seen}


@pytest.mark.parametrize(
    ("name", "n_parts", "n_maps"),
    [
        ("classic", 6, 0),
        ("pocket?views=whole,grey", 2, 0),
        ("pixels?views=centre,grey+classic", 8, 0),
        (f"{MAP}&views=whole,grey+pixels", 3, 2),
        (MAP, 0, 1),
    ],
)
def test_each_view_and_each_descriptor_is_a_part_of_its_own(
    tmp_path: Path, name: str, n_parts: int, n_maps: int
) -> None:
    pairs = make_scenes(tmp_path / "images", n_scenes=20, n_views=2)
    table = read_pairs(pairs, images=pairs.parent)
    ends = zip(table.left, table.right, strict=True)
    X = [[table.paths[a], table.paths[b]] for a, b in ends]
    model = PairClassifier(name, merge="similarity", validation_fraction=0.3).fit(X)
    (cell,) = model.cells_
    references = cell.scorer.references
    assert references is not None
    assert len(references.widths) == (n_parts or 1)
    assert references.sides.tolist() == [3] * n_maps + [1] * (n_parts - n_maps)
    names = similarity_names(cell.vectorizer, "none")
    n_features = 4 * (1 + n_parts) + (n_parts or 1) + n_maps
    assert len(names) == len({*names}) == references.n_features == n_features
    assert sum(one.startswith("S-norm, mirrored") for one in names) == n_maps
    assert sum(one.startswith("S-norm of roots") for one in names) == (n_parts or 1)
    # Each block is scaled by itself, so a border in the wrong place shows.
    vectors = vectorize(cell.vectorizer, table.paths).vectors
    for part in np.split(vectors, np.cumsum(references.widths)[:-1], axis=1):
        lengths = np.linalg.norm(part, axis=1)
        assert lengths == pytest.approx(lengths.max(), rel=1e-3)
    model.save(tmp_path / "a.tllb")
    (back,) = tllboost.load(tmp_path / "a.tllb").cells_
    assert similarity_names(back.vectorizer, "none") == names


def test_other_merges_stand_behind_the_similarities() -> None:
    sides = np.array([0, 3]), np.array([7, 5])
    made = PairFeatures(images(), *sides, "l1+similarity", references=references())
    rows = np.asarray(made)
    alone = references().rows(images(), *sides)
    np.testing.assert_array_equal(rows[:, :14], alone)
    l1 = np.abs(images()[sides[0]] - images()[sides[1]])
    np.testing.assert_array_equal(rows[:, 14:], l1)
    assert made.shape == (2, 14 + 64)
    with pytest.raises(UsageError, match="unknown merge ''"):
        PairFeatures(images(), *sides, "", references=references())
    np.testing.assert_array_equal(made.cosine(), alone[:, 1])
    np.testing.assert_array_equal(np.vstack([*made.blocks(1)]), rows)
    np.testing.assert_array_equal(np.asarray(made.take(np.array([1]))), rows[1:])


@pytest.mark.parametrize("merge", ["similarity", "similarity+l1"])
@pytest.mark.parametrize("head", ["cosine-norm", "logistic", "xgboost"])
def test_a_bundle_of_similarities_scores_as_before(
    tmp_path: Path, head: str, merge: str
) -> None:
    pytest.importorskip("xgboost")
    made = make_classifier("classic", head, merge, n_dims=1984)
    path = save(tmp_path / "a.tllb", made, 1984)
    vectors = make_vectors(1984)
    pairs = np.arange(10), np.arange(10, 20)
    (cell,), (back,) = made.cells_, tllboost.load(path).cells_
    np.testing.assert_allclose(
        back.score(vectors, *pairs), cell.score(vectors, *pairs), atol=1e-5
    )


@pytest.mark.parametrize("is_fresh", [True, False])
def test_training_lists_choose_the_baseline_if_nothing_was_fitted_on_them(
    is_fresh: bool,
) -> None:
    planted = plant(100, n_dims=20)
    train, validation = planted.split.train, planted.split.validation
    scorer = PairScorer("similarity", "cosine-norm")
    scorer.compare_with(planted.vectors, train)
    sets = []
    for pairs, right, wrong in ((train, 1, 0), (validation, 0, 1)):
        features = scorer.features(planted.vectors, pairs)
        features.similarities[:, right] = pairs.label  # says all that is to be known
        features.similarities[:, wrong] = -pairs.label
        sets += [features, pairs]
    scorer.fit(*sets, is_fresh=is_fresh)
    assert scorer.references is not None
    assert scorer.references.baseline.tolist() == [1 if is_fresh else 0]


def test_what_was_fitted_on_training_pairs_lets_validation_alone_choose() -> None:
    pytest.importorskip("torch")
    planted = plant(60, n_dims=20)
    known = planted.vectors, planted.split, "similarity", 0
    assert Bench(*known).is_fresh
    assert not Bench(*known, is_fresh=False).is_fresh
    made: Any = make_projection("infonce?components=8&epochs=1", device="cpu")
    made.fit(planted.vectors, planted.split.train, planted.split.validation)
    assert not Bench(*known, projection=made).is_fresh


@pytest.mark.parametrize(
    ("projection", "n_hard", "expected"),
    [("none", 0, True), ("finetune", 0, False), ("none", 2, False)],
)
def test_a_grid_knows_which_training_pairs_are_as_new_ones(
    projection: str,
    n_hard: int,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def bench(*given: Any) -> Bench:
        asked.append(made := Bench(*given))
        return made

    monkeypatch.setattr(work, "Bench", bench)
    planted = plant(60, n_dims=20)
    cells = [("a", Cell("v", projection, "none", "cosine-norm"))]
    known = cells, 0, Protocol(n_hard=n_hard), "none", [], {}, [planted.split]
    (tmp_path / "cells").mkdir()
    work._run_cells(tmp_path, *known, [planted.vectors], [[20]], [])
    assert [one.is_fresh for one in asked] == [expected]


def test_without_references_the_merge_says_what_it_needs() -> None:
    with pytest.raises(UsageError, match="needs references"):
        PairFeatures(images(), [0], [1], "similarity")
    with pytest.raises(UsageError, match="needs references"):
        PairFeatures(images(), [0], [1], "dot+similarity")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("widths", np.array([40, 23], np.int32)),
        ("widths", np.array([65, -1], np.int32)),
        ("widths", np.array([64.0])),
        ("vectors", np.zeros((0, 64), np.float16)),
        ("vectors", np.zeros((3, 64), np.float32)),
        ("vectors", np.zeros(64, np.float16)),
        ("sides", np.array([2, 1], np.int32)),
        ("sides", np.array([-1, 1], np.int32)),
        ("sides", np.array([3, 1], np.int32)),
        ("sides", np.array([2**16, 1], np.int32)),
        ("sides", np.ones(2)),
        ("sides", np.ones(3, np.int32)),
        ("mean", np.zeros(63, np.float16)),
        ("mean", np.zeros(64, np.float32)),
        ("common", np.zeros((4, 63), np.float16)),
        ("common", np.zeros(64, np.float16)),
        ("baseline", np.array([2], np.int32)),
        ("baseline", np.array([1, 3], np.int32)),
        ("baseline", np.array([1])),
        ("baseline", np.array(1, np.int32)),
    ],
)
def test_references_that_compare_with_nothing_are_refused(
    name: str, wrong: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="references are not"):
        References.of(references().tensors() | {name: wrong})


def test_references_of_before_there_were_maps_say_what_they_said() -> None:
    known = {name: x for name, x in references().tensors().items() if name != "sides"}
    sides = np.arange(10), np.arange(10, 20)
    rows = References.of(known).rows(images(), *sides)
    np.testing.assert_array_equal(rows, references().rows(images(), *sides)[:, :12])
    # Of the folder that is searched others are drawn, whitened as those were.
    layout, drawn_from = References.of(known).layout, np.arange(N_REFERENCES)
    again = References.drawn(images(), drawn_from, *layout, seed=0)
    assert again.n_features == 12
    np.testing.assert_array_equal(again.rows(images(), *sides), rows)


def test_vectors_of_another_width_are_refused() -> None:
    scorer = fit(plant(), "cosine-norm")
    cell = FittedCell(None, None, scorer)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="references are of 24 numbers"):
        cell.score(images(), np.array([0]), np.array([1]))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A grid of what is normalised, its bundles as they were measured."""
    folder = tmp_path_factory.mktemp("similarity")
    pairs = make_scenes(folder / "images", n_scenes=40, n_views=2)
    table = read_pairs(pairs, images=pairs.parent)
    result = run_grid(
        table,
        [f"classic+pixels?size=8+{MAP}"],
        ["similarity", "similarity+l1"],
        ["cosine-norm", "logistic"],
        ensemble=3,
        out=folder / "out",
        refit=False,
    )
    return folder, result


def test_a_grid_measures_it_as_rows_of_their_own(grid: tuple[Path, Any]) -> None:
    _, result = grid
    rows = {(row["merge"], row["head"]): row for row in result.rows}
    assert rows["none", "cosine-norm"]["status"] == "ok"
    n_parts = 6 + 1 + 1  # those of classic, pixels, a map
    n_numbers = 4 * (1 + n_parts) + n_parts + 1
    assert rows["similarity", "logistic"]["n_features"] == n_numbers
    joined = rows["similarity+l1", "logistic"]["n_features"]
    assert joined == n_numbers + 3324 + 192 + 9 * 192


def test_a_bundle_of_it_scores_the_test_pairs_as_the_grid_did(
    grid: tuple[Path, Any],
) -> None:
    folder, _ = grid
    run = read_run(folder / "out")
    (row,) = (one for one in run.cells if one.vectorizer == "ensemble")
    recorded = read_scores(run.out, run.records[row][0]["id"])
    tested = read_splits(run.out, 0)
    images = read_images(run.out)
    assert recorded
    assert tested
    assert images
    (test,) = tested
    bundle = tllboost.load(folder / "out" / "ensemble.tllb")
    paths = [
        [images[1][a], images[1][b]] for a, b in zip(test.left, test.right, strict=True)
    ]
    log_odds = bundle.calibration_.log_odds(
        bundle.decision_function(paths) + bundle.threshold_
    )
    np.testing.assert_allclose(log_odds, recorded["test"][0], atol=1e-5)


def test_ranking_asks_the_references_once_an_image(
    grid: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two searches of an index agree with scores of pairs, the second asks of one."""
    folder, _ = grid
    bundle = tllboost.load(folder / "out" / "ensemble.tllb")
    cells = bundle.cells_
    assert any(cell.scorer.references is not None for cell in cells)
    files = sorted((folder / "images").rglob("*.jpg"))
    vectors = [vectorize(cell.vectorizer, files).vectors for cell in cells]
    indexes = [VectorIndex(block) for block in vectors]
    asked: list[int] = []
    statistics = References.statistics

    def counted(self: References, rows: np.ndarray, *white: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return statistics(self, rows, *white)

    monkeypatch.setattr(References, "statistics", counted)
    for query in (3, 5):
        asked.clear()
        rows, scores = best(cells, [one[[query]] for one in vectors], indexes)
        n_cells = sum(cell.scorer.references is not None for cell in cells)
        assert sum(asked) == n_cells * (1 + (len(files) if query == 3 else 0))
        left = np.full(len(files), query)
        told = joint_score(cells, vectors, left, rows[0])
        np.testing.assert_allclose(scores[0], told, rtol=1e-5, atol=1e-5)


def test_a_folder_of_another_kind_is_its_own_reference(
    grid: tuple[Path, Any], tmp_path: Path
) -> None:
    """Its images stand in for those of the bundle, and the query is none of them."""
    folder, _ = grid
    cells = tllboost.load(folder / "out" / "ensemble.tllb").cells_
    cell = next(one for one in cells if one.scorer.references is not None)
    s_norm = copy.copy(cell.scorer)
    s_norm.head_ = FittedHead(Linear(np.eye(45, dtype=np.float32)[1]))
    bundle = ensemble([replace(cell, scorer=s_norm)])
    files = sorted((folder / "images").rglob("*.jpg"))
    rng = np.random.default_rng(0)
    for i in range(30):
        noise = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((64, 64)).save(tmp_path / f"{i}.png")
    others = sorted(tmp_path.glob("*.png"))
    (plain,), _ = rank_images(bundle, files[:1], others)
    (own,), _ = rank_images(bundle, files[:1], others, own_references=True)
    assert {hit.id for hit in plain} == {hit.id for hit in own}
    assert {hit.score for hit in plain}.isdisjoint({hit.score for hit in own})
    drawn = bundle.among(
        [vectorize(c.vectorizer, others).vectors for c in bundle.cells_]
    )
    for cell in drawn.cells_:
        references, known = cell.scorer.references, s_norm.references
        assert references is not None
        assert known is not None
        assert len(references.vectors) == len(others)
        assert references.baseline.tolist() == known.baseline.tolist()
        assert references.sides.tolist() == known.sides.tolist() == [*[1] * 7, 3]
    with pytest.raises(UsageError, match="11 images are too few as references"):
        rank_images(bundle, files[:1], others[:11], own_references=True)
    scorer = copy.copy(bundle.cells_[0].scorer)
    scorer.references = None
    bare = ensemble([replace(bundle.cells_[0], scorer=scorer)])
    with pytest.raises(UsageError, match="own references have no effect"):
        rank_images(bare, files[:1], others, own_references=True)
    (again,), _ = rank_images(drawn, files[:1], others)
    assert [hit.score for hit in again] == pytest.approx([hit.score for hit in own])
