"""Training pairs within a fixed memory: of more, as many are drawn as fit.

So what a head holds does not grow with the number of pairs times features. What more
pairs would add by then is little: a quarter of a gigabyte is 130,000 pairs of 512
numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_BYTES", "Training", "fits_memory", "within_memory"]

MOST_BYTES = 2**28
"""Of features that a head holds at once, in the form in which it holds them."""


class Training(NamedTuple):
    """The training side of a head.

    Parameters
    ----------
    features : array-like or PairFeatures of shape (n_pairs, n_features)
    label : ndarray of shape (n_pairs,)
    weight : ndarray of shape (n_pairs,) or None
    query : ndarray of shape (n_pairs,), int64, or None
        Ranking list of each pair.
    """

    features: Any
    label: NDArray[np.integer]
    weight: NDArray[np.float64] | None = None
    query: NDArray[np.int64] | None = None

    def take(self, rows: NDArray[np.int64]) -> Training:
        """Return some of the pairs."""
        features = self.features
        return Training(
            features.take(rows) if hasattr(features, "blocks") else features[rows],
            self.label[rows],
            None if self.weight is None else self.weight[rows],
            None if self.query is None else self.query[rows],
        )


def fits_memory(training: Training, *, value_bytes: int = 4) -> bool:
    """Tell whether 256 MiB hold the features."""
    return value_bytes * int(np.prod(training.features.shape)) <= MOST_BYTES


def within_memory(
    training: Training, *, value_bytes: int = 4, seed: int | None = 0
) -> Training:
    """Return the training side, or as many of its pairs as 256 MiB hold.

    Ranking lists stay whole and in order.

    Parameters
    ----------
    training : Training
    value_bytes : int, default=4
        What a feature takes in the head: 4 for float32, 1 for a bin.
    seed : int or None, default=0
        Of the draw.

    Examples
    --------
    >>> side = Training(np.zeros((6, 2)), np.arange(6), None, np.arange(6) // 3)
    >>> within_memory(side) is side
    True
    """
    if fits_memory(training, value_bytes=value_bytes):
        return training
    n_pairs, n_features = training.features.shape
    most = max(1, MOST_BYTES // (value_bytes * n_features))
    rng = np.random.default_rng(seed)
    if training.query is None:
        return training.take(np.sort(rng.choice(n_pairs, most, replace=False)))
    _, of, sizes = np.unique(training.query, return_inverse=True, return_counts=True)
    order = rng.permutation(len(sizes))
    n_lists = max(1, int(np.searchsorted(sizes[order].cumsum(), most, side="right")))
    return training.take(np.flatnonzero(np.isin(of, order[:n_lists])))
