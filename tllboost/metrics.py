"""Ranking and binary metrics of one cell, and the resamples behind their intervals.

Ranking is measured as the challenge does: each query's match against the others of its
list. A tie counts against us: a match's rank is one more than the number of non-matches
that score at least as high.

Intervals are Poisson bootstraps over components: in each resample a component, with all
its queries and pairs, counts Poisson(1) times (Hanley & MacGibbon, 2006). A component's
counts depend on nothing but its number, so two cells, or two seeds, are resampled alike
and the difference of their resamples is the paired difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BINARY_METRICS",
    "EXPLAINED",
    "LOWER_IS_BETTER",
    "METRICS",
    "N_RESAMPLES",
    "RANKING_METRICS",
    "Figure",
    "binary_figures",
    "interval",
    "match_ranks",
    "ranking_figures",
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
METRICS = RANKING_METRICS + BINARY_METRICS
EXPLAINED = {
    "top1": ("top-1 accuracy", "share of test queries whose match comes first"),
    "top2": ("top-2 accuracy", "share whose match comes first or second"),
    "top5": ("top-5 accuracy", "share whose match is among the first five"),
    "mrr": ("mean reciprocal rank", "mean of 1 / rank of the match"),
    "roc_auc": ("ROC AUC", "chance that a match scores above a non-match"),
    "average_precision": ("average precision", "area under precision over recall"),
    "accuracy": ("accuracy", "share of pairs called right, threshold of validation"),
    "balanced_accuracy": ("balanced accuracy", "mean of both classes' accuracy"),
    "brier": ("Brier score", "mean squared error of the probability"),
    "ece": ("calibration error", "mean gap of said and seen probability, ten bins"),
}
"""What each is called in full, and what it is."""
LOWER_IS_BETTER = frozenset({"brier", "ece"})
N_RESAMPLES = 500
_ECE_BINS = 10
_BLOCK_VALUES = 2_000_000
_MOST_CLUSTERS = 20_000
_MANY = 20_000  # rows; resamples of more are made of sums of clusters
_CURVE_STEPS = 4_096
_FINE = 500  # rows at the top of a curve, where steps are of one row
_NONE = np.empty(0)


class Figure(NamedTuple):
    """A metric's value, and its value in each resample: (n_resamples,) float64."""

    value: float
    resampled: Floats


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
    with np.errstate(invalid="ignore"):  # NaN beats all here, and so ranks last
        np.maximum.at(best, of_row[is_match], listed_score[is_match])
    others = np.bincount(of_row[~is_match], minlength=len(codes))
    # `not <` rather than `>=`: a score that is NaN must never help.
    above = ~is_match & ~(listed_score < best[of_row])
    ranks = 1 + np.bincount(of_row[above], minlength=len(codes))
    has_match = np.bincount(of_row[is_match], minlength=len(codes)) > 0
    kept = has_match & (others > 0)
    return codes[kept], ranks[kept], others[kept] + 1


def ranking_figures(
    ranks: Integers, component: Integers, *, resample: bool = True
) -> dict[str, Figure]:
    """Measure the ranks of the matches.

    Parameters
    ----------
    ranks : ndarray of shape (n_queries,), int64
        See :func:`match_ranks`.
    component : ndarray of shape (n_queries,), int64
        What the bootstrap draws together.
    resample : bool, default=True
        Without, a figure has its value alone.

    Returns
    -------
    dict of str to Figure
        The names of :data:`RANKING_METRICS`; NaN without any query.

    Examples
    --------
    >>> figures = ranking_figures(np.array([1, 4]), np.array([0, 1]))
    >>> {name: float(figure.value) for name, figure in figures.items()}
    {'top1': 0.5, 'top2': 0.5, 'top5': 1.0, 'mrr': 0.625}
    """
    values = {f"top{k}": (ranks <= k).astype(np.float64) for k in (1, 2, 5)}
    values["mrr"] = 1.0 / ranks
    means = {
        name: float(value.mean()) if len(value) else float("nan")
        for name, value in values.items()
    }
    if not resample:
        return {name: Figure(mean, _NONE) for name, mean in means.items()}
    counts, cluster = _counts(component), _cluster(component)
    if len(ranks) > _MANY:
        columns = (*values.values(), np.ones(len(ranks)))
        *sums, total = _drawn_sums(counts, cluster, columns)
    else:
        drawn = counts[:, cluster].astype(np.float64)
        sums, total = [drawn @ value for value in values.values()], drawn.sum(axis=1)
    return {
        name: Figure(means[name], _ratio(one, total))
        for name, one in zip(values, sums, strict=True)
    }


def interval(resampled: Floats) -> tuple[float, float]:
    """Return the central 95 % of resampled values, NaN where there are none."""
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def binary_figures(
    probability: Floats,
    decision: NDArray[np.bool_],
    label: NDArray[np.integer],
    weight: Floats,
    component: Integers,
    *,
    resample: bool = True,
) -> dict[str, Figure]:
    """Measure match / no match.

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
    component : ndarray of shape (n_pairs,), int64
        What the bootstrap draws together.
    resample : bool, default=True
        Without, a figure has its value alone.

    Returns
    -------
    dict of str to Figure
        The names of :data:`BINARY_METRICS`; NaN where a metric is not defined, as
        ``roc_auc`` of one class only.

    Examples
    --------
    >>> p, y = np.array([0.9, 0.2]), np.array([1, 0])
    >>> binary_figures(p, p > 0.5, y, np.ones(2), np.arange(2))["roc_auc"].value
    1.0
    """
    order = np.argsort(-probability, kind="stable")
    order = order[weight[order] > 0]
    if not len(order):
        drawn = np.full(N_RESAMPLES, np.nan) if resample else _NONE
        return dict.fromkeys(BINARY_METRICS, Figure(float("nan"), drawn))
    p, y = probability[order], (label[order] == 1).astype(np.float64)
    said, w = decision[order].astype(np.float64), weight[order]
    measure = _binary_measure(p, y, said)
    values = measure(w[None])
    if not resample:
        return {name: Figure(float(value[0]), _NONE) for name, value in values.items()}
    counts, cluster = _counts(component), _cluster(component[order])
    if len(p) > _MANY:
        many = _drawn_figures(p, y, said, w, counts, cluster)
        return {name: Figure(float(values[name][0]), many[name]) for name in values}
    step = max(1, _BLOCK_VALUES // len(p))
    blocks = [
        measure(counts[start : start + step, cluster] * w)
        for start in range(0, len(counts), step)
    ]
    return {
        name: Figure(float(value[0]), np.concatenate([block[name] for block in blocks]))
        for name, value in values.items()
    }


def _cluster(component: Integers) -> Integers:
    """Return the column of :func:`_counts` of each row.

    Very many components share columns: coarser clusters, wider intervals.
    """
    return component % _MOST_CLUSTERS


def _counts(component: Integers) -> NDArray[np.uint8]:
    """Return how often each cluster counts in each resample."""
    n_clusters = min(int(component.max(initial=0)) + 1, _MOST_CLUSTERS)
    return _poisson(1 << (n_clusters - 1).bit_length())


@lru_cache(maxsize=2)
def _poisson(n_clusters: int) -> NDArray[np.uint8]:
    """Draw cluster by cluster: a cluster's counts depend on its number alone."""
    rng = np.random.default_rng(20170829)
    drawn = rng.poisson(1.0, size=(n_clusters, N_RESAMPLES)).astype(np.uint8)
    return np.ascontiguousarray(drawn.T)


def _binary_measure(
    p: Floats, y: Floats, said: Floats
) -> Callable[[Floats], dict[str, Floats]]:
    """Return all metrics as a function of weights (n_resamples, n_pairs).

    Rows are sorted by falling probability, so curves are cumulated sums.
    """
    last = np.append(p[1:] < p[:-1], True)
    place = np.minimum((p * _ECE_BINS).astype(int), _ECE_BINS - 1)
    gaps = np.eye(_ECE_BINS)[place] * (p - y)[:, None]
    reject = (1 - said) * (1 - y)

    def measure(w: Floats) -> dict[str, Floats]:
        hits = np.cumsum(w * y, axis=1)[:, last]
        alarms = np.cumsum(w * (1 - y), axis=1)[:, last]
        total, recalled = w.sum(axis=1), _ratio(w @ (said * y), w @ y)
        found = (
            _roc_auc(hits, alarms),
            _average_precision(hits, alarms),
            _ratio(w @ (said == y), total),
            (recalled + _ratio(w @ reject, w @ (1 - y))) / 2,
            _ratio(w @ np.square(p - y), total),
            _ratio(np.abs(w @ gaps).sum(axis=1), total),
        )
        return dict(zip(BINARY_METRICS, found, strict=True))

    return measure


def _drawn_sums(
    counts: NDArray[np.uint8], cluster: Integers, columns: Iterable[Floats]
) -> Floats:
    """Return the sum of each column in each resample: (n_columns, n_resamples).

    A sum over rows is one over clusters, which are far fewer than many rows are.
    """
    n_clusters = counts.shape[1]
    of_cluster: Floats = np.array(
        [np.bincount(cluster, one, n_clusters) for one in columns], dtype=np.float64
    )
    return of_cluster @ counts.T.astype(np.float64)


def _drawn_figures(
    p: Floats,
    y: Floats,
    said: Floats,
    w: Floats,
    counts: NDArray[np.uint8],
    cluster: Integers,
) -> dict[str, Floats]:
    """Return the metrics of each resample of very many rows, as `_binary_measure` does.

    Sums are exact. Curves have 4,096 steps, of one row at the top, where precision
    depends on each, and ever more below; within a step, matches and non-matches count
    as tied, which is nothing beside the width of an interval.
    """
    from scipy.sparse import csr_array

    place = np.minimum((p * _ECE_BINS).astype(int), _ECE_BINS - 1)
    total, matches, recalled, rejected, right, squares, *gaps = _drawn_sums(
        counts,
        cluster,
        (
            *(w, w * y, w * said * y, w * (1 - said) * (1 - y), w * (said == y)),
            w * np.square(p - y),
            *(w * (p - y) * (place == i) for i in range(_ECE_BINS)),
        ),
    )
    # Ties share a step: that of the first of them.
    first = np.append(True, p[1:] < p[:-1])
    start = np.maximum.accumulate(np.where(first, np.arange(len(p)), 0))
    at = np.log1p(start / _FINE) / np.log1p(len(p) / _FINE)
    step = (at * _CURVE_STEPS).astype(np.int64)
    shape = (_CURVE_STEPS, counts.shape[1])
    often = np.ascontiguousarray(counts.T, dtype=np.float64)
    hits, alarms = (
        np.cumsum((csr_array((one, (step, cluster)), shape) @ often).T, axis=1)
        for one in (w * y, w * (1 - y))
    )
    found = (
        _roc_auc(hits, alarms),
        _average_precision(hits, alarms),
        _ratio(right, total),
        (_ratio(recalled, matches) + _ratio(rejected, total - matches)) / 2,
        _ratio(squares, total),
        _ratio(np.abs(gaps).sum(axis=0), total),
    )
    return dict(zip(BINARY_METRICS, found, strict=True))


def _roc_auc(hits: Floats, alarms: Floats) -> Floats:
    hits, alarms = _from_zero(hits), _from_zero(alarms)
    area = (np.diff(alarms) * (hits[:, 1:] + hits[:, :-1]) / 2).sum(axis=1)
    return _ratio(area, hits[:, -1] * alarms[:, -1])


def _average_precision(hits: Floats, alarms: Floats) -> Floats:
    precision = _ratio(hits, hits + alarms)
    gained = np.diff(_from_zero(hits))
    return _ratio((np.nan_to_num(precision) * gained).sum(axis=1), hits[:, -1])


def _from_zero(curve: Floats) -> Floats:
    return np.concatenate([np.zeros((len(curve), 1)), curve], axis=1)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """Divide; NaN where the bottom is zero."""
    return np.divide(
        top, bottom, out=np.full_like(top, np.nan, float), where=bottom > 0
    )
