"""From records to rows: means, gains, ties, failures; what a run says of itself."""

from __future__ import annotations

import json
import math
import os
import time
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from makers import features_of, fit, plant, record, sets_of

from tllboost.calibration import Calibration
from tllboost.cli.app import app
from tllboost.cli.grid_command import plain
from tllboost.errors import DataError, UsageError
from tllboost.grid import measure as measuring
from tllboost.grid.cells import Cell, digest, plan_cells
from tllboost.grid.measure import Bench, best_of_folds, measure
from tllboost.grid.outputs import RESULT_COLUMNS, claim_folder, locked, refuse_taken
from tllboost.grid.records import read_record, record_path, write_record
from tllboost.grid.summary import comparison, headline, summarise
from tllboost.merges import PairFeatures
from tllboost.metrics import METRICS, N_RESAMPLES, match_ranks, ranking_figures
from tllboost.processes import resident
from tllboost.splits import Protocol, Split

Row = dict[str, Any]
COSINE, DOT, L1 = (
    Cell("classic", "none", "none", "cosine"),
    Cell("classic", "none", "dot", "logistic"),
    Cell("classic", "none", "l1", "logistic"),
)
CELLS = (COSINE, DOT, L1)


def rows_of(
    records: list[dict[str, Any]], metric: str = "top2", cells: tuple[Cell, ...] = CELLS
) -> dict[Cell, Row]:
    rows = summarise(cells, records, metric=metric, protocol="holdout")
    assert [tuple(row[name] for name in asdict(COSINE)) for row in rows] == [
        tuple(asdict(cell).values()) for cell in cells
    ]
    return dict(zip(cells, rows, strict=True))


def test_a_row_holds_every_column_but_no_other() -> None:
    rows = rows_of([record(cell, 0.5) for cell in CELLS])
    for row in rows.values():
        assert set(row) == set(RESULT_COLUMNS)


def test_a_gain_is_the_difference_from_the_vectorizers_own_cosine() -> None:
    other = Cell("onnx:net", "none", "none", "cosine")
    records = [
        record(COSINE, 0.4),
        record(other, 0.7),
        record(DOT, 0.5),
        record(L1, 0.3),
    ]
    rows = rows_of(records, cells=(*CELLS, other))
    assert rows[DOT]["gain"] == pytest.approx(0.1)
    assert rows[L1]["gain"] == pytest.approx(-0.1)
    for cosine in (COSINE, other):
        gains = [rows[cosine][f"gain{end}"] for end in ("", "_low", "_high")]
        assert gains == [0, 0, 0]


@pytest.mark.parametrize("metric", ["top2", "mrr", "roc_auc", "brier", "ece"])
def test_a_gain_is_positive_for_what_is_better(metric: str) -> None:
    low_is_better = metric in ("brier", "ece")
    worse, better = (0.5, 0.3) if low_is_better else (0.3, 0.5)
    rows = rows_of(
        [record(COSINE, worse), record(DOT, better), record(L1, worse, shared=1)],
        metric,
    )
    assert rows[DOT]["gain"] == pytest.approx(0.2)
    assert rows[DOT]["gain_low"] == pytest.approx(0.2)
    assert rows[DOT]["tied_with_best"] == "best"
    assert rows[L1]["to_best"] == pytest.approx(-0.2)
    assert rows[L1]["tied_with_best"] == "no"
    assert rows[L1]["gain_low"] < 0 < rows[L1]["gain_high"]


def test_a_tie_is_told_by_the_paired_difference() -> None:
    paired = rows_of([record(COSINE, 0.2), record(DOT, 0.50), record(L1, 0.49)])
    # Each interval alone covers the other's value, but resample by resample `dot` wins.
    assert paired[L1]["top2_high"] > 0.50
    assert paired[L1]["tied_with_best"] == "no"
    loose = rows_of(
        [record(COSINE, 0.2), record(DOT, 0.50), record(L1, 0.49, shared=1)]
    )
    assert loose[L1]["tied_with_best"] == "yes"
    assert loose[COSINE]["tied_with_best"] == "no"
    assert [row["tied_with_best"] for row in loose.values()].count("best") == 1


def test_cells_of_one_value_are_tied() -> None:
    rows = rows_of([record(cell, 0.5) for cell in CELLS])
    assert sorted(row["tied_with_best"] for row in rows.values()) == [
        "best",
        "yes",
        "yes",
    ]


def test_seeds_are_averaged_and_their_intervals_grow_narrower() -> None:
    one = rows_of([record(cell, 0.5) for cell in CELLS])[DOT]
    values = (0.4, 0.5, 0.7, 0.8)
    many = rows_of(
        [record(cell, v, seed=s) for cell in CELLS for s, v in enumerate(values)]
    )[DOT]
    assert (one["n_seeds"], many["n_seeds"]) == (1, 4)
    assert many["top2"] == many["validation"] == pytest.approx(0.6)
    assert many["top2_low"] < 0.6 < many["top2_high"]
    width = [row["top2_high"] - row["top2_low"] for row in (one, many)]
    assert width[1] == pytest.approx(width[0] / 2, rel=0.2)
    assert many["peak_memory_mb"] == 103
    assert many["fit_s"] == 2


def test_seeds_are_compared_each_with_itself() -> None:
    # One seed is easy, one hard: the gain is the same on both.
    records = [
        record(cell, base + gain, seed=seed)
        for cell, gain in ((COSINE, 0.0), (DOT, 0.1))
        for seed, base in ((3, 0.2), (9, 0.8))
    ]
    gain, low, high = comparison(records[2:], records[:2], "top2")
    assert (gain, low, high) == pytest.approx((0.1, 0.1, 0.1))
    # Only the seed that both have counts.
    assert comparison(records[2:3], records[:2], "top2")[0] == pytest.approx(0.1)
    assert all(map(math.isnan, comparison(records[2:3], records[1:2], "top2")))
    assert all(map(math.isnan, comparison(records[2:3], [], "top2")))


def test_a_failed_seed_is_a_failed_cell_that_says_why() -> None:
    records = [
        record(COSINE, 0.4),
        record(COSINE, 0.4, seed=1),
        record(DOT, 0.9),
        record(DOT, 0.9, seed=1, status="failed", error="too warm"),
        record(L1, 0.3),
        record(L1, 0.3, seed=1),
    ]
    rows = rows_of(records)
    assert rows[DOT]["status"] == "failed"
    assert rows[DOT]["error"] == "too warm"
    assert rows[DOT]["n_seeds"] == 2
    assert "top2" not in rows[DOT]
    assert [rows[cell]["status"] for cell in (COSINE, L1)] == ["ok", "ok"]
    assert rows[COSINE]["tied_with_best"] == "best"


def test_a_failed_baseline_leaves_gains_open() -> None:
    records = [
        record(COSINE, 0, status="failed", error="no"),
        record(DOT, 0.5),
        record(L1, 0.4),
    ]
    rows = rows_of(records)
    assert math.isnan(rows[DOT]["gain"])
    assert rows[DOT]["tied_with_best"] == "best"
    assert rows[L1]["to_best"] == pytest.approx(-0.1)


def test_a_run_in_which_all_failed_is_rows_of_reasons() -> None:
    failed = [record(cell, 0, status="failed", error="no") for cell in CELLS]
    rows = rows_of(failed)
    assert {row["status"] for row in rows.values()} == {"failed"}
    assert headline(list(rows.values()), failed, None, None, "top2") == []


def test_a_metric_without_figures_ties_nothing() -> None:
    records = [record(cell, math.nan) for cell in CELLS]
    rows = rows_of(records)
    assert {row["tied_with_best"] for row in rows.values()} == {"no"}
    assert all(math.isnan(row["top2"]) for row in rows.values())


def test_the_headline_tells_choice_and_gain_with_intervals() -> None:
    records = [record(COSINE, 0.4), record(DOT, 0.5), record(L1, 0.45)]
    rows = list(rows_of(records).values())
    gave = {"top2": 0.48, "top2_low": 0.44, "top2_high": 0.52}
    gave |= {"n_choices": 5, "cells": {DOT.name: 3, L1.name: 2}}
    told, chosen, gain = headline(rows, records, rows[1], gave, "top2")
    assert told == (
        "what choosing on validation gave: top2 0.480 [0.440, 0.520] (5 choices, "
        "2 cells)"
    )
    assert "classic × none × dot × logistic: top2 0.500 [0.4" in chosen
    assert gain == "gain over the best cosine (classic, 0.400): +0.100 [+0.100, +0.100]"
    assert len(headline(rows, records, rows[0], gave, "top2")) == 2


def test_records_of_other_cells_are_passed_over() -> None:
    stray = Cell("gone", "none", "dot", "mlp")
    rows = rows_of([record(cell, 0.5) for cell in (*CELLS, stray)])
    assert len(rows) == 3


def test_figures_survive_the_file(tmp_path: Path) -> None:
    made = record(DOT, 0.5)
    made["figures"]["roc_auc"] = math.nan
    made["resampled"]["roc_auc"][:3] = [math.nan, math.inf, 0.5]
    made["id"] = "abc"
    write_record(tmp_path, made)
    text = record_path(tmp_path, "abc").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    found = read_record(tmp_path, "abc")
    assert found is not None
    others = [record(COSINE, 0.4), record(L1, 0.3)]
    there, back = (rows_of([one, *others])[DOT] for one in (made, found))
    assert there == pytest.approx(back, nan_ok=True)
    assert math.isnan(back["roc_auc"])


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"id": "other"}', "{}"])
def test_a_file_that_is_no_record_is_none(text: str, tmp_path: Path) -> None:
    path = record_path(tmp_path, "abc")
    assert read_record(tmp_path, "abc") is None
    path.parent.mkdir()
    path.write_text(text)
    assert read_record(tmp_path, "abc") is None


def test_a_record_with_one_number_that_is_none_is_no_record(tmp_path: Path) -> None:
    made = record(DOT, 0.5) | {"id": "abc"}
    write_record(tmp_path, made)
    path = record_path(tmp_path, "abc")
    told = json.loads(path.read_text())
    told["resampled"]["top2"][7] = math.nan
    path.write_text(json.dumps(told))
    assert read_record(tmp_path, "abc") is None


@given(st.permutations(["figures", "resampled", "cell", "seed", "status"]))
def test_a_digest_does_not_hang_on_the_order_of_keys(order: list[str]) -> None:
    made = record(DOT, 0.5)
    wanted = digest({name: made[name] for name in sorted(order)})
    assert digest({name: made[name] for name in order}) == wanted
    assert digest(made) != digest(made | {"seed": 1})


def test_the_plan_has_one_cosine_a_vectorizer_and_refuses_doubles() -> None:
    cells = plan_cells(["a", "b"], ["dot", "l1"], ["logistic", "cosine", "mlp"])
    assert len(cells) == len(set(cells)) == 2 * (1 + 2 * 2)
    assert [cell for cell in cells if cell.head == "cosine"] == [
        Cell(name, "none", "none", "cosine") for name in ("a", "b")
    ]
    for doubled in ((["a", "a"], ["dot"], ["mlp"]), (["a"], ["dot"], ["mlp", "mlp"])):
        with pytest.raises(UsageError, match="is given twice"):
            plan_cells(*doubled)
    with pytest.raises(UsageError, match="at least one vectorizer"):
        plan_cells([], ["dot"], ["mlp"])
    assert len(plan_cells(["a"], [], ["cosine"])) == 1


def test_a_measured_cell_is_what_its_scores_say() -> None:
    data = plant(100, n_dims=12, n_signal=4)
    bench = Bench(data.vectors, data.split, "dot", 0)
    measured, _ = measure([bench], "logistic")
    test = data.split.test
    scorer = fit(data, "logistic", n_threads=1)
    score = scorer.score(PairFeatures(data.vectors, test.left, test.right))
    ranks = match_ranks(score, test.label, test.query)[1]
    first = np.searchsorted(test.query, np.unique(test.query))
    by_hand = ranking_figures(ranks, test.component[first])["top2"].resampled
    np.testing.assert_allclose(measured["resampled"]["top2"], by_hand, atol=1e-5)
    assert measured["figures"]["top2"] == (ranks <= 2).mean()
    assert measured["figures"]["mrr"] == pytest.approx((1 / ranks).mean())
    said = score >= scorer.threshold_
    hits = [(said == test.label)[test.label == label].mean() for label in (0, 1)]
    assert measured["figures"]["balanced_accuracy"] == pytest.approx(np.mean(hits))
    assert measured["threshold"] == scorer.probability(np.array(scorer.threshold_))
    assert 20 < measured["peak_memory_mb"] < 20_000
    assert 0 < measured["fit_s"] < 600
    assert 0 < measured["score_s"] < 600
    assert (measured["n_train_pairs"], measured["n_features"]) == (
        len(data.split.train),
        12,
    )
    assert (measured["n_test_queries"], measured["n_candidates"]) == (20, 10)
    for metric in METRICS:
        assert len(measured["resampled"][metric]) == N_RESAMPLES
    json.dumps(measured)


def test_the_best_of_ten_folds_flatters() -> None:
    data = plant(100, n_dims=12, n_signal=4, protocol=Protocol("holidays2017"))
    bench = Bench(data.vectors, data.split, "l1", 0)
    held_out = measure([bench], "logistic")[0]["figures"]["accuracy"]
    assert 1 >= best_of_folds(bench, "logistic") > held_out
    # Two folds of the training pairs, fitted by hand: the better one is told.
    train, validation, _ = (pairs for _, pairs in sets_of(data.split))
    halves = np.array_split(np.random.default_rng(0).permutation(len(train)), 2)
    accuracies = []
    for tested, rest in (halves, halves[::-1]):
        sets = (train.take(np.sort(rest)), validation, train.take(tested))
        fold = data._replace(split=Split(*sets, names=data.split.names))
        scorer = fit(fold, "cosine")
        pairs = fold.split.test
        score = scorer.score(features_of(fold))
        accuracies.append(np.mean((score >= scorer.threshold_) == pairs.label))
    bench = Bench(data.vectors, data.split, "dot", 0)
    assert best_of_folds(bench, "cosine", 2) == max(accuracies) > min(accuracies)


DATA = "0123456789abcdef"


def claim(out: Path, **changed: Any) -> None:
    told = {
        "data": DATA,
        "protocol": asdict(Protocol()),
        "settings": {"seed": 0, "groups": None, "merge": ["dot"]},
        "overwrite": False,
    }
    with locked(out):
        refuse_taken(out, resume=True, overwrite=False)
        claim_folder(out, **(told | changed))


def test_a_folder_is_claimed_once_and_again_by_the_same_run(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    claim(out)
    (out / "cells").mkdir()
    (out / "cells" / "abc.json").write_text("{}")
    claim(out, settings={"seed": 1})
    assert (out / "cells" / "abc.json").exists()
    kept = tomllib.loads((out / "run.toml").read_text())
    assert kept == {
        "seed": 1,
        "run": {"data": DATA, "protocol": asdict(Protocol())},
    }


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"data": "fedcba9876543210"}, "other pairs or images"),
        ({"protocol": asdict(Protocol(n_distractors=9))}, "another protocol"),
        ({"protocol": asdict(Protocol("kfold"))}, "another protocol"),
    ],
)
def test_another_run_is_not_mixed_in_unless_told_to(
    changed: dict[str, Any], what: str, tmp_path: Path
) -> None:
    claim(tmp_path / "out")
    (tmp_path / "out" / "results.csv").write_text("old")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=f"a run with {what}: give --overwrite"):
        claim(tmp_path / "out", **changed)
    assert (tmp_path / "out" / "results.csv").exists()
    claim(tmp_path / "out", overwrite=True, **changed)
    assert not (tmp_path / "out" / "results.csv").exists()
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="holds other files than a run's"):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["not toml", "a = 1", "run = 3", "run = [1]"])
def test_a_damaged_run_toml_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(UsageError, match=r"run\.toml can't be read .* --overwrite"):
        claim(tmp_path)


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="can't be written"):
        claim(tmp_path / "out")


text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    min_size=1,
    max_size=12,
)
OPTIONS = {
    "pairs": text.map(Path),
    "images": st.none() | text.map(Path),
    "out": text.map(Path),
    "groups": st.none() | text,
    "vectorizer": st.none() | st.lists(text, min_size=1, max_size=3),
    "merge": st.none() | st.lists(text, min_size=1, max_size=3),
    "metric": st.none() | text,
    "seed": st.integers(0, 2**63 - 1),
    "seeds": st.integers(1, 99),
    "folds": st.none() | st.integers(2, 9),
    "offline": st.booleans(),
}


@given(st.fixed_dictionaries(OPTIONS))
def test_options_come_back_from_run_toml(
    tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any]
) -> None:
    out = tmp_path_factory.mktemp("run")
    claim(out, settings=plain(options))
    command = typer.main.get_command(app).get_command(None, "grid")  # type: ignore[attr-defined]
    read = command.make_context("grid", ["--config", str(out / "run.toml")]).params
    usual = command.make_context("grid", []).params
    given = {key: value for key, value in options.items() if value is not None}
    assert {**read, "config": None} == usual | given


def test_an_ensemble_is_compared_with_the_cosine_that_validation_likes_best() -> None:
    other = Cell("onnx:net", "none", "none", "cosine")
    both = Cell("ensemble", "none", "none", "best-2")
    records = [
        record(COSINE, 0.7, validation=0.3),
        record(other, 0.4, validation=0.6),
        record(DOT, 0.6, validation=0.9),  # no cosine
        record(both, 0.8),
    ]
    rows = rows_of(records, cells=(COSINE, other, DOT, both))
    assert rows[both]["gain"] == pytest.approx(0.4)
    # Of an error, too, less is better on validation.
    rows = rows_of(records, "brier", cells=(COSINE, other, DOT, both))
    assert rows[both]["gain"] == pytest.approx(0.7 - 0.8)


def test_a_copied_record_is_not_that_of_another_cell(tmp_path: Path) -> None:
    write_record(tmp_path, record(DOT, 0.5) | {"id": "abc"})
    record_path(tmp_path, "def").write_bytes(record_path(tmp_path, "abc").read_bytes())
    assert read_record(tmp_path, "abc") is not None
    assert read_record(tmp_path, "def") is None


def test_the_most_memory_that_a_cell_had_is_seen_after_it_is_freed() -> None:
    with measuring._peak_memory(0.01) as peak:
        before = resident(os.getpid())
        block = np.ones(2**26, np.uint8)
        time.sleep(0.1)
        del block
    assert before + 2**25 < peak[0] < before + 2**28


def test_a_record_with_a_number_that_no_float_is_meant_by_is_none(
    tmp_path: Path,
) -> None:
    made = record(DOT, 0.5) | {"id": "abc"}
    for value, is_one in ((2**62, True), (2**63, False), (-(2**63), False)):
        write_record(tmp_path, made | {"figures": {"top1": value}})
        assert (read_record(tmp_path, "abc") is not None) == is_one


def test_ranking_figures_do_not_depend_on_the_order_of_the_pairs() -> None:
    pairs = plant(60).split.test
    score = pairs.label + np.random.default_rng(0).normal(size=len(pairs))
    order = np.random.default_rng(1).permutation(len(pairs))
    found = []
    for rows in (np.arange(len(pairs)), order):
        scored = measuring.ScoredSet()
        scored.add(pairs.take(rows), score[rows], Calibration(1.0, 0.0), 0.5)
        found.append(scored.figures()[0])
    for name in ("top1", "mrr"):
        one, other = (figures[name] for figures in found)
        assert one.value == pytest.approx(other.value)
        np.testing.assert_allclose(one.resampled, other.resampled)
