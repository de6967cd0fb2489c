"""Compare boosted trees on groups of columns with plain ones on the best columns.

Run it as ``python benchmarks/boosting_filter.py``. It fits the heads ``xgboost`` and
``xgboost-rank`` on tll and dvd-covers as the package grows them, and again on the
columns alone that say most about the training labels beyond the cosine; the number of
columns is for validation to choose.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.files import csv_text, write_text
from tllboost.grid.data import GridData, gather
from tllboost.grid.measure import ScoredSide, one_thread
from tllboost.heads import boosting
from tllboost.heads.base import Training, clearly_better, cosine_curve, within_memory
from tllboost.heads.boosting import XGBoostHead, XGBoostRankHead
from tllboost.scoring import PairScorer
from tllboost.splits import Protocol
from tllboost.store import default_store
from tllboost.vectorizers import make_vectorizer

sys.path.append(str(Path(__file__).parent / "pocket"))
from validation_sides import read_set

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
NETWORKS = [f"onnx:{SHARED}/weights/{n}.onnx" for n in ("mobilenetv2", "squeezenet1_1")]
VECTORIZERS = {
    "mobilenetv2": NETWORKS[0],
    "small": "+".join([*NETWORKS, "classic"]),
}
FIELDS = ("top2", "mrr", "roc_auc")


class Filtered:
    """Grow trees on the `n_columns` columns that correlate most with what is left.

    What is left of the labels, that is, once the start has said what it knows.
    """

    n_columns = 300

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        query: Any = None,
        validation: Any = None,
    ) -> Any:
        """As the head does that this is mixed into."""
        side = Training(X, np.asarray(y), sample_weight, query)
        X, y, weight, query = within_memory(side, value_bytes=1, seed=0)
        best = None
        width = min(self.n_columns, X.shape[1])
        for start in self._starts(X, validation):
            curve = None
            if start != "none":
                curve = cosine_curve(X, y, weight, validation, frozen=start == "frozen")
            margin = boosting._start_margin(X, start, curve)
            columns = best_columns(X, y - 1 / (1 + np.exp(-margin)), weight, width)
            rows = np.concatenate([block[:, columns] for block in X.blocks()])
            bins = self.max_bin or boosting.choose_bins(*rows.shape)
            matrix = boosting.quantile_matrix(rows, bins)
            self._set_target(matrix, y, weight, query)
            matrix.set_base_margin(margin)
            some = validation._replace(features=Columns(validation.features, columns))
            booster, losses = self._grow(matrix, bins, start, curve, some, best)
            if best is None or clearly_better(losses, best):
                best, self.columns_ = losses, columns
                self.booster_, self.start_, self.baseline_ = booster, start, curve
        return self

    def decision_function(self, X: Any) -> Any:
        """Return the margin."""
        return super().decision_function(Columns(X, self.columns_))


class Columns:
    """Some columns of pair features, merged once."""

    def __init__(self, features: Any, columns: Any) -> None:
        self.features = features
        self.rows = np.concatenate([b[:, columns] for b in features.blocks()])
        self.cosine, self.frozen_cosine = features.cosine, features.frozen_cosine

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self) -> Any:
        """Yield all rows."""
        yield self.rows


def best_columns(X: Any, left_over: Any, weight: Any, n_columns: int) -> Any:
    """Return the columns of largest correlation with `left_over`, in order."""
    weight = np.ones(len(left_over)) if weight is None else weight
    left_over = left_over - np.average(left_over, weights=weight)
    first = second = along = 0.0
    start = 0
    for block in X.blocks():
        rows = slice(start, start + len(block))
        w = weight[rows].astype(np.float32)
        first = first + w @ block
        second = second + w @ np.square(block)
        along = along + (w * left_over[rows].astype(np.float32)) @ block
        start = rows.stop
    spread = np.sqrt(np.maximum(second / weight.sum() - (first / weight.sum()) ** 2, 0))
    score = np.abs(along) / np.maximum(spread, 1e-12)
    return np.sort(np.argsort(-score, kind="stable")[:n_columns])


def heads(n_columns: int | None) -> dict[str, Any]:
    """Return the two heads, as they are or on the best columns."""
    kinds = {"xgboost": XGBoostHead, "xgboost-rank": XGBoostRankHead}
    if n_columns is None:
        return {name: kind(n_jobs=1) for name, kind in kinds.items()}
    return {
        name: type(kind.__name__, (Filtered, kind), {"n_columns": n_columns})(n_jobs=1)
        for name, kind in kinds.items()
    }


def measure(data: GridData, vectors: Any, seed: int, merge: str, head: Any) -> Any:
    """Return test and validation figures, and seconds to fit."""
    (split,) = data.splits(Protocol(), seed)
    scorer = PairScorer(merge, seed=seed)
    sides = (split.train, split.validation, split.test)
    train, validation, test = (scorer.features(vectors, side) for side in sides)
    scorer.head = head.set_params(random_state=seed)
    started = time.process_time()
    with one_thread():
        scorer.fit(train, split.train, validation, split.validation)
        seconds = time.process_time() - started
        found = []
        for rows, pairs in ((test, split.test), (validation, split.validation)):
            side, score = ScoredSide(), scorer.score(rows)
            odds = scorer.calibration_.log_odds(score)
            side.add(pairs, score, odds, scorer.threshold_)
            figures, _ = side.figures(resample=False)
            found.append([figures[name].value for name in FIELDS])
    booster = scorer.head_.booster_
    n_trees = 0 if booster is None else booster.num_boosted_rounds()
    return [*found[0], *found[1], seconds, n_trees, train.shape]


def main() -> None:
    """Fit, print a row a fit, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", default="0,100,300,600")
    parser.add_argument("--vectorizers", default="small")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    said = parser.parse_args()
    names = ["set", "vectorizer", "merge", "head", "columns", "seed"]
    names += [*(f"test {n}" for n in FIELDS), *(f"validation {n}" for n in FIELDS)]
    names += ["seconds", "trees"]
    rows = []
    for name in ("tll", "dvd-covers"):
        made = {v: make_vectorizer(VECTORIZERS[v]) for v in said.vectorizers.split(",")}
        table = read_set(SHARED / "data", name)
        data = gather(table, made, store=default_store())
        for vectorizer, merge, head, columns, seed in product(
            made,
            ("dot", "l1"),
            ("xgboost", "xgboost-rank"),
            map(int, said.columns.split(",")),
            range(said.seeds),
        ):
            vectors = data.vectors[vectorizer].array
            one = heads(columns or None)[head]
            *found, shape = measure(data, vectors, seed, merge, one)
            rows.append([name, vectorizer, merge, head, columns, seed, *found])
            print(*rows[-1][:6], *(f"{x:.3f}" for x in found), shape, flush=True)
    if said.out:
        write_text(said.out, csv_text(names, rows))


if __name__ == "__main__":
    main()
