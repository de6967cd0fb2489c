"""``best.tllb``: the cell that validation chose, fitted and packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import UsageError
from tllboost.grid.data import GridData
from tllboost.grid.measure import Bench, fit_scorer
from tllboost.grid.result import GridResult
from tllboost.grid.summary import by_validation
from tllboost.metrics import METRICS
from tllboost.scorer import PairScorer
from tllboost.splits import Protocol

__all__ = ["save_best"]

_N_GOLDEN = 8


def save_best(
    result: GridResult,
    data: GridData,
    vectorizers: Sequence[Any],
    protocol: Protocol,
    seed: int,
    *,
    metric: str,
) -> None:
    """Save the best cell on validation that a bundle can hold, and name it.

    Fitted on the first seed's training side, so that its test figures stay test
    figures.
    """
    from tllboost.bundle import save_bundle
    from tllboost.classifier import PairClassifier

    made = {vectorizer.label: vectorizer for vectorizer in vectorizers}
    for row in by_validation(result.rows, metric):
        array = data.vectors[row["vectorizer"]].array
        merge = "dot" if row["merge"] == "none" else row["merge"]
        bench = Bench(array, data.splits(protocol, seed), merge, seed)
        scorer = _fit_elsewhere(bench, row["head"])
        classifier = PairClassifier(
            made[row["vectorizer"]], merge=merge, head=row["head"], random_state=seed
        )
        classifier.vectorizer_ = made[row["vectorizer"]]
        classifier.scorer_ = scorer
        classifier.classes_ = np.array([0, 1])
        names = ("vectorizer", "projection", "merge", "head")
        try:
            save_bundle(
                result.out / "best.tllb",
                classifier,
                cell={name: row[name] for name in names},
                metrics={name: row[name] for name in METRICS if np.isfinite(row[name])},
                golden=_golden(bench),
            )
        except UsageError as error:
            result.notes.append(f"best.tllb passes over a cell: {error}")
            continue
        result.chosen = row
        return


def _fit_elsewhere(bench: Bench, head: str) -> PairScorer:
    """Fit in a worker: this process may hold torch, which XGBoost shall not meet."""
    from joblib import Parallel, delayed

    # Two jobs: one would run in this very process.
    (scorer,) = Parallel(n_jobs=2)([delayed(fit_scorer)(bench, head)])
    return scorer


def _golden(bench: Bench) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the vectors of a few test pairs, matches and non-matches."""
    test = bench.splits[0].test
    rows = np.linspace(0, len(test) - 1, min(_N_GOLDEN, len(test))).astype(int)
    return bench.vectors[test.left[rows]], bench.vectors[test.right[rows]]
