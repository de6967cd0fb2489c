"""What validation chooses, what choosing so came to, and bundles of fitted cells.

Of the cells that validation can't tell from its best one, the simplest is chosen: the
rule of one standard error of Breiman et al., "Classification and regression trees"
(1984). The figure is the mean reciprocal rank of the match in the validation lists; the
error is that of the paired difference, over components, since lists that share images
are not independent. Where a protocol has no lists, the Brier score takes its place.

The test figure of the cell so chosen is too good: the validation images of one fold or
seed are test images of another. So each seed and fold chooses once more, on its own
validation set alone, and what it chose is measured on its own test set.

``best.tllb`` holds the cell that all validation sets together chose, ``ensemble.tllb``
the weighted mean of those that are best together. Both are fitted again on all pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.calibration import Calibration, best_threshold, fit_calibration
from tllboost.conventions import noted
from tllboost.errors import BundleError, TllboostError
from tllboost.grid.cells import ENSEMBLE, Cell, digest, parts_of
from tllboost.grid.data import Grid
from tllboost.grid.measure import Bench, ScoredSet, figures_of, fit_scorer
from tllboost.grid.records import (
    Scores,
    read_held_out,
    read_scores,
    write_record,
    write_scores,
)
from tllboost.grid.summary import interval
from tllboost.grid.work import (
    failed,
    learn_all,
    one_line,
    prepared_splits,
    read_projection,
)
from tllboost.heads import HEADS
from tllboost.metrics import METRICS, match_ranks
from tllboost.processes import ProcessDied, sharing
from tllboost.projections import NONE
from tllboost.splits import PairSet, Split
from tllboost.vectorizing import space_of

_N_GOLDEN = 8
_STEEPNESS = 6.0  # of the smooth rank, of leads of root mean square 1
_ONE_ERROR = 0.8413  # share of a normal distribution below one standard error

Floats = NDArray[np.float64]
Evidence = tuple[Floats, Floats, Floats]
"""What validation says of cells: of each cell and component the sum of what its lists
reached, (n_cells, n_components), higher is better; how many lists each component has;
and the Brier score of each cell. Pairs stand in for lists where there are none."""
_Splits = Mapping[int, Sequence[Split]]

Record = dict[str, Any]
Row = dict[str, Any]
_Curve = tuple[Calibration, float]
_Part = tuple[Any, str, NDArray[np.float32], Sequence[Path], Any]
_Fit = tuple[Split, list[_Part]]
"""What cells are fitted on: a split, and of each cell its vectorizer, what its vectors
are stored under, the vectors of all images, the file of its projection, and the widths
of a vector's parts."""


def simplicity(cell: Cell, n_parts: int = 1) -> tuple[int, ...]:
    """Return what cells are ordered by, the simplest first.

    A single cell comes before an ensemble, one without fine-tuning before one with it;
    then heads in the order of :data:`~tllboost.heads.HEADS`, those of your own last;
    then fewer projections on each other, and fewer fused networks.

    Examples
    --------
    >>> simplicity(Cell("a", "none", "none", "cosine")) < simplicity(
    ...     Cell("a", "none", "dot", "logistic")
    ... )
    True
    """
    tuning, rest = parts_of(cell.projection)
    heads, head = [*HEADS], cell.head.partition("?")[0]
    place = heads.index(head) if head in heads else len(heads)
    n_maps = 0 if rest == NONE else 1 + rest.count("/")
    return cell.vectorizer == ENSEMBLE, tuning != NONE, place, n_maps, n_parts


def evidence(
    scores: Sequence[Floats], pairs: PairSet, n_components: int, *, ranked: bool
) -> Evidence:
    """Return what one validation set says of cells.

    Parameters
    ----------
    scores : sequence of ndarray of shape (n_pairs,), float64
        Log-odds of each cell.
    pairs : PairSet
    n_components : int
    ranked : bool
        Whether its lists count, or its pairs.

    Examples
    --------
    >>> pairs = PairSet(*np.arange(12).reshape(2, 6), np.array([1, 0, 0] * 2),
    ...     np.repeat([0, 1], 3), np.ones(6), np.repeat([0, 1], 3))
    >>> evidence([np.array([3.0, 2, 1, 2, 3, 1])], pairs, 2, ranked=True)[0]
    array([[1. , 0.5]])
    """
    from scipy.special import expit

    counted = pairs.weight > 0
    label, weight = pairs.label[counted], pairs.weight[counted]
    errors = np.array([(expit(score[counted]) - label) ** 2 for score in scores])
    errors[np.isnan(errors)] = 1.0
    brier = np.average(errors, axis=1, weights=weight)
    values, rows = list(-errors), np.flatnonzero(counted)
    if ranked:
        codes, first = np.unique(pairs.query, return_index=True)
        ranks = [match_ranks(one, pairs.label, pairs.query) for one in scores]
        rows = first[np.searchsorted(codes, ranks[0][0])]
        values, weight = [1 / rank for _, rank, _ in ranks], np.ones(len(rows))
    component = pairs.component[rows]
    sums = [np.bincount(component, value * weight, n_components) for value in values]
    weights = np.bincount(component, weight, n_components).astype(np.float64)
    return np.array(sums), weights, brier


def choose(cells: Mapping[Cell, int], found: Evidence) -> list[Cell]:
    """Order cells, the one to choose first.

    Those within one standard error of the best come first, the simplest of them before
    the others, and of the same simplicity the lower Brier score; then the rest by what
    they reached. Cells that are alike in all of that go by the alphabet.

    Parameters
    ----------
    cells : mapping of Cell to int
        How many fused networks each has.
    found : Evidence
        Of the cells in their order.

    Examples
    --------
    >>> cosine = Cell("a", "none", "none", "cosine")
    >>> mlp = Cell("a", "none", "dot", "mlp")
    >>> value = np.array([[1.0, 0.5, 1.0], [1.0, 1.0, 1.0]])
    >>> found = value, np.ones(3), np.array([0.2, 0.1])
    >>> choose({cosine: 1, mlp: 1}, found)[0].head
    'cosine'
    """
    from scipy.special import stdtrit

    value, weight, brier = found
    total, n_components = weight.sum(), np.count_nonzero(weight)
    mean = value.sum(axis=1) / total
    best = np.lexsort((brier, -mean))[0]
    behind = mean[best] - mean
    gaps = value[best] - value - np.outer(behind, weight)
    free = max(n_components - 1, 1)
    error = np.sqrt((gaps**2).sum(axis=1) * n_components / free) / total
    # Student's t: an error that few components tell is itself uncertain. One component
    # tells none, so that all are near.
    near = (behind <= stdtrit(free, _ONE_ERROR) * error + 1e-12) | (n_components < 2)
    first = [
        simplicity(*one) if is_near else (gap,)
        for one, is_near, gap in zip(cells.items(), near, behind, strict=True)
    ]
    keys = dict(zip(cells, zip(~near, first, brier, cells, strict=True), strict=True))
    return sorted(cells, key=keys.__getitem__)


def choose_all(
    cells: Mapping[Cell, int], read: Callable[[Cell, int], Scores], splits: _Splits
) -> tuple[list[Cell], dict[int, ScoredSet], Counter[str]]:
    """Choose by all validation sets together, and by each alone.

    Parameters
    ----------
    cells : mapping of Cell to int
        How many fused networks each has.
    read : callable
        Of a cell and a seed: its log-odds.
    splits : mapping of int to sequence of Split
        Those of each seed, one a fold.

    Returns
    -------
    order : list of Cell
        The one that all sets together choose first.
    gave : dict of int to ScoredSet
        For each seed its test pairs, scored by what each fold chose.
    chosen : Counter of str
        How many folds of all seeds chose a cell.
    """
    if max(map(len, splits.values())) > 1:
        # Members of an ensemble were chosen by the validation sets of all folds.
        cells = {c: n for c, n in cells.items() if c.vectorizer != ENSEMBLE}
    sets = [split.validation for folds in splits.values() for split in folds]
    n_components = 1 + max(int(pairs.component.max()) for pairs in sets)
    ranked = all(len(match_ranks(p.weight, p.label, p.query)[0]) for p in sets)
    gave, chosen, found = {}, Counter[str](), []
    for seed, folds in splits.items():
        scores = {cell: read(cell, seed)["validation"] for cell in cells}
        gave[seed] = ScoredSet()
        for fold, split in enumerate(folds):
            pairs, own = split.validation, [one[fold] for one in scores.values()]
            found.append(evidence(own, pairs, n_components, ranked=ranked))
            best = choose(cells, found[-1])[0]
            rows, score = pairs.weight > 0, scores[best][fold]
            labels = pairs.label[rows], pairs.weight[rows]
            threshold = best_threshold(score[rows], *labels)
            tested = read(best, seed)["test"][fold]
            gave[seed].add(split.test, tested, Calibration(1.0, 0.0), threshold)
            chosen[best.name] += 1
    value, weight, brier = (np.sum(one, axis=0) for one in zip(*found, strict=True))
    return choose(cells, (value, weight, brier)), gave, chosen


def _choose_recorded(
    out: Path, cells: Mapping[Cell, int], ids: Mapping[Any, str], splits: _Splits
) -> tuple[list[Cell], Row]:
    """Choose among cells of a run's folder, by the scores that lie there.

    Parameters
    ----------
    out : Path
    cells : mapping of Cell to int
        Those that succeeded, and how many fused networks each has.
    ids : mapping of (Cell, int) to str
        The record of each cell and seed.
    splits : mapping of int to sequence of Split

    Returns
    -------
    order : list of Cell
        The one to choose first.
    gave : dict
        Each metric of what the folds chose, on their own test sets, with the ends of
        its interval; ``n_choices``, and ``cells``: how many folds chose each.
    """
    order, gave, chosen = choose_all(
        cells, lambda cell, seed: read_scores(out, ids[cell, seed]) or {}, splits
    )
    figures = [test.figures()[0] for test in gave.values()]
    told: dict[str, Any] = {"n_choices": chosen.total(), "cells": dict(chosen)}
    for name in METRICS:
        told[name] = float(np.mean([one[name].value for one in figures]))
        drawn = [np.round(one[name].resampled, 5) for one in figures]  # as in records
        ends = interval(np.mean(drawn, axis=0))
        told[f"{name}_low"], told[f"{name}_high"] = ends
    return order, told


def ensemble_cell(n_members: int) -> Cell:
    """Return the row's name: `n_members` picks, whatever the cells are."""
    return Cell(ENSEMBLE, NONE, NONE, f"best-{n_members}")


def select_members(
    scores: Sequence[Floats], pairs: PairSet, n_members: int
) -> NDArray[np.int64]:
    """Return how often each cell is a member of the ensemble: (n_cells,) int64.

    Greedy selection with replacement (Caruana et al., "Ensemble selection from
    libraries of models", 2004): the best three to begin with (half of them where there
    are fewer than five), then, one at a time, the cell that makes the mean best.

    What is best by the reciprocal rank of a few lists is often so by luck. So the rank
    is a smooth one, as that of Taylor et al., "SoftRank" (2008): a non-match counts
    more the farther it is ahead of the match, and half where it is level. Without
    lists, the Brier score decides.

    Parameters
    ----------
    scores : sequence of ndarray of shape (n_pairs,), float64
        Log-odds of each cell.
    pairs : PairSet
        Of the validation set.
    n_members : int
        How many picks; a cell may be picked again.

    Examples
    --------
    >>> pairs = PairSet(*np.arange(12).reshape(2, 6), np.array([1, 0, 0] * 2),
    ...     np.repeat([0, 1], 3), np.ones(6), np.repeat([0, 1], 3))
    >>> one, other = np.array([[9.0, 0, 0, 0, 1, 1], [0, 1, 1, 9, 0, 0]])
    >>> select_members([one, -one, other], pairs, 2).tolist()
    [1, 0, 1]
    """
    from scipy.special import expit

    listed, *_ = match_ranks(scores[0], pairs.label, pairs.query)
    if len(listed):
        rows = np.flatnonzero(np.isin(pairs.query, listed))
        rows = rows[np.argsort(pairs.query[rows], kind="stable")]
        match, other = (rows[pairs.label[rows] == one] for one in (1, 0))
        # Each match against each non-match of its list.
        first, last = (
            np.searchsorted(pairs.query[other], pairs.query[match], side=side)
            for side in ("left", "right")
        )
        ends = np.cumsum(last - first)
        starts = ends - (last - first)
        others = other[np.arange(ends[-1]) + np.repeat(first - starts, last - first)]
        match = np.repeat(match, last - first)
        columns = np.stack([one[others] - one[match] for one in scores])

        def value(mean: Floats) -> float:
            size = max(np.sqrt(np.mean(mean**2)), 1e-12)
            ahead = np.add.reduceat(expit(_STEEPNESS / size * mean), starts)
            return float(np.mean(1 / (1 + ahead)))

    else:
        counted = pairs.weight > 0
        label, weight = pairs.label[counted], pairs.weight[counted]
        columns = np.stack([one[counted] for one in scores])

        def value(mean: Floats) -> float:
            return -float(np.average((expit(mean) - label) ** 2, weights=weight))

    columns = columns.astype(np.float32)
    order = np.argsort([-value(one) for one in columns], kind="stable")
    picked = order[: min(3, (n_members + 1) // 2)].tolist()
    while len(picked) < n_members:
        total, n = columns[picked].sum(axis=0), len(picked) + 1
        picked.append(int(np.argmax([value((total + one) / n) for one in columns])))
    return np.bincount(picked, minlength=len(columns))


def add_ensemble(records: Sequence[Record], n_members: int, grid: Grid) -> list[Record]:
    """Return a record of the ensemble for each seed, and write it.

    Each seed chooses by its own validation set alone: another seed's may hold what is
    this one's test set. Where too few cells succeeded it has failed, as any cell: the
    others keep theirs.
    """
    made = []
    for seed in grid.seeds:
        known = [
            (record, scores)
            for record in records
            if record["seed"] == seed and record["status"] == "ok"
            if (scores := read_scores(grid.out, record["id"])) is not None
        ]
        if len(known) < n_members:
            error = (
                f"--ensemble {n_members} needs {n_members} cells that did not fail; "
                f"there are {len(known)}"
            )
            cell, cell_id = ensemble_cell(n_members), digest("ensemble", [], seed)
            made.append(failed(cell, seed, cell_id, error))
        else:
            made.append(_ensemble_record(known, n_members, seed, grid))
        write_record(grid.out, made[-1])
    return made


def _ensemble_record(
    known: Sequence[tuple[Record, Scores]], n_members: int, seed: int, grid: Grid
) -> Record:
    """Average the log-odds of cells of one seed, and measure that as a cell.

    ``members`` of the record holds their ids, ``weights`` the share of each,
    ``calibration`` a curve a fold and ``thresholds`` a score a fold.
    """
    splits = grid.data.splits(seed)
    known_scores = [np.concatenate(scores["validation"]) for _, scores in known]
    first, *more = (split.validation for split in splits)
    counts = select_members(known_scores, sum(more, first), n_members)
    chosen = np.flatnonzero(counts)
    members, scores = zip(*(known[int(i)] for i in chosen), strict=True)
    ids, weights = [one["id"] for one in members], counts[chosen] / n_members
    test, validation = ScoredSet(), ScoredSet()
    curves, thresholds, chances = [], [], []
    for fold, split in enumerate(splits):
        of_test, held_out = (
            np.average([one[name][fold] for one in scores], axis=0, weights=weights)
            for name in ("test", "validation")
        )
        counted = split.validation.weight > 0
        curve, threshold = _curve_of(held_out[counted], split.validation.take(counted))
        test.add(split.test, of_test, curve, threshold)
        validation.add(split.validation, held_out, curve, threshold)
        curves.append(list(curve))
        thresholds.append(threshold)
        chances.append(float(curve.probability(np.array([threshold]))[0]))
    cell_id = digest("ensemble", ids, weights.tolist(), seed)
    record = failed(ensemble_cell(n_members), seed, cell_id, "") | {
        "status": "ok",
        **figures_of(test, validation),
        "members": ids,
        "weights": weights.tolist(),
        "calibration": curves,
        "thresholds": thresholds,
        "threshold": float(np.mean(chances)),
        "n_train_pairs": members[0]["n_train_pairs"],
        "n_features": sum(member["n_features"] for member in members),
        **{
            name: float(np.nansum([member.get(name) or 0.0 for member in members]))
            for name in ("vectorize_s", "project_s", "fit_s", "score_s")
        },
        "peak_memory_mb": max(member["peak_memory_mb"] for member in members),
    }
    write_scores(grid.out, record["id"], test, validation)
    return record


def save_bundles(
    rows: Sequence[Row], records: Sequence[Record], grid: Grid
) -> tuple[Row | None, Row | None, list[str]]:
    """Save the best cell on validation that a bundle can hold, and the ensemble.

    Returns its row, what choosing gave, and notes on what no bundle could hold. Where
    there is nothing to save, a bundle of an earlier run does not stay either.
    """
    chosen, gave, notes, order = None, None, [], []
    stale = {"best.tllb", "ensemble.tllb"}
    row_of = dict(zip(grid.plan.cells, rows, strict=True))
    measured = {
        cell: len(getattr(grid.plan.made.get(cell.vectorizer), "parts", "1"))
        for cell, row in row_of.items()
        if row["status"] == "ok"
    }
    if measured:  # in a worker, which has what it takes to measure
        ids = {(Cell(**r["cell"]), r["seed"]): r["id"] for r in records}
        splits = {seed: grid.data.splits(seed) for seed in grid.seeds}
        how = (_choose_recorded, grid.out, measured, ids, splits)
        try:
            order, gave = grid.backend.call(*how)
        except ProcessDied as error:
            notes.append(f"nothing is chosen: the process that chose died ({error})")
    for cell in order:
        try:
            notes += _save(grid.out / "best.tllb", row_of[cell], records, grid)
            chosen = row_of[cell]
            stale.discard("best.tllb")
            break
        except TllboostError as error:  # such as weights that no hub gives any more
            notes.append(f"best.tllb skips a cell: {error}")
    for row in rows:
        if row["vectorizer"] == ENSEMBLE and row["status"] == "ok":
            try:
                notes += _save(grid.out / "ensemble.tllb", row, records, grid)
                stale.discard("ensemble.tllb")
            except TllboostError as error:
                notes.append(f"no ensemble.tllb: {error}")
    for name in stale:  # what an earlier run of this folder left, of other cells
        (grid.out / name).unlink(missing_ok=True)
    return chosen, gave, notes


def _save(path: Path, row: Row, records: Sequence[Record], grid: Grid) -> list[str]:
    """Fit a row again, on the first seed and then on all pairs, and save it.

    Returns a note where it could not be fitted on all pairs. In a worker: this process
    may hold torch, which XGBoost shall not meet.
    """
    seed = grid.seeds[0]
    (own,) = (
        one
        for one in records
        if one["seed"] == seed and one["cell"].items() <= row.items()
    )
    by_id = {record["id"]: Cell(**record["cell"]) for record in records}
    cells = [by_id[one] for one in own.get("members", [own["id"]])]
    tell = grid.progress or (lambda *_: None)
    grids, fits = [grid], list[_Fit]()
    what: dict[str, Any]
    try:
        if grid.refit:
            what = {"data": replace(grid.data, whole=True), "earlier": grid.learned}
            what |= {"plan": grid.plan._replace(cells=cells), "seeds": [seed]}
            grids.append(replace(grid, learned={}, tuned={}, **what))
            learn_all(grids[1])
        for one in grids:
            parts: list[_Part] = []
            for cell in cells:
                tuning, _ = parts_of(cell.projection)
                learned = one.learned[cell.vectorizer, cell.projection, seed]
                if learned.error:
                    raise BundleError(learned.error)
                vectorizer = one.plan.made[cell.vectorizer]
                if tuning != NONE:
                    vectorizer = one.tuned[cell.vectorizer, tuning, seed][0][0]
                base, *_ = one.bases(cell.vectorizer, tuning, seed)
                widths = one.data.vectors[cell.vectorizer].widths
                files = learned.files[:: len(one.data.splits(seed))]  # of one fold
                parts.append((vectorizer, space_of(vectorizer), base, files, widths))
            fits.append((one.data.splits(seed)[0], parts))
        tell(0, 1, path.name)
        with sharing(grid.out) as share:
            how = path, row, own, cells, share(fits), grid.data.protocol.n_hard
            grid.backend.call(_fit_and_save, *how)
        tell(1, 1, path.name)
    except Exception as error:
        if grid.refit:  # what is new can fail in new ways: those of any plugin
            note = f"{path.name} is not fitted again on all pairs: {one_line(error)}"
            return [note, *_save(path, row, records, replace(grid, refit=False))]
        if isinstance(error, ProcessDied):
            msg = f"the process that fitted it again died ({error})"
            raise BundleError(msg) from error
        raise
    return []


def _fit_and_save(
    path: Path,
    row: Mapping[str, Any],
    own: Record,
    cells: Sequence[Cell],
    fits: Sequence[_Fit],
    n_hard: int,
) -> None:
    """Fit cells on a split, then on all pairs, and save them as one bundle.

    What validation chose is chosen again; scores of the pairs that were held out of
    the first fit calibrate the second. Where the run's folder knows both, the first is
    not fitted again. A few test pairs are its golden ones.
    """
    from tllboost.bundle import save_bundle
    from tllboost.scoring import FittedCell, Scorer

    (held_out, _), *whole = fits
    # A few test pairs, matches and non-matches.
    n_test = len(held_out.test)
    rows = np.linspace(0, n_test - 1, min(_N_GOLDEN, n_test)).astype(int)
    left, right = held_out.test.left[rows], held_out.test.right[rows]
    pairs = held_out.validation + held_out.test
    pairs, counted = pairs.take(pairs.weight > 0), pairs.weight > 0
    weights = own.get("weights", [1.0])
    fitted, golden, odds = [], [], []
    ids = own.get("members", [own["id"]])
    for number, (cell, weight) in enumerate(zip(cells, weights, strict=True)):
        tuning, rest = parts_of(cell.projection)
        # What the measured model said need not be found out once more.
        notes, held = read_held_out(path.parent, ids[number]) if whole else ([], None)
        for split, parts in fits if held is None else whole:
            vectorizer, space, base, files, widths = parts[number]
            (prepared,) = prepared_splits([split], [base], n_hard)
            made = read_projection(rest, files)
            how = cell.features, own["seed"], widths, made
            bench = Bench(base, prepared, *how, tuning == NONE and not n_hard)
            with noted(notes, repeat=split is not held_out):
                scorer = fit_scorer(bench, cell.head)
            if whole and split is held_out:
                held = np.concatenate([scorer.score(X) for X in bench.features[1:]])
        if held is not None:
            scorer.calibration_, scorer.threshold_ = _curve_of(held[counted], pairs)
            odds.append(scorer.calibration_.log_odds(held[counted]))
        if space_of(vectorizer) != space:
            msg = f"{cell.vectorizer} is no longer what its vectors were made with"
            raise BundleError(msg)
        fitted.append(FittedCell(vectorizer, made, scorer, weight))
        golden.append((base[left], base[right]))
    curve: _Curve | tuple[None, None] = None, None
    if len(cells) > 1:
        curve = Calibration(*own["calibration"][0]), own["thresholds"][0]
        if whole:
            curve = _curve_of(np.average(odds, axis=0, weights=weights), pairs)
    combiner = Scorer(fitted, calibration=curve[0], threshold=curve[1])
    combiner.refitted_ = len(whole[0][0].train) if whole else None
    save_bundle(
        path,
        combiner,
        cell=own["cell"],
        metrics={name: row[name] for name in METRICS if np.isfinite(row[name])},
        golden=golden,
    )


def _curve_of(score: Floats, pairs: PairSet) -> _Curve:
    """Return curve and threshold of scores of some pairs."""
    known = score, pairs.label, pairs.weight
    return fit_calibration(*known), best_threshold(*known)
