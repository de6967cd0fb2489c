"""A grid says where its figures tell little: of few groups, or of no order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from planted_grid import grid, write_planted

from tllboost.grid.data import few_notes
from tllboost.pairs import read_pairs
from tllboost.splits import Protocol, Split, SplitTable, make_splits, match_components


def splits_of(n_groups: int, protocol: Protocol) -> list[Split]:
    """Return the splits of groups of three images, the first of each the query."""
    first = np.arange(n_groups) * 3
    left, right = np.repeat(first, 2), np.column_stack([first + 1, first + 2]).ravel()
    return make_splits(
        SplitTable(
            left,
            right,
            np.ones(len(left), dtype=np.int8),
            match_components(3 * n_groups, left, right),
        ),
        protocol=protocol,
        seed=0,
    )


def test_few_groups_are_told_with_how_many_and_what_to_do() -> None:
    protocol = Protocol()
    (note,) = few_notes(splits_of(14, protocol), protocol)
    assert note == (
        "few groups: 3 components to test on, 3 to choose by, 5.0 candidates for each "
        "query: the figures are uncertain; give more groups, or --protocol kfold"
    )


def test_folds_are_counted_together_and_not_advised_again() -> None:
    protocol = Protocol("kfold")
    (note,) = few_notes(splits_of(14, protocol), protocol)
    assert note.startswith("few groups: 14 components to test on, 3 to")
    assert note.endswith("give more groups")


@pytest.mark.parametrize("name", ["holdout", "kfold"])
def test_enough_groups_need_no_note(name: str) -> None:
    assert few_notes(splits_of(100, Protocol(name)), Protocol(name)) == []


def test_the_old_protocol_has_no_queries_to_count() -> None:
    protocol = Protocol("holidays2017")
    (note,) = few_notes(splits_of(12, protocol), protocol)
    assert "candidates" not in note


def test_scores_without_an_order_are_named_and_ranked_as_they_are(
    run: Run, tmp_path: Path
) -> None:
    file = write_planted(tmp_path) / "planted.npz"
    with np.load(file) as arrays:
        vectors = arrays["vectors"].copy()
        vectors[len(vectors) // 2 :] *= -1  # the cosine of a match is lowest now
        np.savez(file, ids=arrays["ids"], vectors=vectors)
    result = grid(
        read_pairs(tmp_path / "pairs.csv"),
        tmp_path / "out",
        vectorizers=[f"vectors:{file}"],
        heads=["cosine", "logistic"],
    )
    (note,) = (note for note in result.notes if "do not tell matches" in note)
    assert note.startswith("vectors:planted × none × none × cosine: the valid")
    turned, fitted = result.rows
    assert turned["roc_auc"] < 0.3
    assert turned["brier"] == pytest.approx(0.25, abs=1e-3)
    assert fitted["roc_auc"] > 0.7
    shown = run("report", tmp_path / "out", "--gallery", 0)
    chosen = run("bundle", "show", tmp_path / "out/best.tllb").stdout
    assert "do not tell matches" not in chosen
    assert shown.returncode == 0
    assert "do not tell matches" in (tmp_path / "out/report.html").read_text()
