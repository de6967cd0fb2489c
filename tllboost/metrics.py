"""Ranking and binary metrics of one cell, and their 95 % intervals.

Ranking is measured as the challenge does: each query's match against the others of its
list. A tie counts against us: a match's rank is one more than the number of non-matches
that score at least as high. Intervals are percentile bootstraps over the components of
the queries (Efron & Tibshirani, 1993): pairs that share images are drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BINARY_METRICS",
    "N_RESAMPLES",
    "RANKING_METRICS",
    "binary_metrics",
    "bootstrap_mean",
    "cluster_counts",
    "interval",
    "match_ranks",
    "ranking_values",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RANKING_METRICS = ("top1", "top2", "top5", "mrr")
BINARY_METRICS = (
    "roc_auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "brier",
    "ece",
)
N_RESAMPLES = 1000
_ECE_BINS = 10
_BLOCK_VALUES = 2_000_000


def match_ranks(
    score: NDArray[np.floating], label: NDArray[np.integer], query: Integers
) -> tuple[Integers, Integers, Integers]:
    """Return the rank of each query's best match.

    Parameters
    ----------
    score : ndarray of shape (n_pairs,)
        Larger for a likelier match.
    label : ndarray of shape (n_pairs,)
        1 for a match.
    query : ndarray of shape (n_pairs,), int64
        Ranking list of each pair; -1 is in none.

    Returns
    -------
    queries : ndarray of shape (n_queries,), int64
        Codes of the lists that hold a match and a non-match, ascending.
    ranks : ndarray of shape (n_queries,), int64
        1 is best; ties are counted against the match.
    sizes : ndarray of shape (n_queries,), int64
        Candidates a match was ranked among, itself included.

    Examples
    --------
    >>> match_ranks(
    ...     np.array([0.9, 0.3, 0.9, 0.1]), np.array([1, 0, 0, 0]), np.zeros(4, int)
    ... )
    (array([0]), array([2]), array([4]))
    """
    listed = np.flatnonzero(query >= 0)
    codes, of_row = np.unique(query[listed], return_inverse=True)
    listed_score = np.asarray(score, dtype=np.float64)[listed]
    is_match = label[listed] == 1
    best = np.full(len(codes), -np.inf)
    np.maximum.at(best, of_row[is_match], listed_score[is_match])
    others = np.bincount(of_row[~is_match], minlength=len(codes))
    # `not <` rather than `>=`: a score that is NaN must never help.
    above = ~is_match & ~(listed_score < best[of_row])
    ranks = 1 + np.bincount(of_row[above], minlength=len(codes))
    has_match = np.bincount(of_row[is_match], minlength=len(codes)) > 0
    kept = has_match & (others > 0)
    return codes[kept], ranks[kept], others[kept] + 1


def ranking_values(ranks: Integers) -> dict[str, Floats]:
    """Return each ranking metric's value for each query: {name: (n_queries,)}.

    Examples
    --------
    >>> {name: float(v.mean()) for name, v in ranking_values(np.array([1, 4])).items()}
    {'top1': 0.5, 'top2': 0.5, 'top5': 1.0, 'mrr': 0.625}
    """
    return {
        "top1": (ranks <= 1).astype(np.float64),
        "top2": (ranks <= 2).astype(np.float64),
        "top5": (ranks <= 5).astype(np.float64),
        "mrr": 1.0 / ranks,
    }


def cluster_counts(
    cluster: Integers, *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> tuple[Floats, Integers]:
    """Resample clusters with replacement.

    Parameters
    ----------
    cluster : ndarray of shape (n_rows,), int64
        Rows of one cluster are drawn together.
    seed : int, default=0
        The same seed draws the same clusters: that is what pairs two cells.
    n_resamples : int, default=1000
        How many resamples.

    Returns
    -------
    counts : ndarray of shape (n_resamples, n_clusters), float64
        How often each cluster was drawn.
    position : ndarray of shape (n_rows,), int64
        Column of `counts` that each row belongs to.
    """
    codes, position = np.unique(cluster, return_inverse=True)
    rng = np.random.default_rng(seed)
    share = np.full(len(codes), 1 / max(len(codes), 1))
    counts = rng.multinomial(len(codes), share, size=n_resamples)
    return counts.astype(np.float64), position


def interval(resampled: Floats) -> tuple[float, float]:
    """Return the central 95 % of resampled values, NaN where there are none."""
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_mean(
    values: Floats, cluster: Integers, *, seed: int = 0
) -> tuple[float, float, float]:
    """Return the mean of values and its 95 % interval over clusters.

    Examples
    --------
    >>> mean, low, high = bootstrap_mean(np.array([0.0, 1, 1, 1]), np.arange(4))
    >>> mean, low <= mean <= high
    (0.75, True)
    """
    if not len(values):
        return (float("nan"),) * 3
    counts, position = cluster_counts(cluster, seed=seed)
    totals = counts @ np.bincount(position, values)
    low, high = interval(totals / (counts @ np.bincount(position)))
    return float(values.mean()), low, high


def binary_metrics(
    probability: Floats,
    decision: NDArray[np.bool_],
    label: NDArray[np.integer],
    weight: Floats,
    cluster: Integers,
    *,
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """Measure match / no match, each figure with its 95 % interval.

    Parameters
    ----------
    probability : ndarray of shape (n_pairs,), float64
        Calibrated probability of a match.
    decision : ndarray of shape (n_pairs,), bool
        True where the validation-chosen threshold says match.
    label : ndarray of shape (n_pairs,)
        1 for a match.
    weight : ndarray of shape (n_pairs,), float64
        Weights; pairs of weight 0 don't count.
    cluster : ndarray of shape (n_pairs,), int64
        What the bootstrap draws together.
    seed : int, default=0
        Seed of the bootstrap.

    Returns
    -------
    dict of str to (value, low, high)
        The names of :data:`BINARY_METRICS`; NaN where a metric is not defined, as
        ``roc_auc`` of one class only.
    """
    counted = weight > 0
    order = np.argsort(-probability[counted], kind="stable")
    p, y = probability[counted][order], (label[counted][order] == 1).astype(np.float64)
    said, w = decision[counted][order].astype(np.float64), weight[counted][order]
    counts, position = cluster_counts(cluster[counted][order], seed=seed)
    step = max(1, _BLOCK_VALUES // max(1, len(p)))
    figures = {}
    for name, metric in _binary_functions(p, y, said).items():
        value = float(metric(w[None])[0]) if len(p) else float("nan")
        resampled = [
            metric(counts[start : start + step][:, position] * w)
            for start in range(0, len(counts), step)
        ]
        figures[name] = (value, *interval(np.concatenate(resampled)))
    return figures


def _binary_functions(
    p: Floats, y: Floats, said: Floats
) -> Mapping[str, Callable[[Floats], Floats]]:
    """Return each metric as a function of weights (n_resamples, n_pairs).

    Rows are sorted by falling probability, so curves are cumulated sums.
    """
    last = np.append(p[1:] < p[:-1], True)

    def curves(w: Floats) -> tuple[Floats, Floats]:
        return np.cumsum(w * y, axis=1)[:, last], np.cumsum(w * (1 - y), axis=1)[:, last]

    def roc_auc(w: Floats) -> Floats:
        hits, alarms = (_from_zero(curve) for curve in curves(w))
        area = (np.diff(alarms) * (hits[:, 1:] + hits[:, :-1]) / 2).sum(axis=1)
        return _ratio(area, hits[:, -1] * alarms[:, -1])

    def average_precision(w: Floats) -> Floats:
        hits, alarms = curves(w)
        precision = _ratio(hits, hits + alarms)
        gained = np.diff(_from_zero(hits))
        return _ratio((np.nan_to_num(precision) * gained).sum(axis=1), hits[:, -1])

    def accuracy(w: Floats) -> Floats:
        return _ratio(w @ (said == y), w.sum(axis=1))

    def balanced_accuracy(w: Floats) -> Floats:
        hit, reject = _ratio(w @ (said * y), w @ y), (1 - said) * (1 - y)
        return (hit + _ratio(w @ reject, w @ (1 - y))) / 2

    def brier(w: Floats) -> Floats:
        return _ratio(w @ np.square(p - y), w.sum(axis=1))

    def ece(w: Floats) -> Floats:
        place = np.minimum((p * _ECE_BINS).astype(int), _ECE_BINS - 1)
        in_bin = np.eye(_ECE_BINS)[place]
        return _ratio(np.abs(w @ (in_bin * (p - y)[:, None])).sum(axis=1), w.sum(axis=1))

    functions = (roc_auc, average_precision, accuracy, balanced_accuracy, brier, ece)
    return dict(zip(BINARY_METRICS, functions, strict=True))


def _from_zero(curve: Floats) -> Floats:
    return np.concatenate([np.zeros((len(curve), 1)), curve], axis=1)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """Divide; NaN where the bottom is zero."""
    return np.divide(top, bottom, out=np.full_like(top, np.nan, float), where=bottom > 0)
