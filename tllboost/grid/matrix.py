"""One metric as a matrix: heads across, vectorizer, projection and merge down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tllboost.grid.outputs import csv_text
from tllboost.metrics import LOWER_IS_BETTER

__all__ = ["Matrix", "caption", "make_matrix", "matrix_csv", "shown"]

Row = dict[str, Any]
Key = tuple[str, str, str]


class Matrix(NamedTuple):
    """Rows of results arranged for reading.

    Parameters
    ----------
    keys : list of (vectorizer, projection, merge)
        Rows.
    heads : list of str
        Columns.
    cells : dict of (key, head) to dict
        The row of results of each cell; the cosine, which reads no merge, stands in
        every row of its vectorizer and projection.
    """

    keys: list[Key]
    heads: list[str]
    cells: dict[tuple[Key, str], Row]


def make_matrix(rows: Sequence[Row]) -> Matrix:
    """Arrange the rows of ``results.csv`` as a matrix.

    Examples
    --------
    >>> row = {"vectorizer": "classic", "projection": "none", "merge": "none"}
    >>> make_matrix([row | {"head": "cosine"}]).keys
    [('classic', 'none', 'none')]
    """
    heads = list(dict.fromkeys(row["head"] for row in rows))
    merged = {
        (row["vectorizer"], row["projection"]) for row in rows if row["merge"] != "none"
    }
    keys: dict[Key, None] = {}
    for row in rows:
        place = row["vectorizer"], row["projection"]
        if row["merge"] != "none" or place not in merged:
            keys[*place, row["merge"]] = None
    cells: dict[tuple[Key, str], Row] = {}
    for row in rows:
        for key in keys:
            same = key[:2] == (row["vectorizer"], row["projection"])
            if same and row["merge"] in ("none", key[2]):
                cells[key, row["head"]] = row
    return Matrix(list(keys), heads, cells)


def matrix_csv(rows: Iterable[Row], metric: str) -> str:
    """Return the matrix of one metric as CSV.

    A failed cell says so, one that was not run or has no figure is empty.
    """
    matrix = make_matrix(list(rows))
    lines = [
        [*key, *(_text(matrix.cells.get((key, head)), metric) for head in matrix.heads)]
        for key in matrix.keys
    ]
    return csv_text(["vectorizer", "projection", "merge", *matrix.heads], lines)


def _text(row: Row | None, metric: str) -> str:
    if row is None:
        return ""
    if row["status"] != "ok":
        return "failed"
    return "" if math.isnan(row[metric]) else f"{row[metric]:.4f}"


def caption(rows: Sequence[Row], metric: str) -> str:
    """Return what a matrix shows, in one sentence.

    Examples
    --------
    >>> caption([{"protocol": "holdout", "n_seeds": 5}], "brier")
    'brier (lower is better), protocol holdout, 5 seeds; ± is half of the 95 % interval'
    """
    lower = " (lower is better)" if metric in LOWER_IS_BETTER else ""
    seeds = max(row["n_seeds"] for row in rows)
    counted = "1 seed" if seeds == 1 else f"{seeds:g} seeds"
    protocol = f"protocol {rows[0]['protocol']}, {counted}"
    return f"{metric}{lower}, {protocol}; ± is half of the 95 % interval"


def shown(row: Row | None, metric: str, between: str) -> tuple[str, str]:
    """Return the text of a cell, and how it stands: "best", "tie" or nothing.

    Parameters
    ----------
    row : dict or None
        The cell's row of results; None where it was not run.
    metric : str
    between : str
        What stands between the figure and half of its interval.

    Examples
    --------
    >>> row = {"status": "ok", "metric": "top2", "tied_with_best": "yes"}
    >>> row |= {"top2": 0.656, "top2_low": 0.62, "top2_high": 0.69}
    >>> shown(row, "top2", " ± ")
    ('0.656 ± 0.035', 'tie')
    """
    if row is None:
        return "", ""
    if row["status"] != "ok":
        return "failed", ""
    if not math.isfinite(row[metric]):
        return "–", ""
    half = (row[f"{metric}_high"] - row[f"{metric}_low"]) / 2
    spread = f"{between}{half:.3f}" if math.isfinite(half) else ""
    # Ties are told in the metric of the rows, and of no other.
    told = row["tied_with_best"] if row["metric"] == metric else ""
    return f"{row[metric]:.3f}{spread}", {"yes": "tie", "best": "best"}.get(told, "")
