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

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import UsageError
from tllboost.registry import Registry

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

N_RESAMPLES = 500
_ECE_BINS = 10
_BLOCK_VALUES = 2**17  # of weights at a time: in a processor's cache, not in new memory
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
        The metrics of :data:`METRICS` that are over queries; NaN without any query.

    Examples
    --------
    >>> figures = ranking_figures(np.array([1, 4]), np.array([0, 1]))
    >>> {name: float(figure.value) for name, figure in figures.items()}
    {'top1': 0.5, 'top2': 0.5, 'top5': 1.0, 'mrr': 0.625}
    """
    measures = {
        name: partial(Resamples.mean, column=measure(ranks).astype(np.float64))
        for name, measure in _measures("queries").items()
    }
    one = np.ones(len(ranks))
    return _figures(measures, (one,) * 5, component, resample=resample)


def binary_figures(
    probability: Floats,
    decision: NDArray[np.bool_],
    label: NDArray[np.integer],
    weight: Floats,
    component: Integers,
    *,
    score: Floats | None = None,
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
    score : ndarray of shape (n_pairs,), float64, or None, default=None
        What ``roc_auc`` and ``average_precision`` order the pairs by; None orders them
        by probability, of which many round to 1.
    resample : bool, default=True
        Without, a figure has its value alone.

    Returns
    -------
    dict of str to Figure
        The metrics of :data:`METRICS` that are over pairs; NaN where one is not
        defined, as ``roc_auc`` of one class only.

    Examples
    --------
    >>> p, y = np.array([0.9, 0.2]), np.array([1, 0])
    >>> binary_figures(p, p > 0.5, y, np.ones(2), np.arange(2))["roc_auc"].value
    1.0
    """
    score = probability if score is None else score
    order = np.argsort(-score, kind="stable")
    order = order[weight[order] > 0]
    kept = (probability, label == 1, decision, score, weight)
    columns = tuple(column[order].astype(np.float64) for column in kept)
    return _figures(_measures("pairs"), columns, component[order], resample=resample)


def _figures(
    measures: Mapping[str, Callable[..., Floats]],
    columns: tuple[Floats, ...],
    component: Integers,
    *,
    resample: bool,
) -> dict[str, Figure]:
    """Measure rows as they are, and in each resample of their components.

    `columns` are those of :class:`Resamples`, each row with its own weight.
    """
    p, y, said, score, w = columns
    rest = p, y, said, score
    if not len(w):
        drawn = np.full(N_RESAMPLES, np.nan) if resample else _NONE
        return dict.fromkeys(measures, Figure(float("nan"), drawn))

    def resamples() -> Iterator[Resamples]:
        yield Resamples(*rest, w[None])
        if not resample:
            return
        n_clusters = min(int(component.max()) + 1, _MOST_CLUSTERS)
        counts = _poisson(1 << (n_clusters - 1).bit_length())
        # Very many components share counts: coarser clusters, wider intervals.
        cluster = component % _MOST_CLUSTERS
        if len(w) > _MANY:
            yield _Clustered(*rest, w[None], counts, cluster)
            return
        step = max(1, _BLOCK_VALUES // len(w))
        for start in range(0, len(counts), step):
            yield Resamples(*rest, counts[start : start + step, cluster] * w)

    # A block at a time: all resamples of many rows are more than memory should hold.
    found = [[measure(one) for measure in measures.values()] for one in resamples()]
    return {
        name: Figure(float(value[0]), np.concatenate([_NONE, *drawn]))
        for name, (value, *drawn) in zip(
            measures, zip(*found, strict=True), strict=True
        )
    }


@lru_cache(maxsize=2)
def _poisson(n_clusters: int) -> NDArray[np.uint8]:
    """Draw cluster by cluster: a cluster's counts depend on its number alone."""
    rng = np.random.default_rng(20170829)
    drawn = rng.poisson(1.0, size=(n_clusters, N_RESAMPLES)).astype(np.uint8)
    return np.ascontiguousarray(drawn.T)


@dataclass(frozen=True, eq=False)
class Resamples:
    """Resamples of the pairs of a test set, as a metric over pairs sees them.

    Parameters
    ----------
    p, y, said, score : ndarray of shape (n_pairs,), float64
        Probability of a match, 1 for a match, 1 where the threshold says match, and
        what the pairs are sorted by, falling.
    w : ndarray of shape (n_resamples, n_pairs), float64
        Weight of each pair in each resample.
    """

    p: Floats
    y: Floats
    said: Floats
    score: Floats
    w: Floats

    def total(self, column: NDArray[Any]) -> Floats:
        """Return the weighted sum of a column in each resample: (n_resamples,).

        Of a table (n_pairs, n_columns) it is (n_resamples, n_columns).
        """
        return self.w @ column

    @cached_property
    def size(self) -> Floats:
        """Weight of all pairs in each resample."""
        # Summed as a column is: no mean of what is at most 1 is then rounded above 1.
        return self.total(np.ones(len(self.p)))

    def mean(self, column: NDArray[Any]) -> Floats:
        """Return the weighted mean of a column in each resample: (n_resamples,)."""
        return _share(self.total(column), self.size, np.inf)

    @cached_property
    def curve(self) -> tuple[Floats, Floats]:
        """Matches and non-matches above each step: two of (n_resamples, n_steps)."""
        last = np.append(self.score[1:] < self.score[:-1], True)
        hits = np.cumsum(self.w * self.y, axis=1)[:, last]
        return hits, np.cumsum(self.w * (1 - self.y), axis=1)[:, last]


@dataclass(frozen=True, eq=False)
class _Clustered(Resamples):
    """The same of very many pairs, by counts of clusters; `w` is of no resample.

    Sums are exact. Curves have 4,096 steps, of one row at the top, where precision
    depends on each, and ever more below; within a step, matches and non-matches count
    as tied, which is nothing beside the width of an interval.
    """

    counts: NDArray[np.uint8]
    cluster: Integers

    def total(self, column: NDArray[Any]) -> Floats:
        # A sum over rows is one over clusters, which are far fewer than many rows are.
        weighted = np.atleast_2d(self.w[0] * column.T)
        n_clusters = self.counts.shape[1]
        sums = np.array([np.bincount(self.cluster, w, n_clusters) for w in weighted])
        return (self.counts.astype(np.float64) @ sums.T).reshape(-1, *column.shape[1:])

    @cached_property
    def curve(self) -> tuple[Floats, Floats]:
        from scipy.sparse import csr_array

        score, y, w = self.score, self.y, self.w[0]
        # Ties share a step: that of the first of them.
        first = np.append(True, score[1:] < score[:-1])
        start = np.maximum.accumulate(np.where(first, np.arange(len(y)), 0))
        at = np.log1p(start / _FINE) / np.log1p(len(y) / _FINE)
        place = (at * _CURVE_STEPS).astype(np.int64), self.cluster
        shape = (_CURVE_STEPS, self.counts.shape[1])
        often = np.ascontiguousarray(self.counts.T, dtype=np.float64)
        hits, alarms = (
            np.cumsum((csr_array((one, place), shape) @ often).T, axis=1)
            for one in (w * y, w * (1 - y))
        )
        return hits, alarms


def _roc_auc(pairs: Resamples) -> Floats:
    hits, alarms = map(_from_zero, pairs.curve)
    area = (np.diff(alarms) * (hits[:, 1:] + hits[:, :-1]) / 2).sum(axis=1)
    return _share(area, hits[:, -1] * alarms[:, -1])


def _average_precision(pairs: Resamples) -> Floats:
    hits, alarms = pairs.curve
    precision = _share(hits, hits + alarms)
    gained = np.diff(_from_zero(hits))
    return _share((np.nan_to_num(precision) * gained).sum(axis=1), hits[:, -1])


def _balanced_accuracy(pairs: Resamples) -> Floats:
    y, said = pairs.y, pairs.said
    recalled = _share(pairs.total(said * y), pairs.total(y))
    rejected = _share(pairs.total((1 - said) * (1 - y)), pairs.total(1 - y))
    return (recalled + rejected) / 2


def _ece(pairs: Resamples) -> Floats:
    place = np.minimum((pairs.p * _ECE_BINS).astype(int), _ECE_BINS - 1)
    gaps = np.eye(_ECE_BINS)[place] * (pairs.p - pairs.y)[:, None]
    return _share(np.abs(pairs.total(gaps)).sum(axis=1), pairs.size)


def _from_zero(curve: Floats) -> Floats:
    return np.concatenate([np.zeros((len(curve), 1)), curve], axis=1)


def _share(part: Floats, whole: Floats, most: float = 1.0) -> Floats:
    """Divide; NaN where the whole is zero, and no more than the most, by rounding."""
    share = np.full_like(part, np.nan, float)
    return np.minimum(np.divide(part, whole, out=share, where=whole > 0), most)


@dataclass(frozen=True)
class Metric:
    """A metric, as it is measured and as it is told.

    Parameters
    ----------
    title, description : str
        What it is called in full, and what it is.
    over : {"queries", "pairs"}
        What it is a mean or a sum over.
    measure : callable or str
        Over queries: of the rank of each query's match, an array, to the value of each
        query, whose mean is the metric. Over pairs: of :class:`Resamples` to the value
        in each resample. A ``package.module:function`` may stand for it.
    sign : {1, -1}, default=1
        -1 where lower is better: what turns it to more is better.
    """

    title: str
    description: str
    over: str
    measure: Callable[..., Floats] | str
    sign: int = 1


def _top(k: int, description: str) -> Metric:
    return Metric(f"top-{k} accuracy", description, "queries", lambda rank: rank <= k)


METRICS = {
    "top1": _top(1, "share of test queries whose match comes first"),
    "top2": _top(2, "share whose match comes first or second"),
    "top5": _top(5, "share whose match is among the first five"),
    "mrr": Metric(
        "mean reciprocal rank",
        "mean of 1 / rank of the match",
        "queries",
        lambda rank: 1.0 / rank,
    ),
    "roc_auc": Metric(
        "ROC AUC", "chance that a match scores above a non-match", "pairs", _roc_auc
    ),
    "average_precision": Metric(
        "average precision",
        "area under precision over recall",
        "pairs",
        _average_precision,
    ),
    "accuracy": Metric(
        "accuracy",
        "share of right decisions at the validation threshold",
        "pairs",
        lambda pairs: pairs.mean(pairs.said == pairs.y),
    ),
    "balanced_accuracy": Metric(
        "balanced accuracy",
        "mean of both classes' accuracy",
        "pairs",
        _balanced_accuracy,
    ),
    "brier": Metric(
        "Brier score",
        "mean squared error of the probability",
        "pairs",
        lambda pairs: pairs.mean(np.square(pairs.p - pairs.y)),
        sign=-1,
    ),
    "ece": Metric(
        "calibration error",
        "mean gap of predicted and observed probability, ten bins",
        "pairs",
        _ece,
        sign=-1,
    ),
}
"""All metrics, in the order of the columns of ``results.csv``: one line adds one."""


def check_metric(name: str) -> None:
    """Refuse a metric that is not known.

    Raises
    ------
    UsageError
    """
    if name not in METRICS:
        msg = f"unknown metric {name!r}: known: {', '.join(METRICS)}"
        raise UsageError(msg)


def _measures(over: str) -> dict[str, Callable[..., Floats]]:
    found = Registry("metric", {}).resolve
    return {k: found(one.measure) for k, one in METRICS.items() if one.over == over}
