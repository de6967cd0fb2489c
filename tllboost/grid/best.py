"""Fitted cells to bundles: the one that validation chose, and the ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.calibration import Calibration
from tllboost.cluster import Cluster
from tllboost.errors import BundleError, TllboostError
from tllboost.grid.data import GridData
from tllboost.grid.ensembles import ENSEMBLE
from tllboost.grid.large import is_large, together
from tllboost.grid.measure import Bench, fit_scorer
from tllboost.grid.plan import Cell
from tllboost.grid.processes import ProcessDied, elsewhere
from tllboost.grid.projecting import (
    Learned,
    prepared_splits,
    read_projection,
    spaces_of,
)
from tllboost.grid.result import GridResult
from tllboost.grid.suits import parts_of
from tllboost.grid.summary import by_validation
from tllboost.metrics import METRICS
from tllboost.projections import NONE
from tllboost.scorer import PairScorer
from tllboost.splits import Protocol

__all__ = ["Packing", "save_best", "save_ensemble"]

_N_GOLDEN = 8

Golden = tuple[NDArray[np.float32], NDArray[np.float32]]
Key = tuple[str, str, int]


@dataclass(frozen=True, eq=False)
class Packing:
    """What fitted cells are made of.

    Attributes
    ----------
    data : GridData
    made : dict of str to Vectorizer
        By label.
    protocol : Protocol
    seed : int
        Cells are fitted on this seed's training side, so that the figures of its test
        side stay test figures.
    learned : dict of (vectorizer, projection, seed) to Learned
    tuned : dict of (vectorizer, fine-tuning, seed) to lists of Vectorizer and ndarray
        Fine-tuned networks and their vectors, one a fold.
    cluster : Cluster or None, default=None
        Whose workers fit a large cell.
    """

    data: GridData
    made: Mapping[str, Any]
    protocol: Protocol
    seed: int
    learned: Mapping[Key, Learned]
    tuned: Mapping[Key, tuple[list[Any], list[NDArray[np.float32]]]]
    cluster: Cluster | None = None


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
    from tllboost.ensemble import ensemble

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
    from tllboost.fitted import FittedCell

    tuning, rest = parts_of(cell.projection)
    vectorizer, projection = packing.made[cell.vectorizer], None
    base = packing.data.vectors[cell.vectorizer].array
    if tuning != NONE:
        networks, arrays = packing.tuned[cell.vectorizer, tuning, packing.seed]
        vectorizer, base = networks[0], arrays[0]
    learned = Learned()
    if rest != NONE:
        learned = packing.learned[cell.vectorizer, cell.projection, packing.seed]
        projection = read_projection(rest, learned.files[0])
    splits = packing.data.splits(packing.protocol, packing.seed)[:1]
    splits = prepared_splits(splits, [base], packing.protocol.n_hard)
    bench = Bench(spaces_of([base], learned), splits, cell.features, packing.seed)
    scorer = _fit(bench, cell.head, packing.cluster)
    return FittedCell(vectorizer, projection, scorer), _golden(bench, base)


def _fit(bench: Bench, head: str, cluster: Cluster | None) -> PairScorer:
    if cluster is None or not is_large(cluster, head, len(bench.splits[0].train)):
        return _fit_elsewhere(bench, head)
    with together(cluster):
        return fit_scorer(bench, head)


def _fit_elsewhere(bench: Bench, head: str) -> PairScorer:
    """Fit in a worker: this process may hold torch, which XGBoost shall not meet."""
    try:
        return elsewhere(fit_scorer, bench, head)
    except ProcessDied as error:
        msg = f"the process that fitted it again died ({error})"
        raise BundleError(msg) from error


def _golden(bench: Bench, vectors: NDArray[np.float32]) -> Golden:
    """Return the vectors of a few test pairs, matches and non-matches."""
    test = bench.splits[0].test
    rows = np.linspace(0, len(test) - 1, min(_N_GOLDEN, len(test))).astype(int)
    return vectors[test.left[rows]], vectors[test.right[rows]]
