"""``--ensemble K``: the mean of the K best cells, as one more row.

Fitted cells to bundles: the one that validation chose, and the ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.calibration import Calibration, best_threshold, fit_calibration
from tllboost.errors import BundleError, TllboostError, UsageError
from tllboost.grid.cells import Cell, digest, parts_of
from tllboost.grid.data import GridData
from tllboost.grid.learn import (
    AllLearned,
    prepared_splits,
    read_projection,
    spaces_of,
)
from tllboost.grid.measure import Bench, ScoredSide, fit_scorer, side_figures
from tllboost.grid.outputs import GridResult
from tllboost.grid.records import read_scores, write_record, write_scores
from tllboost.grid.summary import by_validation, figure
from tllboost.grid.work import failed
from tllboost.metrics import METRICS
from tllboost.processes import Backend, ProcessDied
from tllboost.projections import NONE
from tllboost.splits import PairSet, Protocol

__all__ = [
    "Packing",
    "add_ensemble",
    "ensemble_cell",
    "members_of",
    "save_best",
    "save_ensemble",
]

ENSEMBLE = "ensemble"

Record = dict[str, Any]


def ensemble_cell(n_members: int) -> Cell:
    """Return the row's name: the K best cells, whatever they are."""
    return Cell(ENSEMBLE, NONE, NONE, f"best-{n_members}")


def add_ensemble(
    records: Sequence[Record],
    n_members: int,
    metric: str,
    data: GridData,
    protocol: Protocol,
    out: Path,
) -> list[Record]:
    """Return a record of the ensemble for each seed that there are records of.

    Where too few cells succeeded it has failed, as any cell: the others keep theirs.

    Parameters
    ----------
    records : sequence of dict
        Of all cells and seeds.
    n_members : int
    metric : str
        What validation chooses by.
    data : GridData
    protocol : Protocol
    out : Path
    """
    made = []
    for seed in dict.fromkeys(record["seed"] for record in records):
        own = [record for record in records if record["seed"] == seed]
        try:
            members = members_of(own, n_members, metric)
        except UsageError as error:
            cell, cell_id = ensemble_cell(n_members), digest("ensemble", [], seed)
            made.append(failed(cell, seed, cell_id, str(error)))
            write_record(out, made[-1])
            continue
        made.append(ensemble_record(members, data, protocol, seed, out))
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


def ensemble_record(
    members: Sequence[Record],
    data: GridData,
    protocol: Protocol,
    seed: int,
    out: Path,
) -> Record:
    """Average the log-odds of some cells, and measure and write that as a cell.

    Parameters
    ----------
    members : sequence of dict
        Records of one seed.
    data : GridData
    protocol : Protocol
    seed : int
    out : Path

    Returns
    -------
    dict
        The record; ``members`` holds the ids, ``calibration`` a curve a fold and
        ``thresholds`` a score a fold.
    """
    cell = ensemble_cell(len(members))
    ids = [record["id"] for record in members]
    scores = [read_scores(out, cell_id) for cell_id in ids]
    known = [one for one in scores if one is not None]
    test, validation = ScoredSide(), ScoredSide()
    curves, thresholds, chances = [], [], []
    for fold, split in enumerate(data.splits(protocol, seed)):
        score = {
            side: np.mean([one[side][fold] for one in known], axis=0)
            for side in ("test", "validation")
        }
        counted = split.validation.weight > 0
        labels = split.validation.label[counted], split.validation.weight[counted]
        curve = fit_calibration(score["validation"][counted], *labels)
        threshold = best_threshold(score["validation"][counted], *labels)
        sides: Mapping[str, tuple[ScoredSide, PairSet]] = {
            "test": (test, split.test),
            "validation": (validation, split.validation),
        }
        for name, (side, pairs) in sides.items():
            side.add(pairs, score[name], curve.log_odds(score[name]), threshold)
        curves.append(list(curve))
        thresholds.append(threshold)
        chances.append(float(curve.probability(np.array([threshold]))[0]))
    record: Record = {
        "id": digest("ensemble", ids, seed),
        "cell": asdict(cell),
        "seed": seed,
        "status": "ok",
        "error": "",
        **side_figures(test, validation),
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
    write_scores(out, record["id"], test, validation)
    write_record(out, record)
    return record


_N_GOLDEN = 8

Golden = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Packing:
    """What fitted cells are made of.

    Attributes
    ----------
    every : AllLearned
    made : dict of str to Vectorizer
        By label.
    seed : int
        Cells are fitted on this seed's training set, so that the figures of its test
        side stay test figures.
    backend : Processes or Cluster
        Fits the cells.
    """

    every: AllLearned
    made: Mapping[str, Any]
    seed: int
    backend: Backend


def save_best(
    result: GridResult,
    records: Sequence[dict[str, Any]],
    packing: Packing,
    *,
    metric: str,
) -> None:
    """Save the best row on validation that a bundle can hold, and name it."""
    for row in by_validation(result.rows, metric):
        try:
            _save(result, "best.tllb", row, records, packing)
        except TllboostError as error:  # such as weights that no hub gives any more
            result.notes.append(f"best.tllb passes over a cell: {error}")
            continue
        result.chosen = row
        return


def save_ensemble(
    result: GridResult, records: Sequence[dict[str, Any]], packing: Packing
) -> None:
    """Save the ensemble, where there is one and a bundle can hold it."""
    for row in result.rows:
        if row["vectorizer"] == ENSEMBLE and row["status"] == "ok":
            try:
                _save(result, "ensemble.tllb", row, records, packing)
            except TllboostError as error:
                result.notes.append(f"no ensemble.tllb: {error}")


def _save(
    result: GridResult,
    name: str,
    row: Mapping[str, Any],
    records: Sequence[dict[str, Any]],
    packing: Packing,
) -> None:
    from tllboost.bundle import save_bundle
    from tllboost.classifier import ensemble

    cell = Cell(row["vectorizer"], row["projection"], row["merge"], row["head"])
    (own,) = [
        record
        for record in records
        if Cell(**record["cell"]) == cell and record["seed"] == packing.seed
    ]
    by_id = {record["id"]: record for record in records}
    members = [Cell(**by_id[one]["cell"]) for one in own.get("members", [own["id"]])]
    fitted, golden = zip(*(_fitted(one, packing) for one in members), strict=True)
    combined: dict[str, Any] = {}
    if len(members) > 1:
        combined["calibration"] = Calibration(*own["calibration"][0])
        combined["threshold"] = own["thresholds"][0]
    names = ("vectorizer", "projection", "merge", "head")
    save_bundle(
        result.out / name,
        ensemble(fitted, **combined),
        cell={name: row[name] for name in names},
        metrics={name: row[name] for name in METRICS if np.isfinite(row[name])},
        golden=golden[0] if len(members) == 1 else list(golden),
    )


def _fitted(cell: Cell, packing: Packing) -> tuple[Any, Golden]:
    """Fit a cell on the first fold; return it, and the vectors of its golden pairs."""
    from tllboost.scoring import FittedCell

    tuning, rest = parts_of(cell.projection)
    every, vectorizer, projection = packing.every, packing.made[cell.vectorizer], None
    key = (cell.vectorizer, cell.projection, packing.seed)
    base = every.bases(*key)[0]
    if tuning != NONE:
        vectorizer = every.tuned[cell.vectorizer, tuning, packing.seed][0][0]
    learned = every.of(*key)
    if rest != NONE:
        projection = read_projection(rest, learned.files[0])
    splits = every.data.splits(every.protocol, packing.seed)[:1]
    splits = prepared_splits(splits, [base], every.protocol.n_hard)
    bench = Bench(spaces_of([base], learned), splits, cell.features, packing.seed)
    is_large = packing.backend.is_large(cell.head, len(splits[0].train))
    # In a worker: this process may hold torch, which XGBoost shall not meet.
    try:
        scorer = packing.backend.call(fit_scorer, bench, cell.head, is_large=is_large)
    except ProcessDied as error:
        msg = f"the process that fitted it again died ({error})"
        raise BundleError(msg) from error
    return FittedCell(vectorizer, projection, scorer), _golden(bench, base)


def _golden(bench: Bench, vectors: NDArray[np.float32]) -> Golden:
    """Return the vectors of a few test pairs, matches and non-matches."""
    test = bench.splits[0].test
    rows = np.linspace(0, len(test) - 1, min(_N_GOLDEN, len(test))).astype(int)
    return vectors[test.left[rows]], vectors[test.right[rows]]
