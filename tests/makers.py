"""Small data that tests of several files share: pairs, sets, records, images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from tllboost.grid.cells import Cell
from tllboost.heads.base import PairHead
from tllboost.merges import PairFeatures
from tllboost.metrics import METRICS, N_RESAMPLES
from tllboost.scoring import PairScorer
from tllboost.splits import (
    PairSet,
    Protocol,
    Split,
    SplitTable,
    make_splits,
    match_components,
)


class Planted(NamedTuple):
    """Vectors of matching pairs that agree in their first dimensions only."""

    vectors: np.ndarray
    split: Split


def plant(
    n_pairs: int = 240,
    *,
    n_dims: int = 24,
    n_signal: int = 6,
    noise: float = 0.7,
    seed: int = 0,
    protocol: Protocol | None = None,
) -> Planted:
    """Plant pairs whose cosine says something, and of which a head can learn more."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(2 * n_pairs, n_dims)).astype(np.float32)
    vectors[n_pairs:, :n_signal] *= noise
    vectors[n_pairs:, :n_signal] += vectors[:n_pairs, :n_signal]
    left, right = np.arange(n_pairs), np.arange(n_pairs, 2 * n_pairs)
    component = match_components(2 * n_pairs, left, right)
    (split,) = make_splits(
        SplitTable(left, right, np.ones(n_pairs, dtype=np.int8), component),
        protocol=protocol or Protocol(n_distractors=9),
        seed=seed,
    )
    return Planted(vectors, split)


def fit(
    planted: Planted,
    head: Any,
    merge: Any = "dot",
    *,
    seed: int = 0,
    n_threads: int | None = None,
) -> PairScorer:
    """Fit a scorer on the training set, the validation set choosing."""
    scorer = PairScorer(merge, head, seed=seed, n_threads=n_threads)
    train, validation = planted.split.train, planted.split.validation
    scorer.compare_with(planted.vectors, train)
    return scorer.fit(
        scorer.features(planted.vectors, train),
        train,
        scorer.features(planted.vectors, validation),
        validation,
    )


def features_of(planted: Planted, side: str = "test", merge: Any = "dot") -> Any:
    """Return the lazy features of one set."""
    pairs = getattr(planted.split, side)
    return PairFeatures(planted.vectors, pairs.left, pairs.right, merge)


def auc(score: np.ndarray, pairs: PairSet) -> float:
    """Return the ROC AUC of scores, pairs weighted as they are."""
    return float(roc_auc_score(pairs.label, score, sample_weight=pairs.weight))


class Witness(PairHead):
    """A head that keeps what it was given to fit; its score is the first feature."""

    def fit(self, X: Any, y: Any, **given: Any) -> Witness:
        self.X_, self.y_, self.given_ = X, y, given
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        return np.asarray(X)[:, 0]


def record(
    cell: Cell,
    value: float,
    *,
    seed: int = 0,
    spread: float = 0.02,
    shared: int = 0,
    validation: float | None = None,
    status: str = "ok",
    error: str = "",
) -> dict[str, Any]:
    """Make the record of a cell whose every metric is `value`.

    The resamples of two records differ by the same noise where `shared` is equal.
    """
    made = {
        "id": f"{cell.name} {seed}",
        "cell": {
            "vectorizer": cell.vectorizer,
            "projection": cell.projection,
            "merge": cell.merge,
            "head": cell.head,
        },
        "seed": seed,
        "status": status,
        "error": error,
    }
    if status != "ok":
        return made
    noise = np.random.default_rng([shared, seed]).normal(0, spread, N_RESAMPLES)
    return made | {
        "figures": dict.fromkeys(METRICS, value),
        "resampled": {name: (value + noise).tolist() for name in METRICS},
        "validation": dict.fromkeys(
            METRICS, value if validation is None else validation
        ),
        "vectorize_s": 1.0,
        "fit_s": 2.0,
        "score_s": 3.0,
        "n_train_pairs": 100,
        "n_test_queries": 20,
        "n_candidates": 20.0,
        "n_features": 24,
        "threshold": 0.5,
        "peak_memory_mb": 100.0 + seed,
    }


def sets_of(split: Split) -> Iterable[tuple[str, PairSet]]:
    """Return the three sets by name."""
    return (
        ("train", split.train),
        ("validation", split.validation),
        ("test", split.test),
    )


def noise(seed: int, size: tuple[int, int] = (61, 47)) -> Image.Image:
    """Return smooth colours that differ on all sides, no line of one colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
