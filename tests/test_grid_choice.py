"""Which cell validation chooses, and what choosing so is worth."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from tllboost.grid.best import (
    choose,
    choose_all,
    evidence,
    select_members,
    simplicity,
)
from tllboost.grid.cells import Cell
from tllboost.splits import (
    PairSet,
    Protocol,
    Split,
    SplitTable,
    make_splits,
    match_components,
)

Floats = NDArray[np.float64]
COSINE = Cell("b", "none", "none", "cosine")
DOT, L1 = (Cell("a", "none", merge, "logistic") for merge in ("dot", "l1"))
MLP = Cell("a", "none", "dot", "mlp")


def first(
    reached: dict[Cell, list[float]], brier: dict[Cell, float], weight: Floats
) -> Cell:
    """Choose by what cells reached in each component, and their Brier scores."""
    errors = np.array([brier.get(cell, 0.2) for cell in reached])
    found = np.array([*reached.values()]), weight, errors
    return choose(dict.fromkeys(reached, 1), found)[0]


@pytest.mark.parametrize(
    ("simpler", "other"),
    [
        (COSINE, Cell("a", "infonce", "none", "cosine")),
        (Cell("a", "infonce", "none", "cosine"), DOT),
        (DOT, Cell("a", "infonce", "dot", "logistic")),
        (DOT, Cell("a", "none", "dot", "linear-svm")),
        (Cell("a", "none", "l1", "linear-svm"), Cell("a", "none", "l1", "naive-bayes")),
        (Cell("a", "none", "l1", "random-forest"), Cell("a", "none", "l1", "xgboost")),
        (Cell("a", "none", "dot", "xgboost-rank"), MLP),
        (MLP, Cell("a", "contrastive", "none", "joined")),
        (Cell("a", "none", "dot", "xgboost?depth=4"), MLP),
        (MLP, Cell("a", "none", "dot", "sklearn.svm:SVC")),
        (
            Cell("a", "infonce", "none", "cosine"),
            Cell("a", "triplet/infonce", "none", "cosine"),
        ),
        (
            Cell("a", "none", "l1", "own.module:Head"),
            Cell("a", "finetune", "none", "cosine"),
        ),
        (
            Cell("a", "finetune/infonce", "l1", "own.module:Head"),
            Cell("ensemble", "none", "none", "best-2"),
        ),
    ],
)
def test_what_learns_less_is_simpler(simpler: Cell, other: Cell) -> None:
    assert simplicity(simpler, 3) < simplicity(other, 1)
    assert simplicity(simpler, 1) < simplicity(simpler, 2)


def test_two_cells_that_tie_are_told_apart_by_brier_however_they_are_listed() -> None:
    reached = {DOT: [1.0, 0.5, 1.0], L1: [0.5, 1.0, 1.0], MLP: [1.0, 1.0, 0.5]}
    for better, worse in ((DOT, L1), (L1, DOT)):
        brier = {better: 0.1, worse: 0.3, MLP: 0.05}
        for order in permutations(reached):
            listed = {cell: reached[cell] for cell in order}
            assert first(listed, brier, np.ones(3)) == better
    # Alike in all, as two heads that learned nothing: one of them, always the same.
    alike = {DOT: [1.0, 0.5], L1: [1.0, 0.5]}
    for order in permutations(alike):
        assert first({cell: alike[cell] for cell in order}, {}, np.ones(2)) == DOT


def test_the_simplest_within_one_standard_error_of_the_best_is_chosen() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=100)
    noise -= noise.mean()
    error = np.sqrt((noise**2).sum() / 99 / 100)
    for gap, chosen in ((0.9, COSINE), (1.1, MLP)):
        reached = {MLP: np.full(100, 9.0), COSINE: 9.0 - gap * error + noise}
        listed = {cell: [*values] for cell, values in reached.items()}
        assert first(listed, {COSINE: 0.9, MLP: 0.1}, np.ones(100)) == chosen


def test_the_rest_follow_in_the_order_of_what_they_reached() -> None:
    cells = {COSINE: 1, DOT: 1, L1: 1, MLP: 1}
    value = np.array([[0.2] * 4, [0.4] * 4, [0.6] * 4, [0.8] * 4])
    order = choose(cells, (value, np.ones(4), np.array([0.1, 0.2, 0.3, 0.4])))
    assert order == [MLP, L1, DOT, COSINE]


def test_lists_that_share_images_count_as_one_look() -> None:
    """Two of eight lists are for mlp; in one component they are one look, and luck."""
    pairs = {
        n: PairSet(
            *np.arange(32).reshape(2, 16),
            np.tile([1, 0], 8).astype(np.int8),
            np.repeat(np.arange(8), 2),
            np.ones(16),
            np.repeat(np.arange(8) % n, 2),
        )
        for n in (8, 4, 1)
    }
    right = np.tile([1.0, 0.0], 8)
    wrong = np.where(np.repeat([0, 1, 0, 0, 0, 1, 0, 0], 2), 1 - right, right)
    scores = (wrong, right)
    chosen = {}
    for n, one in pairs.items():
        found = evidence(scores, one, n, ranked=True)
        np.testing.assert_allclose(found[0].sum(axis=1), [7, 8])
        chosen[n] = choose({COSINE: 1, MLP: 1}, found)[0]
    assert chosen == {8: MLP, 4: COSINE, 1: COSINE}


def table(n_pairs: int, protocol: str, seed: int) -> list[Split]:
    left, right = np.arange(n_pairs), np.arange(n_pairs, 2 * n_pairs)
    return make_splits(
        SplitTable(
            left,
            right,
            np.ones(n_pairs, dtype=np.int8),
            match_components(2 * n_pairs, left, right),
        ),
        protocol=Protocol(protocol),
        seed=seed,
    )


class Said:
    """Heads that say the same of the same two images, in whatever set they stand."""

    def __init__(
        self, said: dict[Cell, Floats], splits: dict[int, list[Split]]
    ) -> None:
        self.said, self.splits = said, splits

    def __call__(self, cell: Cell, seed: int) -> dict[str, list[Floats]]:
        said = self.said[cell]
        return {
            name: [
                said[pairs.left, pairs.right]
                for pairs in (getattr(split, name) for split in self.splits[seed])
            ]
            for name in ("test", "validation")
        }

    def gave(self, cells: list[Cell]) -> tuple[Cell, Floats]:
        """Return the first of the order, and AUC and MRR of what choosing gave."""
        order, gave, chosen = choose_all(dict.fromkeys(cells, 1), self, self.splits)
        assert chosen.total() == sum(map(len, self.splits.values()))
        found = [test.figures(resample=False)[0] for test in gave.values()]
        told = [[one["roc_auc"].value, one["mrr"].value] for one in found]
        return order[0], np.mean(told, axis=0)


def test_what_choosing_gave_is_at_chance_where_all_cells_are_noise() -> None:
    """The figure of the cell that all folds and seeds chose together is not."""
    cells = [Cell("noise", "none", "l1", f"own:Head{i}") for i in range(24)]
    quoted, flattered = [], []
    splits = {seed: table(60, "kfold", seed) for seed in range(5)}
    for repeat in range(40):
        noise = np.random.default_rng(repeat).normal(size=(24, 120, 120))
        heads = Said(dict(zip(cells, noise, strict=True)), splits)
        best, gave = heads.gave(cells)
        quoted.append(gave)
        flattered.append(heads.gave([best])[1])
    chance = [0.5, (1 / np.arange(1, 13)).mean()]  # of twelve candidates
    error = np.std(quoted, axis=0, ddof=1) / np.sqrt(40)
    assert (np.abs(np.mean(quoted, axis=0) - chance) < 2 * error).all()
    assert (np.mean(flattered, axis=0) - chance > 0.02).all()


def test_pairs_without_lists_are_chosen_by_the_brier_score() -> None:
    splits = {0: table(80, "holidays2017", 0)}
    is_match = np.zeros((160, 160))
    is_match[np.arange(80), np.arange(80, 160)] = 1
    said = {
        cell: size * (2 * is_match - 1) for cell, size in ((COSINE, 0.5), (MLP, 4.0))
    }
    best, gave = Said(said, splits).gave([COSINE, MLP])
    assert best == MLP
    assert gave[0] == 1


def test_an_ensemble_is_not_chosen_where_another_fold_chose_its_members() -> None:
    both = Cell("ensemble", "none", "none", "best-2")
    is_match = np.eye(120, k=60)
    said = {COSINE: np.zeros((120, 120)), both: is_match}
    for protocol, best in (("holdout", both), ("kfold", COSINE)):
        splits = {0: table(60, protocol, 0)}
        assert Said(said, splits).gave([COSINE, both])[0] == best


def test_members_are_what_is_best_together_not_the_best_alone() -> None:
    (split,) = table(60, "holdout", 0)
    pairs, rng = split.validation, np.random.default_rng(0)
    noise = rng.normal(size=(4, len(pairs)))
    signal = 1.5 * pairs.label
    # Three that err alike, one a little worse that errs elsewhere, and one of noise.
    alike = [signal + noise[0] + 0.01 * rng.normal(size=len(pairs)) for _ in range(3)]
    cells = [*alike, 0.8 * signal + noise[1], noise[2]]
    counts = select_members(cells, pairs, 4)
    assert counts.sum() == 4
    assert counts[3] == 2
    assert counts[4] == 0
    order = [4, 2, 3, 0, 1]  # however they are listed
    again = select_members([cells[i] for i in order], pairs, 4)
    np.testing.assert_array_equal(again, counts[order])
    # One that is right and all others noise is all members but for where it begins.
    right = [9 * signal, *noise]
    assert select_members(right, pairs, 2).tolist() == [2, 0, 0, 0, 0]


def test_members_are_selected_by_brier_where_there_are_no_lists() -> None:
    (split,) = table(60, "holdout", 0)
    one = split.validation
    pairs = replace(one, query=np.full(len(one), -1))
    sure = 2.0 * one.label - 1
    # Of the same order, but far too sure.
    assert select_members([50 * sure[::-1], sure], pairs, 2).tolist() == [0, 2]
