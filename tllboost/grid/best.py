"""The ensemble of the best cells as one more row, and fitted cells as bundles.

What is best is told by the validation set alone. ``best.tllb`` holds the cell that it
chose, ``ensemble.tllb`` the mean of the K best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.calibration import Calibration, best_threshold, fit_calibration
from tllboost.errors import BundleError, TllboostError, UsageError
from tllboost.grid.cells import Cell, digest, parts_of
from tllboost.grid.data import Grid
from tllboost.grid.learn import (
    AllLearned,
    prepared_splits,
    read_projection,
    spaces_of,
)
from tllboost.grid.measure import Bench, ScoredSet, figures_of, fit_scorer
from tllboost.grid.outputs import GridResult
from tllboost.grid.records import read_scores, write_record, write_scores
from tllboost.grid.summary import by_validation, figure
from tllboost.grid.work import failed
from tllboost.metrics import METRICS
from tllboost.processes import ProcessDied
from tllboost.projections import NONE

__all__ = ["add_ensemble", "ensemble_cell", "members_of", "save_bundles"]

ENSEMBLE = "ensemble"
_N_GOLDEN = 8

Record = dict[str, Any]
Golden = tuple[NDArray[np.float32], NDArray[np.float32]]


def ensemble_cell(n_members: int) -> Cell:
    """Return the row's name: the K best cells, whatever they are."""
    return Cell(ENSEMBLE, NONE, NONE, f"best-{n_members}")


def add_ensemble(records: Sequence[Record], n_members: int, grid: Grid) -> list[Record]:
    """Return a record of the ensemble for each seed, and write it.

    Where too few cells succeeded it has failed, as any cell: the others keep theirs.
    """
    made = []
    for seed in grid.seeds:
        own = [record for record in records if record["seed"] == seed]
        try:
            members = members_of(own, n_members, grid.metric)
        except UsageError as error:
            cell, cell_id = ensemble_cell(n_members), digest("ensemble", [], seed)
            made.append(failed(cell, seed, cell_id, str(error)))
        else:
            made.append(_ensemble_record(members, seed, grid))
        write_record(grid.out, made[-1])
    return made


def members_of(records: Sequence[Record], n_members: int, metric: str) -> list[Record]:
    """Return the records of one seed that its validation set likes best.

    Each seed chooses by its own validation set alone: another seed's may hold what is
    this one's test set.

    Raises
    ------
    UsageError
        If fewer cells than that succeeded.
    """
    sign = METRICS[metric].sign
    measured = [
        record
        for record in records
        if record["status"] == "ok"
        and np.isfinite(figure(record, metric, "validation"))
    ]
    if len(measured) < n_members:
        msg = (
            f"--ensemble {n_members} needs as many cells that succeeded; there are "
            f"{len(measured)}"
        )
        raise UsageError(msg)
    # Many cells tie on few queries: the Brier score tells them apart.
    order = sorted(
        measured,
        key=lambda record: (
            -sign * figure(record, metric, "validation"),
            figure(record, "brier", "validation"),
        ),
    )
    return order[:n_members]


def _ensemble_record(members: Sequence[Record], seed: int, grid: Grid) -> Record:
    """Average the log-odds of cells of one seed, and measure that as a cell.

    ``members`` of the record holds their ids, ``calibration`` a curve a fold and
    ``thresholds`` a score a fold.
    """
    ids = [record["id"] for record in members]
    scores = [read_scores(grid.out, cell_id) for cell_id in ids]
    known = [one for one in scores if one is not None]
    test, validation = ScoredSet(), ScoredSet()
    curves, thresholds, chances = [], [], []
    for fold, split in enumerate(grid.data.splits(seed)):
        of_test, chosen = (
            np.mean([one[name][fold] for one in known], axis=0)
            for name in ("test", "validation")
        )
        counted = split.validation.weight > 0
        labels = split.validation.label[counted], split.validation.weight[counted]
        curve = fit_calibration(chosen[counted], *labels)
        threshold = best_threshold(chosen[counted], *labels)
        test.add(split.test, of_test, curve, threshold)
        validation.add(split.validation, chosen, curve, threshold)
        curves.append(list(curve))
        thresholds.append(threshold)
        chances.append(float(curve.probability(np.array([threshold]))[0]))
    record: Record = {
        "id": digest("ensemble", ids, seed),
        "cell": asdict(ensemble_cell(len(members))),
        "seed": seed,
        "status": "ok",
        "error": "",
        **figures_of(test, validation),
        "members": ids,
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
    result: GridResult, records: Sequence[Record], every: AllLearned
) -> None:
    """Save the best row on validation that a bundle can hold, and the ensemble.

    Names the one in `result`, and notes what a bundle could not hold.
    """
    for row in by_validation(result.rows, result.metric):
        try:
            _save(result, "best.tllb", row, records, every)
        except TllboostError as error:  # such as weights that no hub gives any more
            result.notes.append(f"best.tllb skips a cell: {error}")
            continue
        result.chosen = row
        break
    for row in result.rows:
        if row["vectorizer"] == ENSEMBLE and row["status"] == "ok":
            try:
                _save(result, "ensemble.tllb", row, records, every)
            except TllboostError as error:
                result.notes.append(f"no ensemble.tllb: {error}")


def _save(
    result: GridResult,
    name: str,
    row: Mapping[str, Any],
    records: Sequence[Record],
    every: AllLearned,
) -> None:
    """Fit a row again on the first seed, whose test figures it keeps, and save it."""
    from tllboost.bundle import save_bundle
    from tllboost.classifier import ensemble

    cell = {part: row[part] for part in ("vectorizer", "projection", "merge", "head")}
    seed = every.grid.seeds[0]
    (own,) = (one for one in records if (one["cell"], one["seed"]) == (cell, seed))
    by_id = {record["id"]: record for record in records}
    members = [Cell(**by_id[one]["cell"]) for one in own.get("members", [own["id"]])]
    fitted, golden = zip(*(_fitted(one, seed, every) for one in members), strict=True)
    combined: dict[str, Any] = {}
    if len(members) > 1:
        combined["calibration"] = Calibration(*own["calibration"][0])
        combined["threshold"] = own["thresholds"][0]
    save_bundle(
        result.out / name,
        ensemble(fitted, **combined),
        cell=cell,
        metrics={name: row[name] for name in METRICS if np.isfinite(row[name])},
        golden=golden[0] if len(members) == 1 else list(golden),
    )


def _fitted(cell: Cell, seed: int, every: AllLearned) -> tuple[Any, Golden]:
    """Fit a cell on the first fold; return it, and the vectors of its golden pairs."""
    from tllboost.scoring import FittedCell

    grid = every.grid
    vectorizer, projection = grid.plan.made[cell.vectorizer], None
    tuning, rest = parts_of(cell.projection)
    base = every.bases(cell.vectorizer, tuning, seed)[0]
    learned = every.learned[cell.vectorizer, cell.projection, seed]
    if tuning != NONE:
        vectorizer = every.tuned[cell.vectorizer, tuning, seed][0][0]
    if rest != NONE:
        projection = read_projection(rest, learned.files[0])
    splits = prepared_splits(
        grid.data.splits(seed)[:1], [base], grid.data.protocol.n_hard
    )
    spaces = spaces_of([base], rest, learned.files)
    bench = Bench(spaces, splits, cell.features, seed)
    is_large = grid.backend.is_large(cell.head, len(splits[0].train))
    # In a worker: this process may hold torch, which XGBoost shall not meet.
    try:
        scorer = grid.backend.call(fit_scorer, bench, cell.head, is_large=is_large)
    except ProcessDied as error:
        msg = f"the process that fitted it again died ({error})"
        raise BundleError(msg) from error
    # Vectors of a few test pairs, matches and non-matches.
    test = splits[0].test
    rows = np.linspace(0, len(test) - 1, min(_N_GOLDEN, len(test))).astype(int)
    golden = base[test.left[rows]], base[test.right[rows]]
    return FittedCell(vectorizer, projection, scorer), golden
