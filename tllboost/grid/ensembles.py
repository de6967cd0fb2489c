"""``--ensemble K``: the mean of the K best cells, as one more row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.calibration import best_threshold, fit_calibration
from tllboost.errors import UsageError
from tllboost.grid.data import GridData
from tllboost.grid.measure import side_figures
from tllboost.grid.plan import Cell, digest
from tllboost.grid.records import read_scores, write_record, write_scores
from tllboost.grid.scored import ScoredSide
from tllboost.grid.workers import failed
from tllboost.metrics import LOWER_IS_BETTER
from tllboost.projections import NONE
from tllboost.splits import PairSet, Protocol

__all__ = [
    "ENSEMBLE",
    "add_ensemble",
    "ensemble_cell",
    "ensemble_record",
    "members_of",
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
    """Return the records of one seed that its validation side likes best.

    Each seed chooses by its own validation side alone: another seed's may hold what is
    this one's test side.

    Raises
    ------
    UsageError
        If fewer cells than that succeeded.
    """
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    measured = [
        record
        for record in records
        if record["status"] == "ok" and record["validation"][metric] is not None
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
            sign * record["validation"][metric],
            record["validation"]["brier"],
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
