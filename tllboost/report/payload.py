"""The plots of one cell as points: how good, how sure, how well it ranks.

All seeds and folds count together, as log-odds that each fold's validation set has
calibrated. Pairs are weighed as the binary metrics weigh them.

The images to look at: where the chosen cell was best, and where it was wrong.

The cell is the one that validation chose; which queries are shown is told by their test
scores, since they are here to be looked at and choose nothing.

What report.html shows, as data.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost import __version__
from tllboost.grid.matrix import make_matrix
from tllboost.images.thumbnails import make_thumbnails
from tllboost.metrics import METRICS, match_ranks
from tllboost.report.run import Run
from tllboost.splits import PROTOCOLS, PairSet

__all__ = ["curves", "gallery", "payload"]

Floats = NDArray[np.float64]
Scored = tuple[PairSet, Floats]

_POINTS = 60
_BINS = 10
_BARS = 20
_CURVE_DIGITS = 4
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
    return np.round(values, _CURVE_DIGITS).tolist()  # type: ignore[no-any-return]


_MOST_SHOWN, _LEAST_SHOWN = 20, 5
_MOST_PLACES = 3000
_GALLERY_DIGITS = 4


class _Query(NamedTuple):
    """One ranking list: its rows in ranked order, the match behind its ties."""

    seed: int
    pairs: PairSet
    log_odds: NDArray[np.float64]
    rows: NDArray[np.int64]

    @property
    def image(self) -> int:
        return int(self.pairs.left[self.rows[0]])

    @property
    def rank(self) -> int:
        """Place of the first match, from 1."""
        return 1 + int(np.argmax(self.pairs.label[self.rows] == 1))

    @property
    def margin(self) -> float:
        """By how much the best match beats the best other, in log-odds."""
        is_match = self.pairs.label[self.rows] == 1
        scores = self.log_odds[self.rows]
        return float(scores[is_match].max() - scores[~is_match].max())


def gallery(
    run: Run,
    n_queries: int,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any] | None:
    """Return the best and the worst test queries of the cell that validation chose.

    Parameters
    ----------
    run : Run
    n_queries : int
        How many at each end.
    progress : callable or None
        Called with (done, total, what).

    Returns
    -------
    dict or None
        The gallery of the page's data; None where there is nothing to show.
    """
    images = run.images
    if n_queries < 1 or run.chosen is None or images is None:
        return None
    tested = [
        (int(record["seed"]), *one)
        for record in run.cells.get(run.chosen, [])
        for one in run.tested(record)
    ]
    queries = _each_image_once(_queries(tested))
    queries.sort(key=lambda query: (-query.margin, query.image))
    n_ends = min(n_queries, (len(queries) + 1) // 2)
    best, worst = queries[:n_ends], queries[n_ends:][::-1][:n_queries]
    n_shown = int(
        np.clip(_MOST_PLACES // max(1, 2 * n_ends), _LEAST_SHOWN, _MOST_SHOWN)
    )
    shown = [_shown("best", query, n_shown) for query in best]
    shown += [_shown("worst", query, n_shown) for query in worst]
    wrong = {
        "false_matches": _surest(tested, 0, n_queries),
        "missed": _surest(tested, 1, n_queries),
    }
    used = sorted(_used(shown, wrong))
    thumbnails = make_thumbnails(
        {i: path for i in used if (path := images.paths[i]) is not None},
        progress=progress,
    )
    if not thumbnails:
        return None
    return {
        "cell": list(run.cells).index(run.chosen),
        "what": _what(run, n_ends),
        "images": {
            i: {
                "id": images.ids[i],
                "src": thumbnails[i].src if i in thumbnails else None,
                "w": thumbnails[i].width if i in thumbnails else 0,
                "h": thumbnails[i].height if i in thumbnails else 0,
            }
            for i in used
        },
        "queries": shown,
        **wrong,
    }


def _queries(
    tested: Sequence[tuple[int, PairSet, NDArray[np.float64]]],
) -> Iterator[_Query]:
    for seed, pairs, log_odds in tested:
        # The match last among equals: a tie counts against it.
        order = np.lexsort((pairs.label, -log_odds, pairs.query))
        order = order[pairs.query[order] >= 0]
        starts = np.flatnonzero(np.diff(pairs.query[order])) + 1
        for rows in np.split(order, starts):
            labels = pairs.label[rows] == 1
            if labels.any() and not labels.all():
                yield _Query(seed, pairs, log_odds, rows)


def _each_image_once(queries: Iterator[_Query]) -> list[_Query]:
    """Keep the first seed's query of each image."""
    found: dict[int, _Query] = {}
    for query in queries:
        found.setdefault(query.image, query)
    return list(found.values())


def _shown(end: str, query: _Query, n_shown: int) -> dict[str, Any]:
    """Return the first candidates of a query, its match in any case."""
    place = query.rank - 1
    rows = query.rows[:n_shown]
    if place >= n_shown:
        rows = np.append(rows[:-1], query.rows[place])
    return {
        "end": end,
        "query": query.image,
        "match": int(query.pairs.right[query.rows[place]]),
        "rank": query.rank,
        "among": len(query.rows),
        "seed": query.seed,
        "candidates": [
            {
                "image": int(query.pairs.right[row]),
                "rank": 1 + int(np.flatnonzero(query.rows == row)[0]),
                "p": _probability(query.log_odds[row]),
                "match": bool(query.pairs.label[row] == 1),
            }
            for row in rows
        ],
    }


def _surest(
    tested: Sequence[tuple[int, PairSet, NDArray[np.float64]]], label: int, n_pairs: int
) -> list[dict[str, Any]]:
    """Return the pairs of a label that were most surely taken for the other one."""
    sign = -1.0 if label == 0 else 1.0
    found = []
    for seed, pairs, log_odds in tested:
        own = np.flatnonzero(pairs.label == label)
        for row in own[np.argsort(sign * log_odds[own], kind="stable")][:n_pairs]:
            couple = int(pairs.left[row]), int(pairs.right[row])
            found.append((sign * float(log_odds[row]), couple, seed))
    once: dict[frozenset[int], dict[str, Any]] = {}
    for score, (left, right), seed in sorted(found):
        one = {
            "left": left,
            "right": right,
            "p": _probability(sign * score),
            "seed": seed,
        }
        once.setdefault(frozenset((left, right)), one)
    return list(once.values())[:n_pairs]


def _used(shown: list[dict[str, Any]], wrong: dict[str, Any]) -> set[int]:
    return {
        *(query["query"] for query in shown),
        *(one["image"] for query in shown for one in query["candidates"]),
        *(pair[side] for of in wrong.values() for pair in of for side in _SIDES),
    }


_SIDES = ("left", "right")


def _probability(log_odds: float) -> float:
    from scipy.special import expit

    return round(float(expit(log_odds)), _GALLERY_DIGITS)


def _what(run: Run, n_ends: int) -> str:
    seeds = ", ".join(str(seed) for seed in run.seeds)
    word = "seeds" if len(run.seeds) > 1 else "seed"
    return (
        f"Test queries of the cell that validation chose, {word} {seeds}: the {n_ends} "
        "whose match beats its best rival by most, then those where it falls behind "
        "by most, or beats it by least. Each query image is shown once."
    )


Row = dict[str, Any]
Progress = Callable[[int, int, str], None]

_COSTS = ("vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb")
_PARTS = ("vectorizer", "projection", "merge", "head")
_SIZES = ("n_features", "n_seeds", "n_train_pairs", "n_test_queries", "n_candidates")
_DIGITS = 5
_NO_SETTINGS = {"run", "cell", "alias", "out", "metric"}


def payload(
    run: Run, *, gallery_size: int = 20, progress: Progress | None = None
) -> dict[str, Any]:
    """Return all that the page shows, ready for JSON.

    Parameters
    ----------
    run : Run
    gallery_size : int, default=20
        Queries at each end of the gallery; 0 leaves images out.
    progress : callable or None
        Called with (done, total, what).
    """
    rows = run.rows()
    cells = list(run.cells)
    return {
        "title": run.out.name or str(run.out),
        "version": __version__,
        "run": _about(run),
        "metrics": [
            {
                "name": name,
                "title": metric.title,
                "what": metric.description,
                "lower": metric.lower_is_better,
            }
            for name, metric in METRICS.items()
        ],
        "metric": run.metric,
        "cells": _cells(run, rows, progress),
        "matrix": _matrix(rows),
        "chosen": cells.index(run.chosen) if run.chosen in cells else None,
        "notes": list(run.summary.get("lines", [])),
        "failures": run.failures(),
        "leaks": run.summary.get("leaks", []),
        "gallery": gallery(run, gallery_size, progress=progress),
    }


def _about(run: Run) -> dict[str, Any]:
    protocol = run.settings.get("run", {}).get("protocol", {})
    name = str(run.summary["protocol"])
    sizes = ", ".join(f"{key} {value}" for key, value in protocol.items())
    environment = run.environment
    versions = environment.get("versions", {})
    machine = [
        (key, str(environment.get(key, ""))) for key in ("python", "platform", "cores")
    ]
    return {
        "command": _command(run),
        "protocol": {
            "name": name,
            "text": PROTOCOLS[name].description if name in PROTOCOLS else "",
            "sizes": sizes,
        },
        "seeds": run.seeds,
        "data": [
            (key, str(value)) for key, value in run.summary.get("data", {}).items()
        ],
        "environment": [*machine, *((key, str(versions[key])) for key in versions)],
        "aliases": list(run.settings.get("alias", {}).items()),
        "settings": [
            (key, _said(value))
            for key, value in run.settings.items()
            if key not in _NO_SETTINGS
        ],
    }


def _command(run: Run) -> str | None:
    """Return the command that runs it again; None for a run from Python."""
    if "pairs" not in run.settings:
        return None
    return f"tllboost grid --config {shlex.quote(str(run.out / 'run.toml'))} --resume"


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cells(run: Run, rows: Sequence[Row], progress: Progress | None) -> list[Row]:
    in_metric = {metric: run.rows(metric) for metric in METRICS}
    found = []
    for i, (row, records) in enumerate(zip(rows, run.cells.values(), strict=True)):
        of = {metric: others[i] for metric, others in in_metric.items()}
        tested = [one for record in records for one in run.tested(record)]
        measured = row["status"] == "ok"
        found.append(
            {
                **{name: row[name] for name in (*_PARTS, "name", "status", "error")},
                "figures": _figures(row) if measured else {},
                "gain": {m: _interval(of[m], "gain") for m in of} if measured else {},
                "tied": {m: of[m]["tied_with_best"] for m in of} if measured else {},
                "validation": {m: of[m]["validation"] for m in of} if measured else {},
                "costs": {name: row.get(name) for name in _COSTS},
                **{name: row.get(name) for name in _SIZES},
                "threshold": row.get("threshold"),
                "curves": curves(tested),
            }
        )
        if progress is not None:
            progress(i + 1, len(rows), "curves")
    return found


def _figures(row: Row) -> dict[str, list[float]]:
    return {
        metric: [
            _round(row[metric]),
            _round(row[f"{metric}_low"]),
            _round(row[f"{metric}_high"]),
        ]
        for metric in METRICS
    }


def _interval(row: Row, name: str) -> list[float]:
    return [_round(row[key]) for key in (name, f"{name}_low", f"{name}_high")]


def _round(value: float) -> float:
    return round(float(value), _DIGITS)


def _matrix(rows: list[Row]) -> dict[str, Any]:
    matrix = make_matrix(rows)
    place = {id(row): i for i, row in enumerate(rows)}
    return {
        "rows": [list(key) for key in matrix.keys],
        "heads": matrix.heads,
        "places": [
            [
                place[id(matrix.cells[key, head])]
                if (key, head) in matrix.cells
                else None
                for head in matrix.heads
            ]
            for key in matrix.keys
        ],
    }
