"""The learned axis of the grid: projections, fine-tuning, named cells, ensembles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import record as made_record
from planted_grid import (
    CONTRASTIVE,
    INFONCE,
    N_PAIRS,
    SMALL,
    TRIPLET,
    grid,
    read_csv,
    records_of,
    row_of,
    stamps,
    without_costs,
    write_planted,
)

from tllboost.calibration import Calibration, best_threshold, fit_calibration
from tllboost.classifier import load_bundle
from tllboost.errors import BundleError, UsageError
from tllboost.grid.best import add_ensemble
from tllboost.grid.cells import Cell, Plan
from tllboost.grid.data import Grid, gather
from tllboost.grid.measure import ScoredSet
from tllboost.grid.records import read_record, read_scores, write_scores
from tllboost.grid.run import GridResult
from tllboost.metrics import METRICS
from tllboost.pairs import PairTable, read_pairs
from tllboost.processes import Processes
from tllboost.splits import Protocol, SplitTable, make_splits, match_components
from tllboost.vectorizers import make_vectorizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def table(folder: Path) -> PairTable:
    return read_pairs(folder / "pairs.csv")


@pytest.fixture(scope="module")
def planted(folder: Path) -> str:
    return f"vectors:{folder / 'planted.npz'}"


LEARNED = {
    "projections": ["none", INFONCE, TRIPLET, CONTRASTIVE],
    "heads": ["cosine", "joined", "logistic", "xgboost"],
    "seeds": [0, 1],
}


@pytest.fixture(scope="module")
def finished(
    table: PairTable, planted: str, tmp_path_factory: pytest.TempPathFactory
) -> GridResult:
    out = tmp_path_factory.mktemp("grid") / "out"
    return grid(table, out, vectorizers=[planted], ensemble=3, **LEARNED)


# --- rows and files


def test_every_projection_has_rows_and_its_own_cosine(finished: GridResult) -> None:
    rows = read_csv(finished.out / "results.csv")
    cells = {(row["projection"], row["merge"], row["head"]) for row in rows}
    plain = {("none", "cosine"), ("dot", "logistic"), ("dot", "xgboost")}
    wanted = {
        (projection, merge, head)
        for projection in LEARNED["projections"]
        for merge, head in plain
    }
    ensemble = ("none", "none", "best-3")
    assert cells == wanted | {(CONTRASTIVE, "none", "joined"), ensemble}
    assert {row["status"] for row in rows} == {"ok"}
    assert finished.exit_code == 0


def test_a_projection_beats_the_frozen_cosine_where_there_is_something_to_learn(
    finished: GridResult,
) -> None:
    row = row_of(finished, projection=INFONCE, head="cosine")
    assert row["gain_low"] > 0
    assert row["project_s"] > 0
    frozen = row_of(finished, projection="none", head="cosine")
    assert np.isnan(frozen["project_s"])
    assert frozen["gain"] == 0


def test_a_projection_is_fitted_once_a_seed_for_all_its_cells(
    finished: GridResult,
) -> None:
    files = list(finished.out.glob("projections/*.safetensors"))
    assert len(files) == 3 * len(LEARNED["seeds"])


def test_a_second_run_fits_no_projection_and_no_cell(
    finished: GridResult, table: PairTable, planted: str
) -> None:
    before = stamps(finished.out, "projections/*") | stamps(finished.out, "cells/*")
    cells = read_csv(finished.out / "results.csv")
    lines: list[str] = []
    again = grid(
        table,
        finished.out,
        vectorizers=[planted],
        ensemble=3,
        message=lines.append,
        **LEARNED,
    )
    after = stamps(finished.out, "projections/*") | stamps(finished.out, "cells/*")
    ensembles = {
        path
        for path in before
        if "best-3" in path.read_text(errors="ignore") and path.suffix == ".json"
    }
    assert len(ensembles) == 2
    assert all(after[path] == before[path] for path in before if path not in ensembles)
    assert again.n_run == 0
    assert "26 of 26 cells are finished already" in lines
    assert read_csv(finished.out / "results.csv") == cells


def test_what_is_missing_is_done_again_and_nothing_else(
    finished: GridResult, table: PairTable, planted: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished.out, out)
    cells = [json.loads(path.read_text()) for path in out.glob("cells/*.json")]
    is_lost = {"projection": TRIPLET, "head": "logistic", "merge": "dot"}.items()
    lost, cut = (
        next(c for c in cells if c["cell"].items() >= is_lost and c["seed"] == seed)
        for seed in (0, 1)
    )
    (out / "cells" / f"{lost['id']}.json").unlink()
    scores = out / "scores" / f"{cut['id']}.npz"
    scores.write_bytes(scores.read_bytes()[:100])
    gone = sorted(out.glob("projections/*.safetensors"))[0]
    learned = gone.read_bytes()
    gone.unlink()
    before = stamps(out, "projections/*") | stamps(out, "cells/*")
    again = grid(table, out, vectorizers=[planted], ensemble=3, **LEARNED)
    assert again.n_run == 2
    assert gone.read_bytes() == learned
    changed = {
        path
        for path, when in before.items()
        if path.exists() and path.stat().st_mtime_ns != when
    }
    redone = {gone.name.replace("-0.safetensors", ".json"), f"{cut['id']}.json"}
    ensembles = {f"{c['id']}.json" for c in cells if c["cell"]["head"] == "best-3"}
    assert {path.name for path in changed} == redone | ensembles
    assert without_costs(out / "results.csv") == without_costs(
        finished.out / "results.csv"
    )


def test_figures_do_not_hang_on_the_number_of_workers(
    finished: GridResult, table: PairTable, planted: str, tmp_path: Path
) -> None:
    two = grid(
        table,
        tmp_path / "two",
        vectorizers=[planted],
        projections=[INFONCE],
        heads=["cosine", "logistic"],
        seeds=LEARNED["seeds"],
        backend=Processes(2),
    )
    for row in two.rows:
        names = ("projection", "merge", "head")
        same = row_of(finished, **{name: row[name] for name in names})
        for name in (*METRICS, "top2_low", "top2_high", "gain", "validation"):
            assert row[name] == same[name]


def test_folds_have_a_projection_each(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=[planted],
        projections=[INFONCE],
        protocol=Protocol("kfold", n_folds=3, n_distractors=7),
        ensemble=2,
    )
    assert {row["status"] for row in result.rows} == {"ok"}
    assert len(list(result.out.glob("projections/*.safetensors"))) == 3
    row = row_of(result, projection=INFONCE)
    assert row["n_test_queries"] == N_PAIRS
    assert row["gain_low"] > 0
    assert (result.out / "ensemble.tllb").is_file()


# --- hard negatives


def test_hard_negatives_change_what_is_learned_and_are_at_most_all(
    finished: GridResult, table: PairTable, planted: str, tmp_path: Path
) -> None:
    hard = grid(
        table,
        tmp_path / "out",
        vectorizers=[planted],
        heads=["cosine", "logistic"],
        protocol=Protocol(n_distractors=7, n_negatives=5, n_hard=3),
    )
    drawn = row_of(finished, projection="none", head="logistic")
    other = row_of(hard, projection="none", head="logistic")
    assert other["status"] == "ok"
    assert other["roc_auc"] != drawn["roc_auc"]
    with pytest.raises(UsageError, match="n_hard"):
        Protocol(n_negatives=2, n_hard=3)


def test_each_seed_selects_by_its_own_validation_set_what_is_best_together(
    finished: GridResult,
) -> None:
    records = records_of(finished.out)
    for seed in LEARNED["seeds"]:
        own = [record for record in records if record["seed"] == seed]
        (ensemble,) = (r for r in own if r["cell"]["head"] == "best-3")
        assert sum(ensemble["weights"]) == pytest.approx(1)
        assert {round(3 * one, 6) for one in ensemble["weights"]} <= {1, 2, 3}
        others = [r["validation"]["mrr"] for r in own if r is not ensemble]
        # They are picked by a smooth rank; the rank itself may lose a place or two.
        assert ensemble["validation"]["mrr"] >= max(others) - 0.05


def test_figures_of_the_test_set_have_no_say_in_the_ensemble(
    finished: GridResult, table: PairTable, planted: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished.out, out)
    before = {
        record["seed"]: record["members"]
        for record in records_of(out)
        if "members" in record
    }
    for number, record in enumerate(records_of(out)):
        made_up = dict.fromkeys(METRICS, (number * 7 % 26) / 26)
        record |= {"figures": made_up}
        path = out / "cells" / f"{record['id']}.json"
        path.write_text(json.dumps(record))
    grid(table, out, vectorizers=[planted], ensemble=3, **LEARNED)
    for seed, members in before.items():
        again = [r for r in records_of(out) if r["seed"] == seed and "members" in r]
        assert [record["members"] for record in again] == [members]


def test_the_score_of_an_ensemble_is_the_weighted_mean_of_its_members(
    finished: GridResult,
) -> None:
    ensemble = next(
        r for r in records_of(finished.out) if "members" in r and r["seed"] == 0
    )
    members = [read_scores(finished.out, one) for one in ensemble["members"]]
    curve = Calibration(*ensemble["calibration"][0])
    mean = np.tensordot(ensemble["weights"], [one["test"][0] for one in members], 1)
    own = read_scores(finished.out, ensemble["id"])["test"][0]
    np.testing.assert_allclose(own, curve.log_odds(mean), rtol=1e-4, atol=1e-4)


def test_the_baseline_of_an_ensemble_is_the_best_frozen_cosine(
    finished: GridResult,
) -> None:
    row = row_of(finished, head="best-3")
    frozen = row_of(finished, projection="none", head="cosine")
    assert row["vectorizer"] == "ensemble"
    assert row["gain"] == pytest.approx(row["top2"] - frozen["top2"])


@pytest.mark.parametrize("n_members", [-1, 4])
def test_more_members_than_cells_are_refused_before_anything_is_written(
    n_members: int, table: PairTable, planted: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="from 0 to 3, the number of cells"):
        grid(
            table,
            tmp_path / "out",
            vectorizers=[planted],
            projections=["none", INFONCE, TRIPLET],
            ensemble=n_members,
        )
    assert not (tmp_path / "out").exists()


def test_an_ensemble_of_too_few_that_succeeded_is_a_failed_row(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    bad = "sklearn.preprocessing:StandardScaler"
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=[planted],
        heads=["cosine", bad],
        ensemble=2,
    )
    row = row_of(result, vectorizer="ensemble")
    assert row["status"] == "failed"
    assert "cells that did not fail; there are 1" in row["error"]
    assert row_of(result, head="cosine")["status"] == "ok"
    assert not (result.out / "ensemble.tllb").exists()
    assert (result.out / "best.tllb").exists()


def test_an_earlier_ensemble_does_not_stay_where_this_run_has_none(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    cells: dict[str, Any] = {"vectorizers": [planted], "heads": ["cosine", "logistic"]}
    first = grid(table, tmp_path / "out", **cells, ensemble=2)
    assert (first.out / "ensemble.tllb").exists()
    again = grid(table, tmp_path / "out", **cells)
    assert again.out == first.out
    assert not (again.out / "ensemble.tllb").exists()
    assert (again.out / "best.tllb").exists()


@pytest.mark.parametrize("name", ["best.tllb", "ensemble.tllb"])
def test_an_earlier_bundle_does_not_stay_where_the_new_one_cannot_be_made(
    name: str, table: PairTable, planted: str, tmp_path: Path
) -> None:
    def refuse(done: int, total: int, what: str) -> None:
        if what == name:
            msg = "too large"
            raise BundleError(msg)

    cells: dict[str, Any] = {"vectorizers": [planted], "heads": ["cosine", "logistic"]}
    grid(table, tmp_path / "out", **cells, ensemble=2)
    result = grid(table, tmp_path / "out", **cells, ensemble=2, progress=refuse)
    assert any(name in note and "too large" in note for note in result.notes)
    bundles = {path.name for path in result.out.glob("*.tllb")}
    assert bundles == {"best.tllb", "ensemble.tllb"} - {name}


# --- bundles score as the grid did


def scores_of_bundle(
    path: Path, table: PairTable, seed: int = 0, **given: Any
) -> np.ndarray:
    """Return the log-odds that a bundle gives the test pairs of a run."""
    order = np.lexsort((table.label, table.right, table.left))
    ordered = table.take(order)
    (split,) = make_splits(
        SplitTable(
            ordered.left,
            ordered.right,
            ordered.label,
            match_components(ordered.n_images, ordered.left, ordered.right),
        ),
        protocol=SMALL,
        seed=seed,
    )
    classifier = load_bundle(path, **given)
    test = split.test
    scored = classifier.score_table(table, test.left, test.right)
    return classifier.calibration_.log_odds(scored.score)


def scores_of_row(result: GridResult, row: dict[str, Any], seed: int = 0) -> np.ndarray:
    names = ("vectorizer", "projection", "merge", "head")
    (record,) = (
        r
        for r in records_of(result.out)
        if r["seed"] == seed and all(r["cell"][name] == row[name] for name in names)
    )
    scores = read_scores(result.out, record["id"])
    assert scores is not None
    return scores["test"][0]


@pytest.mark.parametrize(
    ("projection", "head"),
    [
        (INFONCE, "cosine"),
        (TRIPLET, "xgboost"),
        (CONTRASTIVE, "joined"),
        (f"{TRIPLET}/{INFONCE}", "logistic"),
    ],
)
def test_the_bundle_of_a_projected_cell_scores_as_the_grid_did(
    projection: str,
    head: str,
    table: PairTable,
    planted: str,
    folder: Path,
    tmp_path: Path,
) -> None:
    merge = {} if head in ("cosine", "joined") else {"merge": "dot"}
    cell = {"vectorizer": planted, "projection": projection, "head": head, **merge}
    result = grid(
        table,
        tmp_path / "out",
        vectorizers=[],
        named=[{"name": "it", **cell}],
        ensemble=2,
    )
    assert {row["status"] for row in result.rows} == {"ok"}
    weights = {"weights": folder / "planted.npz"}
    assert result.chosen is not None
    for name, row in (
        ("best.tllb", result.chosen),
        ("ensemble.tllb", row_of(result, vectorizer="ensemble")),
    ):
        again = scores_of_bundle(result.out / name, table, **weights)
        np.testing.assert_allclose(
            again, scores_of_row(result, row), rtol=1e-4, atol=1e-4
        )


def test_the_bundle_of_a_large_run_scores_as_the_grid_did(
    finished: GridResult, table: PairTable, folder: Path
) -> None:
    chosen = finished.chosen
    assert chosen is not None
    again = scores_of_bundle(
        finished.out / "best.tllb", table, weights=folder / "planted.npz"
    )
    np.testing.assert_allclose(
        again, scores_of_row(finished, chosen), rtol=1e-4, atol=1e-4
    )


def test_a_cell_of_a_record_that_is_none_counts_as_not_run(
    finished: GridResult, tmp_path: Path
) -> None:
    record = records_of(finished.out)[0]
    (tmp_path / "cells").mkdir()
    path = tmp_path / "cells" / f"{record['id']}.json"
    path.write_text('{"id": "another"}')
    assert read_record(tmp_path, record["id"]) is None
    (tmp_path / "scores").mkdir()
    for content in (b"", b"PK\x03\x04 cut off", b"no archive"):
        (tmp_path / "scores" / f"{record['id']}.npz").write_bytes(content)
        assert read_scores(tmp_path, record["id"]) is None


def test_the_curve_of_an_ensemble_is_fitted_by_weight_on_the_mean_of_its_members(
    table: PairTable, planted: str, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"store": tmp_path / "store", "backend": Processes(1)}
    data = gather(table, {"planted": make_vectorizer(planted)}, SMALL, **given)
    made = Plan([], {}, {})
    of = Grid(tmp_path, made, [0], "top2", data, device="cpu", progress=None, **given)
    (split,) = data.splits(0)
    rng, scores, records = np.random.default_rng(0), [], []
    for name in "ab":
        sets = []
        for pairs in (split.test, split.validation):
            scored = ScoredSet()
            score = pairs.label + rng.normal(size=len(pairs))
            scored.add(pairs, score, Calibration(1.0, 0.0), 0.0)
            sets.append(scored)
        write_scores(tmp_path, name, *sets)
        scores.append(sets[1].log_odds[0].astype(np.float32))
        records.append(
            made_record(Cell(name, "none", "dot", "mlp"), 0.5) | {"id": name}
        )
    held_out = split.validation
    held_out.weight[:3] = 0  # as of candidates that are ranked alone
    (found,) = add_ensemble(records, 2, of)
    assert len(np.unique(held_out.weight)) == 3  # non-matches weigh less
    mean = np.mean(np.float64(scores), axis=0)[3:]
    labels = held_out.label[3:], held_out.weight[3:]
    curve = fit_calibration(mean, *labels)
    assert found["calibration"][0] == pytest.approx(list(curve))
    threshold = best_threshold(mean, *labels)
    assert found["thresholds"] == [pytest.approx(threshold)]
    assert found["threshold"] == pytest.approx(curve.probability(np.array(threshold)))
    # Costs are those of all members; the memory is that of the largest.
    assert (found["fit_s"], found["score_s"], found["project_s"]) == (4, 6, 0)
    assert (found["n_features"], found["n_train_pairs"]) == (48, 100)
    assert found["peak_memory_mb"] == 100
