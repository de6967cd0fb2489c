"""What people read of a run: report.html, and the matrix in the terminal.

The curves of a cell count all seeds and folds together, as log-odds that each fold's
validation set has calibrated; pairs are weighed as the binary metrics weigh them. The
images are test queries of each cell: where it was best, and where it was wrong. Their
test scores tell which are shown, and choose nothing.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost import __version__
from tllboost.errors import DataError, ImageError
from tllboost.files import write_text
from tllboost.grid.matrix import ENDS, make_matrix
from tllboost.grid.records import read_images
from tllboost.grid.summary import FROZEN, comparison
from tllboost.metrics import METRICS, match_ranks
from tllboost.page import Thumbnail, make_thumbnails, render
from tllboost.report.run import Run, part, read_run, read_table, texts_of
from tllboost.splits import PROTOCOLS, PairSet

__all__ = ["Run", "payload", "read_run", "report_page", "write_report"]

Progress = Callable[[int, int, str], None]
_N_FEATURES = 10
_LOOKS = ("report", "matrix", "tables", "plots", "gallery")
# In this order: each uses what stands before it.
_SCRIPTS = (
    *("dom", "words", "state", "tip", "header", "matrix", "table", "plot", "charts"),
    *("details", "gains", "costs", "enlarge", "gallery", "lists", "main"),
)


def write_report(
    run: Run | str | os.PathLike[str],
    *,
    gallery: int = 20,
    progress: Progress | None = None,
) -> Path:
    """Write ``report.html`` into the folder of a finished run.

    It is one file that holds all it shows, opens from disk and needs no network.

    Parameters
    ----------
    run : Run or path-like
        The folder, or what :func:`~tllboost.report.run.read_run` made of it.
    gallery : int, default=20
        Test queries shown at each end, the best and the worst, with small copies of
        their images, of the chosen cell; 5 at most of each other. 0 leaves images out.
    progress : callable or None
        Called with (done, total, what).

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        If the folder holds no run, or tables alone, or can't be written.
    ImageError
        If an image of the gallery can't be read any more: the page stays as it was.

    Examples
    --------
    >>> import tempfile
    >>> from tllboost import read_pairs, run_grid
    >>> from tllboost.demo import make_scenes
    >>> folder = Path(tempfile.mkdtemp())
    >>> pairs = make_scenes(folder / "images", n_scenes=40, n_views=2)
    >>> table = read_pairs(pairs, images=pairs.parent)
    >>> out, store = folder / "out", folder / "store"
    >>> result = run_grid(table, heads=["cosine"], out=out, store=store)
    >>> write_report(out).name
    'report.html'
    """
    if not isinstance(run, Run):
        run = read_run(Path(run))
    if not run.records:
        msg = (
            f"{run.out}: the tables of a run lie here, but not all of its cells/: "
            f"tllboost grid --config {run.out / 'run.toml'} --resume makes them again"
        )
        raise DataError(msg)
    path = run.out / "report.html"
    shown = payload(run, gallery_size=gallery, progress=progress)
    write_text(path, report_page(shown))
    return path


def report_page(shown: dict[str, Any]) -> str:
    """Return the page that shows a run's data; see :func:`payload`.

    Examples
    --------
    >>> text = report_page({"title": "<mine>"})
    >>> text.startswith("<!doctype html>"), "&lt;mine&gt;" in text, "<mine>" in text
    (True, True, False)
    """
    return render(
        "report/page/report.html",
        title=f"{shown['title']} · tllboost",
        styles=["page/base.css", *(f"report/page/{name}.css" for name in _LOOKS)],
        scripts=[f"report/page/{name}.js" for name in _SCRIPTS],
        data=shown,
    )


# What it shows, as data

Floats = NDArray[np.float64]
Row = dict[str, Any]
Tested = tuple[int, PairSet, Floats]
"""A seed, the test pairs of a fold, and their log-odds."""

_POINTS, _BINS, _BARS, _LONGEST = 60, 10, 20, 50
_MOST_SHOWN, _LEAST_SHOWN = 20, 5
_FEW_QUERIES, _FEW_SHOWN = 5, 8  # of a cell that validation did not choose
_MOST_PLACES, _MOST_IMAGES = 3000, 1000
_DIGITS, _FIGURE_DIGITS = 4, 5


def curves(tested: Sequence[Tested]) -> dict[str, Any] | None:
    """Return the points of all plots of a cell, or None where nothing was tested.

    Parameters
    ----------
    tested : sequence of (int, PairSet, ndarray of shape (n_pairs,))
        Seed, test pairs and their log-odds, a fold each.

    Returns
    -------
    dict or None
        ``roc`` (false and true positive rate), ``pr`` (recall and precision),
        ``reliability`` (mean probability said, share of matches seen and number of
        pairs of each of ten bins), ``histogram`` (edges of 20 bins, and the share of
        all matches, and of all non-matches, in each), ``topk`` (share of queries whose
        match ranks k-th or better, k from 1).

    Examples
    --------
    >>> columns = [np.arange(4), np.arange(4), np.array([1, 0, 1, 0])]
    >>> pairs = PairSet(*columns, np.array([0, 0, 1, 1]), np.ones(4), np.arange(4))
    >>> found = curves([(0, pairs, np.array([2.0, -2.0, 1.0, -1.0]))])
    >>> found["topk"], found["roc"]
    ([1.0, 1.0], [[0.0, 0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0, 1.0]])
    """
    if not tested:
        return None
    _, sets, scores = zip(*tested, strict=True)
    pairs, log_odds = sum(sets[1:], sets[0]), np.concatenate(scores)
    _, ranks, sizes = match_ranks(log_odds, pairs.label, pairs.query)
    longest = min(int(sizes.max(initial=0)), _LONGEST)
    top_k = [np.mean(ranks <= k) for k in range(1, longest + 1)]
    found: dict[str, Any] = {"topk": _rounded(np.array(top_k))}
    told = pairs.weight > 0
    label, weight, log_odds = pairs.label[told] == 1, pairs.weight[told], log_odds[told]
    if len(np.unique(label)) < 2:
        return found
    order = np.argsort(-log_odds)
    last = np.append(np.diff(log_odds[order]) != 0, True)  # of those that tie
    hits, alarms = (
        np.append(0, np.cumsum((weight * rows)[order])[last])
        for rows in (label, ~label)
    )
    precision = np.append(1, hits[1:] / (hits + alarms)[1:])
    hits, alarms = hits / hits[-1], alarms / alarms[-1]
    probability = np.exp(-np.logaddexp(0, -log_odds))
    place = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    total = np.bincount(place, weight, _BINS)
    some = total > 0
    said, seen = (
        _rounded(np.bincount(place, weight * of, _BINS)[some] / total[some])
        for of in (probability, label)
    )
    n_pairs = np.bincount(place, minlength=_BINS)[some].tolist()
    edges = np.linspace(0, 1, _BARS + 1)
    counts = [
        np.histogram(probability[rows], edges, weights=weight[rows])[0]
        for rows in (label, ~label)
    ]
    match, other = (_rounded(one / one.sum()) for one in counts)
    return found | {
        "roc": _thinned(alarms, hits),
        "pr": _thinned(hits, precision),
        "reliability": {"said": said, "seen": seen, "n": n_pairs},
        "histogram": {"edges": _rounded(edges), "match": match, "other": other},
    }


def _thinned(x: Floats, y: Floats) -> list[list[float]]:
    """Keep points that lie about evenly along a curve, its ends among them."""
    along = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    places = np.searchsorted(along, np.linspace(0, along[-1], _POINTS))
    kept = np.unique(np.append(np.minimum(places, len(x) - 1), [0, len(x) - 1]))
    return [_rounded(x[kept]), _rounded(y[kept])]


def _rounded(values: Any, digits: int = _DIGITS) -> Any:
    return np.round(values, digits).tolist()


class _Query(NamedTuple):
    """One ranking list, the match behind its ties; arrays in ranked order.

    ``margin`` is by how much the best match beats the best distractor, in log-odds.
    """

    margin: float
    seed: int
    image: int
    right: list[int]
    is_match: NDArray[np.bool_]
    log_odds: Floats

    def shown(self, end: str, n_shown: int) -> dict[str, Any]:
        """Return its first candidates, its match in any case."""
        place = int(np.argmax(self.is_match))
        n_first = n_shown - (place >= n_shown)
        places = sorted({place, *range(min(n_first, len(self.right)))})
        return {
            "end": end,
            "query": self.image,
            "match": self.right[place],
            "rank": 1 + place,
            "among": len(self.right),
            "seed": self.seed,
            "candidates": [
                {
                    "image": self.right[at],
                    "rank": 1 + at,
                    "p": _rounded(np.exp(-np.logaddexp(0, -self.log_odds[at]))),
                    "match": bool(self.is_match[at]),
                }
                for at in places
            ],
        }


def gallery(
    run: Run, n_queries: int, *, progress: Progress | None = None
) -> dict[str, Any] | None:
    """Return the best and the worst test queries of each cell, and their images.

    Parameters
    ----------
    run : Run
    n_queries : int
        How many at each end, of the cell that validation chose. Of the others there are
        fewer, and none once the page has 1,000 images.
    progress : callable or None
        Called with (done, total, what).

    Returns
    -------
    dict or None
        The gallery of the page's data; None where there is nothing to show.

    Raises
    ------
    ImageError
        If an image of it can't be read any more.
    """
    known = read_images(run.out)
    if n_queries < 1 or run.chosen is None or known is None:
        return None
    of_cells: dict[int, dict[str, Any]] = {}
    used: set[int] = set()
    # The chosen cell first: the others must not make the page large.
    for cell in sorted(run.cells, key=lambda cell: cell != run.chosen):
        few = (min(n_queries, _FEW_QUERIES), _FEW_SHOWN)
        few = (n_queries, _MOST_SHOWN) if cell == run.chosen else few
        shown, needed = _shown(list(run.tested(cell)), *few)
        most = max(_MOST_IMAGES, len(used) or len(needed))
        if needed and len(used | needed) <= most:
            of_cells[run.cells.index(cell)] = shown
            used |= needed
    ids, paths = known
    there = {i: path for i in sorted(used) if (path := paths[i]) is not None}
    if not there:
        return None
    thumbnails = make_thumbnails(there, progress=progress)
    if gone := [path for i, path in there.items() if i not in thumbnails]:
        more = f" ({len(gone)} of the page's images)" if len(gone) > 1 else ""
        why = f"can't be read any more{more}, so the page is not written: "
        why += "put the images back, or give --gallery 0"
        raise ImageError(gone[0], why)
    none = Thumbnail("", 0, 0)
    made = {i: thumbnails.get(i, none)._asdict() for i in sorted(used)}
    images = {i: image | {"id": ids[i]} for i, image in made.items()}
    return {"images": images, "cells": of_cells}


_SIDES = ("left", "right")


def _shown(
    tested: Sequence[Tested], n_queries: int, most_shown: int
) -> tuple[dict[str, Any], set[int]]:
    """Return what is shown of one cell, and the images that it takes."""
    once: dict[int, _Query] = {}
    for seed, pairs, log_odds in tested:
        # The match last among equals: a tie counts against it.
        order = np.lexsort((pairs.label, -log_odds, pairs.query))
        order = order[pairs.query[order] >= 0]
        starts = np.flatnonzero(np.diff(pairs.query[order])) + 1
        for rows in np.split(order, starts):
            is_match, scores = pairs.label[rows] == 1, log_odds[rows]
            if is_match.any() and not is_match.all():
                margin = float(scores[is_match].max() - scores[~is_match].max())
                image, right = int(pairs.left[rows[0]]), pairs.right[rows].tolist()
                found = _Query(margin, seed, image, right, is_match, scores)
                once.setdefault(image, found)
    queries = sorted(once.values(), key=lambda query: (-query.margin, query.image))
    n_ends = min(n_queries, (len(queries) + 1) // 2)
    n_shown = _MOST_PLACES // max(1, 2 * n_ends)
    n_shown = min(max(n_shown, _LEAST_SHOWN), most_shown)
    shown = [query.shown("best", n_shown) for query in queries[:n_ends]]
    worst = queries[n_ends:][::-1][:n_queries]
    shown += [query.shown("worst", n_shown) for query in worst]
    wrong = {
        "false_matches": _surest(tested, 0, n_queries),
        "missed": _surest(tested, 1, n_queries),
    }
    return {"queries": shown, **wrong}, {
        *(query["query"] for query in shown),
        *(one["image"] for query in shown for one in query["candidates"]),
        *(pair[side] for of in wrong.values() for pair in of for side in _SIDES),
    }


def _surest(tested: Sequence[Tested], label: int, n_pairs: int) -> list[dict[str, Any]]:
    """Return the pairs of a label that were most surely taken for the other one."""
    sign = -1.0 if label == 0 else 1.0
    found = []
    for seed, pairs, log_odds in tested:
        own = np.flatnonzero(pairs.label == label)
        for row in own[np.argsort(sign * log_odds[own], kind="stable")][:n_pairs]:
            couple = int(pairs.left[row]), int(pairs.right[row])
            found.append((sign * float(log_odds[row]), couple, seed))
    once: dict[frozenset[int], dict[str, Any]] = {}
    for score, couple, seed in sorted(found):
        pair: dict[str, Any] = dict(zip(_SIDES, couple, strict=True))
        pair |= {"p": _rounded(np.exp(-np.logaddexp(0, -sign * score))), "seed": seed}
        once.setdefault(frozenset(couple), pair)
    return list(once.values())[:n_pairs]


_COSTS = ("vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb")
_SIZES = ("n_features", "n_seeds", "n_train_pairs", "n_test_queries", "n_candidates")
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
    matrix = make_matrix(rows)
    place = {id(row): i for i, row in enumerate(rows)}
    name = run.protocol["name"]
    machine = {k: v for k, v in run.environment.items() if k != "versions"}
    rest = {k: v for k, v in run.settings.items() if k not in _NO_SETTINGS}
    again = f"tllboost grid --config {shlex.quote(str(run.out / 'run.toml'))} --resume"
    return {
        "title": run.out.name or str(run.out),
        "version": __version__,
        "run": {
            # A run from Python has no file of pairs, and no command that repeats it.
            "command": again if "pairs" in run.settings else None,
            "protocol": {
                "name": name,
                "text": PROTOCOLS[name].description if name in PROTOCOLS else "",
                "sizes": ", ".join(f"{k} {value}" for k, value in run.protocol.items()),
            },
            "seeds": run.seeds,
            "data": texts_of(part(run.summary, "data")),
            "environment": texts_of(machine | run.versions),
            "aliases": texts_of(part(run.settings, "alias")),
            "settings": texts_of(rest),
        },
        "metrics": [
            {
                "name": name,
                "title": metric.title,
                "what": metric.description,
                "lower": metric.sign < 0,
            }
            for name, metric in METRICS.items()
        ],
        "metric": run.metric,
        "cells": _cells(run, progress),
        "matrix": {
            "rows": [list(key) for key in matrix.keys],
            "heads": matrix.heads,
            "legend": list(matrix.legend.items()),
            "places": [[place.get(id(row)) for row in line] for line in matrix.cells],
        },
        "chosen": run.cells.index(run.chosen) if run.chosen else None,
        "choosing_gave": part(run.summary, "choosing_gave"),
        "notes": part(run.summary, "lines", list),
        "failures": read_table(run.out / "failures.csv"),
        "leaks": part(run.summary, "leaks", list),
        "gallery": gallery(run, gallery_size, progress=progress),
    }


def _cells(run: Run, progress: Progress | None) -> list[Row]:
    in_metric = {metric: run.rows(metric) for metric in METRICS}
    own = [[*run.records.get(cell, {}).values()] for cell in run.cells]
    frozen = {"status": "ok", "head": FROZEN[0], "projection": FROZEN[1]}.items()
    plain = [i for i, row in enumerate(run.rows()) if frozen <= row.items()]
    over = {}
    for metric, rows in in_metric.items():  # the best plain cosine, as the headline has
        key = [METRICS[metric].sign * row.get(metric, 0) for row in rows]
        other = own[max(plain, key=key.__getitem__)] if plain else []
        gains = [comparison(found, other, metric) for found in own]
        over[metric] = _rounded(gains, _FIGURE_DIGITS)
    found = []
    for i, (cell, row) in enumerate(zip(run.cells, run.rows(), strict=True)):
        measured = row["status"] == "ok"
        of = {m: rows[i] for m, rows in in_metric.items()} if measured else {}
        gained = [one["feature_gain"] for one in own[i] if "feature_gain" in one]
        found.append(
            {
                **asdict(cell),
                **{name: row[name] for name in ("name", "status", "error")},
                "figures": {m: _ends(row, m) for m in of},
                "gain": {m: _ends(of[m], "gain") for m in of},
                "tied": {m: of[m]["tied_with_best"] for m in of},
                "over": {m: over[m][i] for m in of},
                "validation": {m: of[m]["validation"] for m in of},
                "costs": {name: row.get(name) for name in _COSTS},
                **{name: row.get(name) for name in (*_SIZES, "threshold")},
                "feature_gain": _gains_of(gained) if gained else [],
                "curves": curves(list(run.tested(cell))),
            }
        )
        if progress is not None:
            progress(i + 1, len(run.cells), "curves")
    return found


def _ends(row: Row, name: str) -> list[float]:
    """Return a figure of a row, and the ends of its interval."""
    return _rounded([row[name + end] for end in ENDS], _FIGURE_DIGITS)


def _gains_of(known: Sequence[Row]) -> list[tuple[str, float]]:
    """Return the ten features by which trees gained most, and their mean shares."""
    means = {name: np.mean([one[name] for one in known]) for name in known[0]}
    order = sorted(means, key=lambda name: -means[name])[:_N_FEATURES]
    return [(name, round(float(means[name]), 4)) for name in order if means[name]]
