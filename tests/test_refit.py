"""What goes into a bundle is fitted again on all pairs, as validation chose before."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np
import pytest
from bundles import LEFT, RIGHT, make_vectors
from planted_grid import INFONCE, N_PAIRS, SMALL, grid, stamps, write_planted
from safetensors.numpy import load_file

from tllboost.bundle import read_manifest
from tllboost.calibration import best_threshold, fit_calibration
from tllboost.classifier import load_bundle
from tllboost.conventions import noted, repeatable
from tllboost.errors import DataError
from tllboost.grid.data import gather
from tllboost.heads.fitted import FittedHead
from tllboost.heads.linear import SquaredHinge
from tllboost.pairs import PairTable, read_pairs
from tllboost.projections import make_projection
from tllboost.scoring import PairScorer
from tllboost.splits import (
    PairSet,
    Protocol,
    Split,
    SplitTable,
    make_splits,
    match_components,
)
from tllboost.vectorizers import make_vectorizer


@pytest.fixture(scope="module")
def split() -> Split:
    component = match_components(2 * len(LEFT), LEFT, RIGHT)
    protocol = Protocol(n_distractors=5)
    return make_splits(
        SplitTable(LEFT, RIGHT, np.ones(len(LEFT)), component),
        protocol=protocol,
        seed=0,
    )[0]


def misled(pairs: PairSet) -> PairSet:
    """Return a validation set that would choose otherwise: labels are chance."""
    chance = np.random.default_rng(1).permutation(pairs.label)
    return replace(pairs, label=chance)


@pytest.mark.parametrize(
    "head",
    [
        *("cosine", "logistic", "linear-svm", "naive-bayes"),
        *("random-forest?n_estimators=9", "mlp?n_epochs=3"),
        *("xgboost?n_estimators=60", "xgboost-rank?n_estimators=40"),
        *("lightgbm?n_estimators=60", "catboost?n_estimators=60"),
    ],
)
def test_a_head_fitted_again_chooses_what_validation_chose(
    head: str, split: Split
) -> None:
    if head.startswith(("lightgbm", "catboost")):
        pytest.importorskip(head.partition("?")[0])
    vectors, notes = make_vectors(), list[Any]()

    def fitted(validation: PairSet) -> FittedHead:
        scorer = PairScorer("dot", head, n_threads=1)
        sets = split.train, validation
        features = [scorer.features(vectors, one) for one in sets]
        scorer.fit(features[0], sets[0], features[1], sets[1])
        return scorer.fitted  # type: ignore[no-any-return]

    with noted(notes):
        first = fitted(split.validation)
    with noted(notes, repeat=True):
        again = fitted(misled(split.validation))
    wanted, found = first.tensors(), again.tensors()
    assert wanted.keys() == found.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, err_msg=name)


def test_a_linear_head_fitted_again_takes_no_step_behind_the_one_it_keeps(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, notes, steps = make_vectors(), list[Any](), list[float]()
    fit = SquaredHinge.fit

    def noting(model: SquaredHinge, *given: Any) -> SquaredHinge:
        steps.append(model.C)
        return fit(model, *given)

    monkeypatch.setattr(SquaredHinge, "fit", noting)
    heads, taken = list[Any](), list[list[float]]()
    for validation in (split.validation, misled(split.validation)):
        scorer = PairScorer("dot", "linear-svm", n_threads=1)
        sets = split.train, validation
        features = [scorer.features(vectors, one) for one in sets]
        with noted(notes, repeat=bool(heads)):
            scorer.fit(features[0], sets[0], features[1], sets[1])
        heads.append(scorer.head_)
        taken.append([*steps])
        steps.clear()
    every, needed = taken
    assert needed[-1] == heads[0].strength_ == heads[1].strength_
    assert len(needed) < len(every)
    places = range(len(every) - len(needed) + 1)
    assert any(every[at : at + len(needed)] == needed for at in places)
    assert heads[0].scaling_ == heads[1].scaling_
    np.testing.assert_array_equal(*(one.fitted_.part.coef for one in heads))


@pytest.mark.parametrize(
    "name", ["infonce?members=2&epochs=6", "contrastive?epochs=4", "triplet?epochs=3"]
)
def test_a_projection_fitted_again_trains_as_many_epochs(
    name: str, split: Split
) -> None:
    vectors, notes = make_vectors(), list[Any]()
    fits = []
    for validation in (split.validation, misled(split.validation)):
        made: Any = make_projection(name, device="cpu", n_threads=1)
        with noted(notes, repeat=bool(fits)):
            fits.append(made.fit(vectors, split.train, validation).to_tensors())
    for key, array in fits[0].items():
        np.testing.assert_allclose(fits[1][key], array, atol=1e-5)


def test_a_choice_of_other_questions_is_not_repeated() -> None:
    notes: list[int] = []
    ask = repeatable(lambda number: number + 1)
    with noted(notes):
        assert ask(1) == 2
    assert ask(5) == 6
    with noted(notes, repeat=True):
        assert ask(7) == 2
        with pytest.raises(DataError, match="can't be repeated on all pairs"):
            ask(7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def table(folder: Path) -> PairTable:
    return read_pairs(folder / "pairs.csv")


class Refitted(NamedTuple):
    """A run without ``--refit``, with it until it was killed, and to its end."""

    out: Path
    given: dict[str, Any]
    held_out: Path
    """What was bundled before."""
    watched: list[tuple[int, int, str]]
    """What was told until the kill."""
    told: list[list[dict[str, Any]]]
    """The manifests of both bundles after each."""
    kept: list[dict[Path, int]]
    """When the files of projections were written, at the kill and at the end."""
    notes: Sequence[str]


@pytest.fixture(scope="module")
def refitted(folder: Path, table: PairTable) -> Refitted:
    given: dict[str, Any] = {
        "vectorizers": [f"vectors:{folder / 'planted.npz'}"],
        "projections": ["none", INFONCE],
        "heads": ["cosine", "naive-bayes"],
        "ensemble": 2,
    }
    out, watched, told = folder / "out", list[tuple[int, int, str]](), []

    def tell() -> None:
        names = ("best", "ensemble")
        told.append([read_manifest(out / f"{name}.tllb") for name in names])

    def stop(done: int, total: int, what: str) -> None:
        watched.append((done, total, what))
        if what == "ensemble.tllb":
            raise KeyboardInterrupt

    grid(table, out, **given)
    tell()
    held_out = shutil.copy(out / "best.tllb", folder / "held-out.tllb")
    with pytest.raises(KeyboardInterrupt):
        grid(table, out, **given, refit=True, progress=stop)
    tell()
    kept = [stamps(out, "projections/*")]
    result = grid(table, out, **given, refit=True)
    tell()
    kept.append(stamps(out, "projections/*"))
    return Refitted(out, given, held_out, watched, told, kept, result.notes)


def test_bundles_are_fitted_again_on_all_pairs_and_keep_their_held_out_figures(
    refitted: Refitted, folder: Path
) -> None:
    assert not any("fitted again" in note for note in refitted.notes)
    for before, after in zip(refitted.told[0], refitted.told[-1], strict=True):
        assert before["refitted"] is None
        assert after["refitted"] == 6 * N_PAIRS
        for same in ("cell", "metrics", "vectorizers"):
            assert before[same] == after[same]
        assert before["members"] != after["members"]
    first, second = map(load_file, sorted(refitted.out.glob("projections/*s")))
    assert any((first[name] != second[name]).any() for name in first)
    loaded = load_bundle(refitted.out / "best.tllb", weights=folder / "planted.npz")
    assert loaded.refitted_ == 6 * N_PAIRS
    with (refitted.out / "splits.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == "1"]
    assert len(rows) == N_PAIRS
    assert sum(row["split"] == "train" for row in rows) == 0.65 * N_PAIRS


def test_a_fit_on_all_pairs_tells_how_far_it_is_and_goes_on_after_a_kill(
    refitted: Refitted,
) -> None:
    assert (1, 1, "projections") in refitted.watched
    assert refitted.watched[-3:] == [
        *((0, 1, "best.tllb"), (1, 1, "best.tllb"), (0, 1, "ensemble.tllb"))
    ]
    # The bundle that was not reached is whole, and what was fitted is found again.
    assert [one["refitted"] for one in refitted.told[1]] == [6 * N_PAIRS, None]
    assert len(refitted.kept[0]) == 4  # two fits and their records
    assert refitted.kept[0] == refitted.kept[1]


def test_the_scores_of_held_out_pairs_calibrate_what_is_fitted_again(
    refitted: Refitted, folder: Path, table: PairTable
) -> None:
    made = make_vectorizer(refitted.given["vectorizers"][0])
    data = gather(table, {"it": made}, SMALL, store=folder / "store")
    (split,) = data.splits(0)
    pairs = split.validation + split.test
    before, after = (
        load_bundle(file, weights=folder / "planted.npz", store=folder / "store")
        for file in (refitted.held_out, refitted.out / "best.tllb")
    )
    score, other = (
        one.score_table(data.table, pairs.left, pairs.right).score
        for one in (before, after)
    )
    assert np.abs(score - other).max() > 0.01
    curve = fit_calibration(score, pairs.label, pairs.weight)
    assert after.calibration_ == pytest.approx(curve)
    threshold = best_threshold(score, pairs.label, pairs.weight)
    assert after.threshold_ == pytest.approx(threshold)


def test_a_run_that_kept_no_held_out_scores_fits_the_first_model_once_more(
    refitted: Refitted, table: PairTable, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(refitted.out, out)
    cells = [*out.glob("scores/*.npz")]
    lost = 0
    for file in cells:
        with np.load(file) as arrays:
            left = {name: arrays[name] for name in arrays if name[-1] == "0"}
            left.pop("said0", None)
            lost += "held_out" in arrays
        np.savez(file, **left)
    assert lost == len(cells) - 1  # all but the ensemble's
    grid(table, out, **refitted.given, refit=True)
    for name in ("best", "ensemble"):
        whole, again = (folder / f"{name}.tllb" for folder in (refitted.out, out))
        manifests = [read_manifest(one) | {"created": ""} for one in (whole, again)]
        assert manifests[0] == manifests[1]
        assert manifests[0]["refitted"] == 6 * N_PAIRS
        with ZipFile(whole) as one, ZipFile(again) as other:
            assert one.namelist() == other.namelist()
            for part in {*one.namelist()} - {"manifest.json"}:
                assert one.read(part) == other.read(part), part


@pytest.mark.parametrize("damage", ["the new projection", "what validation said"])
def test_what_cannot_be_fitted_again_is_bundled_as_it_was_and_a_note_says_so(
    refitted: Refitted, table: PairTable, tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(refitted.out, out)
    old, new = sorted(out.glob("projections/*s"), key=lambda one: one.stat().st_mtime)
    if damage == "the new projection":
        new.write_bytes(b"damaged")
        why = "SafetensorError: "
    else:
        new.unlink()
        record = Path(str(old).replace("-0.safetensors", ".json"))
        told = json.loads(record.read_text()) | {"validation": [[]]}
        record.write_text(json.dumps(told))
        why = "what validation chose can't be repeated on all pairs"
    result = grid(table, out, **refitted.given, refit=True)
    start = "best.tllb is not fitted again on all pairs: "
    assert any(note.startswith(f"{start}{why}") for note in result.notes)
    assert read_manifest(out / "best.tllb")["refitted"] is None
    assert result.exit_code == 0
