"""The pictures to look at: where the chosen cell was best, and where it was wrong.

The cell is the one that validation chose; which queries are shown is told by their test
scores, since they are here to be looked at and choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.page.thumbnails import make_thumbnails
from tllboost.report.run import Run
from tllboost.splits import PairSet

__all__ = ["gallery"]

_MOST_SHOWN, _LEAST_SHOWN = 20, 5
_MOST_PLACES = 3000
_DIGITS = 4


class _Query(NamedTuple):
    """One ranking list: its rows in ranked order, the match behind its ties."""

    seed: int
    pairs: PairSet
    log_odds: NDArray[np.float64]
    rows: NDArray[np.int64]

    @property
    def picture(self) -> int:
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
    pictures = run.pictures
    if n_queries < 1 or run.chosen is None or pictures is None:
        return None
    tested = [
        (int(record["seed"]), *one)
        for record in run.cells.get(run.chosen, [])
        for one in run.tested(record)
    ]
    queries = _each_picture_once(_queries(tested))
    queries.sort(key=lambda query: (-query.margin, query.picture))
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
        {i: path for i in used if (path := pictures.paths[i]) is not None},
        progress=progress,
    )
    if not thumbnails:
        return None
    return {
        "cell": list(run.cells).index(run.chosen),
        "what": _what(run, n_ends),
        "pictures": {
            i: {
                "id": pictures.ids[i],
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


def _each_picture_once(queries: Iterator[_Query]) -> list[_Query]:
    """Keep the first seed's query of each picture."""
    found: dict[int, _Query] = {}
    for query in queries:
        found.setdefault(query.picture, query)
    return list(found.values())


def _shown(end: str, query: _Query, n_shown: int) -> dict[str, Any]:
    """Return the first candidates of a query, its match in any case."""
    place = query.rank - 1
    rows = query.rows[:n_shown]
    if place >= n_shown:
        rows = np.append(rows[:-1], query.rows[place])
    return {
        "end": end,
        "query": query.picture,
        "match": int(query.pairs.right[query.rows[place]]),
        "rank": query.rank,
        "among": len(query.rows),
        "seed": query.seed,
        "candidates": [
            {
                "picture": int(query.pairs.right[row]),
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
        *(one["picture"] for query in shown for one in query["candidates"]),
        *(pair[side] for of in wrong.values() for pair in of for side in _SIDES),
    }


_SIDES = ("left", "right")


def _probability(log_odds: float) -> float:
    from scipy.special import expit

    return round(float(expit(log_odds)), _DIGITS)


def _what(run: Run, n_ends: int) -> str:
    seeds = ", ".join(str(seed) for seed in run.seeds)
    word = "seeds" if len(run.seeds) > 1 else "seed"
    return (
        f"Test queries of the cell that validation chose, {word} {seeds}: the {n_ends} "
        "whose match beats its best rival by most, then those where it falls behind "
        "by most, or beats it by least. Each query picture is shown once."
    )
