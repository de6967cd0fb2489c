"""The plots of one cell as points: how good, how sure, how well it ranks.

All seeds and folds count together, as log-odds that each fold's validation side has
calibrated. Pairs are weighed as the binary metrics weigh them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.metrics import match_ranks
from tllboost.splits import PairSet

__all__ = ["curves"]

Floats = NDArray[np.float64]
Scored = tuple[PairSet, Floats]

_POINTS = 60
_BINS = 10
_BARS = 20
_DIGITS = 4
_LONGEST = 50


def curves(tested: Sequence[Scored]) -> dict[str, Any] | None:
    """Return the points of all plots of a cell, or None where nothing was tested.

    Parameters
    ----------
    tested : sequence of (PairSet, ndarray of shape (n_pairs,))
        Test pairs and their log-odds, a fold each.

    Returns
    -------
    dict or None
        ``roc`` (false and true positive rate), ``pr`` (recall and precision),
        ``reliability`` (mean probability said, share of matches seen and number of
        pairs of each of ten bins), ``histogram`` (edges of 20 bins, and the share of
        all matches, and of all others, in each), ``topk`` (share of queries whose match
        ranks k-th or better, k from 1).

    Examples
    --------
    >>> columns = [np.arange(4), np.arange(4), np.array([1, 0, 1, 0])]
    >>> pairs = PairSet(*columns, np.array([0, 0, 1, 1]), np.ones(4), np.arange(4))
    >>> found = curves([(pairs, np.array([2.0, -2.0, 1.0, -1.0]))])
    >>> found["topk"], found["roc"]
    ([1.0, 1.0], [[0.0, 0.0, 0.0, 1.0], [0.0, 0.5, 1.0, 1.0]])
    """
    if not tested:
        return None
    from scipy.special import expit

    label = np.concatenate([pairs.label == 1 for pairs, _ in tested])
    weight = np.concatenate([pairs.weight for pairs, _ in tested])
    log_odds = np.concatenate([scores for _, scores in tested])
    told = weight > 0
    both = np.any(label[told]) and not np.all(label[told])
    found: dict[str, Any] = {"topk": _top_k(tested)}
    if both:
        columns = label[told], weight[told], log_odds[told]
        probability = expit(columns[2])
        found |= {
            "roc": _roc(*columns),
            "pr": _precision_recall(*columns),
            "reliability": _reliability(*columns[:2], probability),
            "histogram": _histogram(*columns[:2], probability),
        }
    return found


def _roc(label: NDArray[np.bool_], weight: Floats, score: Floats) -> list[list[float]]:
    from sklearn.metrics import roc_curve

    alarms, hits, _ = roc_curve(label, score, sample_weight=weight)
    return _thinned(alarms, hits)


def _precision_recall(
    label: NDArray[np.bool_], weight: Floats, score: Floats
) -> list[list[float]]:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(label, score, sample_weight=weight)
    return _thinned(recall[::-1], precision[::-1])


def _reliability(
    label: NDArray[np.bool_], weight: Floats, probability: Floats
) -> dict[str, list[Any]]:
    place = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    total = np.bincount(place, weight, _BINS)
    some = total > 0
    said = np.bincount(place, weight * probability, _BINS)[some] / total[some]
    seen = np.bincount(place, weight * label, _BINS)[some] / total[some]
    n_pairs = np.bincount(place, minlength=_BINS)[some]
    return {"said": _rounded(said), "seen": _rounded(seen), "n": n_pairs.tolist()}


def _histogram(
    label: NDArray[np.bool_], weight: Floats, probability: Floats
) -> dict[str, list[float]]:
    edges = np.linspace(0, 1, _BARS + 1)

    def share(rows: NDArray[np.bool_]) -> list[float]:
        counts, _ = np.histogram(probability[rows], edges, weights=weight[rows])
        return _rounded(counts / counts.sum())

    return {"edges": _rounded(edges), "match": share(label), "other": share(~label)}


def _top_k(tested: Sequence[Scored]) -> list[float]:
    ranked = [match_ranks(scores, p.label, p.query)[1:] for p, scores in tested]
    ranks = np.concatenate([rank for rank, _ in ranked])
    sizes = np.concatenate([size for _, size in ranked])
    if not len(ranks):
        return []
    longest = min(int(sizes.max()), _LONGEST)
    return _rounded(np.array([(ranks <= k).mean() for k in range(1, longest + 1)]))


def _thinned(x: Floats, y: Floats) -> list[list[float]]:
    """Keep points that lie about evenly along a curve, its ends among them."""
    along = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    places = np.searchsorted(along, np.linspace(0, along[-1], _POINTS))
    kept = np.unique(np.append(np.minimum(places, len(x) - 1), [0, len(x) - 1]))
    return [_rounded(x[kept]), _rounded(y[kept])]


def _rounded(values: Floats) -> list[float]:
    return np.round(values, _DIGITS).tolist()  # type: ignore[no-any-return]
