"""The ensemble of the best cells as one more row, and fitted cells as bundles.

What is best is told by the validation set alone. ``best.tllb`` holds the cell that it
chose, ``ensemble.tllb`` the mean of the K best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.calibration import Calibration, best_threshold, fit_calibration
from tllboost.errors import BundleError, TllboostError, UsageError
from tllboost.grid.cells import Cell, digest, parts_of
from tllboost.grid.data import Grid
from tllboost.grid.measure import Bench, ScoredSet, figures_of, fit_scorer
from tllboost.grid.records import read_scores, write_record, write_scores
from tllboost.grid.summary import by_validation, figure
from tllboost.grid.work import failed, prepared_splits, read_projection, spaces_of
from tllboost.metrics import METRICS
from tllboost.processes import ProcessDied
from tllboost.projections import NONE
from tllboost.splits import Split
from tllboost.vectorizing import space_of

__all__ = ["add_ensemble", "ensemble_cell", "members_of", "save_bundles"]

ENSEMBLE = "ensemble"
_N_GOLDEN = 8

Record = dict[str, Any]
Row = dict[str, Any]
_Member = tuple[Cell, Any, str, NDArray[np.float32], Sequence[Path]]
"""A cell, its vectorizer, what its vectors are stored under, the vectors of all
images, and the file of its projection."""


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
    """Return the records of one seed that are best on its validation set.

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
    rows: Sequence[Row], records: Sequence[Record], grid: Grid
) -> tuple[Row | None, list[str]]:
    """Save the best row on validation that a bundle can hold, and the ensemble.

    Returns that row, and notes on what no bundle could hold.
    """
    chosen, notes = None, []
    for row in by_validation(rows, grid.metric):
        try:
            _save(grid.out / "best.tllb", row, records, grid)
        except TllboostError as error:  # such as weights that no hub gives any more
            notes.append(f"best.tllb skips a cell: {error}")
            continue
        chosen = row
        break
    for row in rows:
        if row["vectorizer"] == ENSEMBLE and row["status"] == "ok":
            try:
                _save(grid.out / "ensemble.tllb", row, records, grid)
            except TllboostError as error:
                notes.append(f"no ensemble.tllb: {error}")
    return chosen, notes


def _save(path: Path, row: Row, records: Sequence[Record], grid: Grid) -> None:
    """Fit a row again on the first seed, whose test figures it keeps, and save it.

    In a worker: this process may hold torch, which XGBoost shall not meet.
    """
    backend, data, seed = grid.backend, grid.data, grid.seeds[0]
    split = data.splits(seed)[0]
    (own,) = (
        one
        for one in records
        if one["seed"] == seed and one["cell"].items() <= row.items()
    )
    by_id = {record["id"]: record for record in records}
    members: list[_Member] = []
    for cell_id in own.get("members", [own["id"]]):
        part = Cell(**by_id[cell_id]["cell"])
        tuning, _ = parts_of(part.projection)
        vectorizer = grid.plan.made[part.vectorizer]
        if tuning != NONE:
            vectorizer = grid.tuned[part.vectorizer, tuning, seed][0][0]
        base = grid.bases(part.vectorizer, tuning, seed)[0]
        files = grid.learned[part.vectorizer, part.projection, seed].files[:1]
        members.append((part, vectorizer, space_of(vectorizer), base, files))
    n_train = len(split.train)
    try:
        backend.call(
            _fit_and_save,
            *(path, row, own, members, split, data.protocol.n_hard),
            is_large=any(backend.is_large(one[0].head, n_train) for one in members),
        )
    except ProcessDied as error:
        msg = f"the process that fitted it again died ({error})"
        raise BundleError(msg) from error


def _fit_and_save(
    path: Path,
    row: Mapping[str, Any],
    own: Record,
    members: Sequence[_Member],
    split: Split,
    n_hard: int,
) -> None:
    """Fit cells on one split, and save them as one bundle with its golden pairs."""
    from tllboost.bundle import save_bundle
    from tllboost.scoring import FittedCell, Scorer

    # A few test pairs, matches and non-matches.
    n_test = len(split.test)
    rows = np.linspace(0, n_test - 1, min(_N_GOLDEN, n_test)).astype(int)
    left, right = split.test.left[rows], split.test.right[rows]
    fitted, golden = [], []
    for cell, vectorizer, space, base, files in members:
        _, rest = parts_of(cell.projection)
        splits = prepared_splits([split], [base], n_hard)
        spaces = spaces_of([base], rest, files)
        scorer = fit_scorer(
            Bench(spaces, splits, cell.features, own["seed"]), cell.head
        )
        if space_of(vectorizer) != space:
            msg = f"{cell.vectorizer} is no longer what its vectors were made with"
            raise BundleError(msg)
        projection = None if rest == NONE else read_projection(rest, files[0])
        fitted.append(FittedCell(vectorizer, projection, scorer))
        golden.append((base[left], base[right]))
    combined: dict[str, Any] = {}
    if len(members) > 1:
        combined["calibration"] = Calibration(*own["calibration"][0])
        combined["threshold"] = own["thresholds"][0]
    save_bundle(
        path,
        Scorer(fitted, **combined),
        cell=own["cell"],
        metrics={name: row[name] for name in METRICS if np.isfinite(row[name])},
        golden=golden,
    )
