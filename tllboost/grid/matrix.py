"""One metric as a matrix: heads across, vectorizer, projection and merge down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tllboost.grid.outputs import csv_text
from tllboost.whole_file import write_text

__all__ = ["Matrix", "make_matrix", "matrix_csv", "write_matrix"]

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


def write_matrix(path: Path, rows: Iterable[Row], metric: str) -> None:
    """Write one metric of every cell; a failed cell says so, one not run is empty."""
    write_text(path, matrix_csv(rows, metric))


def matrix_csv(rows: Iterable[Row], metric: str) -> str:
    """Return the matrix of one metric as CSV."""
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
