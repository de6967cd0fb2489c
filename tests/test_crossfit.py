"""Projections of which each training pair meets a fit that never saw its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learned_maps import CROSSFIT, learn
from makers import Planted, auc, plant

import tllboost
from tllboost.classifier import PairClassifier
from tllboost.demo import make_scenes
from tllboost.errors import UsageError
from tllboost.grid.cells import plan_cells
from tllboost.grid.measure import Bench, fit_scorer
from tllboost.grid.records import read_images, read_scores, read_splits
from tllboost.grid.run import run_grid
from tllboost.pairs import read_pairs
from tllboost.projections import make_projection
from tllboost.references import References
from tllboost.report import read_run, write_report

pytest.importorskip("torch")

QUICK = "crossfit?folds=3/infonce?components=8&epochs=3"


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant(150, n_dims=40, n_signal=10, noise=0.5, seed=3)


@pytest.fixture(scope="module")
def fitted(planted: Planted) -> Any:
    return learn(QUICK, planted)


def test_a_map_has_seen_no_image_of_its_fold(planted: Planted, fitted: Any) -> None:
    left, right = fitted.fold_of(planted.split.train)
    outside = planted.split.train
    marked = planted.vectors.copy()
    marked[outside.left[left == 1]] = 7.0
    marked[outside.right[right == 1]] = -3.0
    again = learn(QUICK, planted._replace(vectors=marked))
    before, after = fitted.to_tensors(), again.to_tensors()
    same = {
        name
        for name in before.keys() - {"widths"}
        if np.array_equal(before[name], after[name])
    }
    assert same == {name for name in before if name.startswith("0.1.")}


def test_pairs_of_a_fold_keep_their_lists_and_meet_non_matches_of_it(
    planted: Planted, fitted: Any
) -> None:
    train = planted.split.train
    inside, fold = fitted.inside(train)
    left, right = fitted.fold_of(train)
    of = dict(zip([*train.left, *train.right], [*left, *right], strict=True))
    assert all(of[image] == one for image, one in zip(inside.left, fold, strict=True))
    assert all(of[image] == one for image, one in zip(inside.right, fold, strict=True))
    assert np.array_equal(np.bincount(inside.query), np.bincount(train.query))
    others = inside.take(inside.label == 0)
    matches = train.take(train.label == 1)
    own = dict(zip(matches.right, matches.component, strict=True))
    assert all(
        own[image] != component
        for image, component in zip(others.right, others.component, strict=True)
    )
    rows = list(zip(others.query, others.right, strict=True))
    assert len(rows) == len(set(rows))


def test_on_noise_training_pairs_look_as_unknown_as_new_ones() -> None:
    """A map learns its own pairs by heart; one that never saw them says nothing."""
    noise = plant(200, n_dims=120, n_signal=1, noise=5.0, seed=1)
    spec = "infonce?components=64&epochs=60&patience=0&dropout=0"
    plain = learn(spec, noise).transform(noise.vectors)
    train = noise.split.train
    rows = References.drawn(plain, np.union1d(train.left, train.right), seed=0).rows(
        plain, train.left, train.right
    )
    assert auc(rows[:, 0], train) > 0.9
    made = learn(f"crossfit?folds=3/{spec}", noise)
    bench = Bench(noise.vectors, noise.split, "similarity", 0, projection=made)
    features, inside = np.asarray(bench.features[0]), bench.split.train
    learned = features[:, 8]  # the cosine of what the maps give
    assert abs(auc(learned, inside) - 0.5) < 0.12


def test_what_is_learned_helps_new_pairs() -> None:
    """The head above the maps is better than one above the vectors as they are."""
    planted = plant(300, n_dims=60, n_signal=10, noise=0.5)
    planted.vectors[:, :10] *= 0.7  # what matters has the smallest spread
    made = learn("crossfit/infonce?components=24&batch=64&rate=0.006", planted)
    told = []
    for one in (made, None):
        known = planted.vectors, planted.split
        bench = Bench(*known, "similarity", 0, projection=one)
        scorer = fit_scorer(bench, "logistic")
        told.append(auc(scorer.score(bench.features[2]), planted.split.test))
    assert told[0] > told[1] + 0.02


def test_a_part_of_a_fusion_has_maps_of_its_own(planted: Planted) -> None:
    made: Any = make_projection(QUICK, widths=[30, 10], device="cpu")
    made.fit(planted.vectors, planted.split.train, planted.split.validation)
    assert sorted(made.maps_) == [
        (part, fold) for part in range(3) for fold in range(3)
    ]
    widths, n_maps = made.layout([20, 10, 10])
    assert widths == [20, 10, 10, 24, 24, 24]
    assert n_maps == [0, 0, 0, 3, 3, 3]
    assert made.transform(planted.vectors[:2]).shape == (2, 40 + 3 * 24)


@pytest.mark.parametrize("spec", ["crossfit?folds=3", ""])
def test_only_what_is_not_learned_is_whitened(planted: Planted, spec: str) -> None:
    how = "infonce?components=8&epochs=1&patience=0"
    made = learn(f"{spec}/{how}" if spec else how, planted)
    scorer = Bench(
        planted.vectors, planted.split, "similarity", 0, projection=made
    ).scorer
    references: Any = scorer.references
    n_frozen = planted.vectors.shape[1] if spec else 0
    for one in (references.mean, references.common):
        assert one[..., :n_frozen].any() == bool(spec)
        assert not one[..., n_frozen:].any()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("crossfit", "needs one to fit: crossfit/infonce"),
        ("crossfit?folds=1/infonce", "2 to 20"),
        ("crossfit/none", "needs one to fit"),
        ("crossfit?maps=3/infonce", "unknown option 'maps'"),
    ],
)
def test_a_wrong_spelling_is_told_in_one_line(spec: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        make_projection(spec)
    assert said in str(error.value)


def test_a_cell_of_it_has_the_merge_similarity_or_none() -> None:
    merges, heads = ["dot", "similarity"], ["cosine-norm", "logistic"]
    cells = plan_cells(["a"], merges, heads, ["none", CROSSFIT])
    own = {(cell.merge, cell.head) for cell in cells if cell.projection == CROSSFIT}
    asked = {("none", "cosine"), ("none", "cosine-norm"), ("similarity", "logistic")}
    assert own == asked
    (cell,) = plan_cells(["a"], ["dot"], ["logistic"])[-1:]
    with pytest.raises(UsageError, match="crossfit goes with the merge similarity"):
        plan_cells(
            ["a"],
            ["dot"],
            ["logistic"],
            named=[type(cell)("a", CROSSFIT, "dot", "logistic")],
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Any]]:
    """A grid of it, with bundles as they were measured."""
    folder = tmp_path_factory.mktemp("crossfit")
    pairs = make_scenes(folder / "images", n_scenes=40, n_views=2)
    how: dict[str, Any] = {
        "vectorizers": ["pixels?size=16+pixels?size=8"],
        "merges": ["similarity"],
        "heads": ["logistic", "xgboost"],
        "projections": ["none", QUICK],
        "ensemble": 6,
        "out": folder / "out",
    }
    table = read_pairs(pairs, images=pairs.parent)
    return folder, run_grid(table, refit=False, **how), {"table": table, **how}


def test_a_grid_has_it_beside_the_vectors_as_they_are(
    run: tuple[Path, Any, dict[str, Any]],
) -> None:
    _, result, _ = run
    rows = {(row["projection"], row["head"]): row for row in result.rows}
    assert rows["none", "logistic"]["n_features"] == 4 * 3 + 2
    assert rows[QUICK, "logistic"]["status"] == "ok"
    assert rows[QUICK, "logistic"]["n_features"] == 4 * 6 + 2
    (record,) = (
        read_run(result.out)
        .records[
            next(
                one
                for one in read_run(result.out).cells
                if one.projection == QUICK and one.head == "xgboost"
            )
        ]
        .values()
    )
    gained = record["feature_gain"]
    assert sum(gained.values()) == pytest.approx(1, abs=0.01)
    assert [*gained][:2] == ["cosine, all", "S-norm, all"]
    assert f"CSLS, pixels?size=8 by {QUICK}" in gained
    page = write_report(result.out).read_text("utf-8")
    best = max(gained, key=lambda name: gained[name]).replace("&", "\\u0026")
    assert f'"feature_gain":[["{best}",' in page


def test_a_bundle_of_it_scores_the_test_pairs_as_the_grid_did(
    run: tuple[Path, Any, dict[str, Any]],
) -> None:
    folder, *_ = run
    found = read_run(folder / "out")
    (row,) = (one for one in found.cells if one.vectorizer == "ensemble")
    recorded = read_scores(found.out, found.records[row][0]["id"])
    tested, images = read_splits(found.out, 0), read_images(found.out)
    assert recorded
    assert tested
    assert images
    (test,) = tested
    bundle = tllboost.load(folder / "out" / "ensemble.tllb")
    assert any(cell.projection is not None for cell in bundle.cells_)
    paths = [
        [images[1][a], images[1][b]] for a, b in zip(test.left, test.right, strict=True)
    ]
    score = bundle.decision_function(paths) + bundle.threshold_
    log_odds = bundle.calibration_.log_odds(score)
    np.testing.assert_allclose(log_odds, recorded["test"][0], atol=1e-5)


def test_a_run_that_goes_on_fits_the_missing_fold_alone(
    run: tuple[Path, Any, dict[str, Any]],
) -> None:
    folder, _, how = run
    files = sorted((folder / "out" / "projections").glob("*-0.safetensors"))
    assert len(files) == 3  # a fit a fold
    told = {file: file.stat().st_mtime_ns for file in files}
    files[1].unlink()
    again = dict(how)
    result = run_grid(again.pop("table"), refit=True, resume=True, **again)
    assert all(row["status"] == "ok" for row in result.rows)
    changed = {f for f in files if f.stat().st_mtime_ns != told[f]}
    assert changed == {files[1]}
    assert not any("not fitted again" in note for note in result.notes)


def test_a_classifier_takes_it_by_name(tmp_path: Path) -> None:
    pairs = make_scenes(tmp_path / "images", n_scenes=30, n_views=2)
    folder = pairs.parent
    X = [[folder / f"scene_{i:04d}_{v}.jpg" for v in (0, 1)] for i in range(1, 31)]
    model = PairClassifier(
        "classic+pixels?size=8",
        projection=QUICK,
        merge="similarity",
        head="logistic",
        validation_fraction=0.3,
    ).fit(X)
    model.save(tmp_path / "model.tllb")
    back = tllboost.load(tmp_path / "model.tllb")
    np.testing.assert_allclose(
        back.predict_proba(X[:5]), model.predict_proba(X[:5]), atol=1e-6
    )
