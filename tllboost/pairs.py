"""Pair tables: which two pictures belong to each row, and whether they match."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.errors import UsageError
from tllboost.roots import Roots
from tllboost.tables import Column, TextTable, read_table

__all__ = ["PairTable", "pairs_from_paths", "read_pairs"]

SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""The spellings of the split column, and the side that each means."""

LABELS = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "true": 1, "false": 0}
"""The spellings of the label column, and what each means."""


@dataclass(frozen=True, eq=False)
class PairTable:
    """Pairs of images as indices into a list of unique images.

    Parameters
    ----------
    source : str
        Where the pairs came from, for messages.
    ids : tuple of str, length n_images
        Unique images, sorted: the name below the folder without extension, with
        ``left/`` or ``right/`` before it where the sides have separate folders.
    paths : tuple of (Path or None), length n_images
        Their files; None where no folder was given.
    left, right : ndarray of shape (n_pairs,), int64
        Indices into `ids`.
    label : ndarray of shape (n_pairs,), int8
        1 for a match, 0 for no match.
    query : ndarray of shape (n_pairs,), int64, or None
        Rows of one query share a number.
    split : ndarray of shape (n_pairs,), str, or None
        ``"train"``, ``"validation"`` or ``"test"``.
    lines : ndarray of shape (n_pairs,), int64
        The line of each row in `source`, 0 where it has none.
    notes : tuple of str
        What was left out on reading and its user should know.
    """

    source: str
    ids: tuple[str, ...]
    paths: tuple[Path | None, ...]
    left: np.ndarray
    right: np.ndarray
    label: np.ndarray
    query: np.ndarray | None
    split: np.ndarray | None
    lines: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def n_pairs(self) -> int:
        """Number of rows."""
        return len(self.left)

    @property
    def n_images(self) -> int:
        """Number of unique images."""
        return len(self.ids)

    def take(self, rows: Any) -> PairTable:
        """Return the table of some rows (indices, mask or slice), images unchanged."""
        return replace(
            self,
            left=self.left[rows],
            right=self.right[rows],
            label=self.label[rows],
            query=None if self.query is None else self.query[rows],
            split=None if self.split is None else self.split[rows],
            lines=self.lines[rows],
        )

    def without_images(self, bad: Collection[int]) -> PairTable:
        """Return the table without the pairs of some images, images unchanged."""
        good = np.ones(self.n_images, dtype=bool)
        good[list(bad)] = False
        return self.take(good[self.left] & good[self.right])


def read_pairs(
    path: str | PathLike[str],
    *,
    images: str | PathLike[str] | None = None,
    left: str | PathLike[str] | None = None,
    right: str | PathLike[str] | None = None,
    allow_repeats: bool = False,
) -> PairTable:
    r"""Read a pair table: columns ``left, right[, label][, query][, split]``.

    Parameters
    ----------
    path : path-like
        The table, separated by commas, semicolons or tabs. Without a ``label``
        column every row is a match.
    images : path-like, optional
        The folder of all pictures.
    left, right : path-like, optional
        The folder of each side instead. Without any folder the ids are taken as they
        are written and have no paths: for vectors that the user already has.
    allow_repeats : bool, default=False
        Accept a pair that stands twice and a picture paired with itself: right for
        scoring, wrong for training.

    Returns
    -------
    PairTable

    Raises
    ------
    TableError
        With file, line and value of up to twenty problems.
    DataError
        If the table or a folder is not there.
    UsageError
        If the folders contradict each other.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "pairs.csv"
    >>> _ = path.write_text("left,right,label\na,b,1\na,c,0\n")
    >>> table = read_pairs(path)
    >>> table.ids, table.left.tolist(), table.right.tolist(), table.label.tolist()
    (('a', 'b', 'c'), [0, 0], [1, 2], [1, 0])
    """
    roots = Roots(images, left, right)
    table = read_table(
        path, required=("left", "right"), optional=("label", "query", "split")
    )
    found = roots.find_images(table, {"left": "left", "right": "right"})
    pairs = PairTable(
        source=table.source,
        ids=found.ids,
        paths=found.paths,
        left=found.codes["left"],
        right=found.codes["right"],
        label=_labels(table),
        query=_queries(table),
        split=_splits(table),
        lines=table.lines,
    )
    if not allow_repeats:
        _find_self_pairs(pairs, table)
        _find_repeats(pairs, table)
    table.raise_problems()
    return pairs


def pairs_from_paths(X: Any, y: Any = None) -> PairTable:
    """Make a pair table of picture paths, as `PairClassifier` is given them.

    Parameters
    ----------
    X : array-like of shape (n_pairs, 2), str or path-like
        The two pictures of each pair.
    y : array-like of shape (n_pairs,), optional
        1 for a match, 0 for no match; every pair is a match without it.

    Raises
    ------
    UsageError
        If the shapes or types do not fit.

    Examples
    --------
    >>> table = pairs_from_paths([["a.jpg", "b.jpg"], ["b.jpg", "c.jpg"]], [1, 0])
    >>> table.ids, table.left.tolist(), table.right.tolist()
    (('a.jpg', 'b.jpg', 'c.jpg'), [0, 1], [1, 2])
    """
    names = _path_names(X)
    unique = sorted(set(names))
    number = {name: i for i, name in enumerate(unique)}
    codes = np.array([number[name] for name in names], dtype=np.int64).reshape(-1, 2)
    return PairTable(
        source="X",
        ids=tuple(unique),
        paths=tuple(Path(name) for name in unique),
        left=codes[:, 0],
        right=codes[:, 1],
        label=_given_labels(y, len(codes)),
        query=None,
        split=None,
        lines=np.zeros(len(codes), dtype=np.int64),
    )


def _path_names(X: Any) -> list[str]:
    """Return the paths of X as text, row after row."""
    cells = np.asarray(X, dtype=object)
    if cells.ndim != 2 or cells.shape[1] != 2:
        msg = (
            f"X has shape {cells.shape}; it must be (n_pairs, 2): "
            "the paths of the two pictures of each pair"
        )
        raise UsageError(msg)
    for row, cell in enumerate(cells.ravel()):
        if not isinstance(cell, str | PathLike):
            msg = f"X[{row // 2}, {row % 2}] is {cell!r}; it must be a path"
            raise UsageError(msg)
    return [str(os.fspath(cell)) for cell in cells.ravel()]


def _given_labels(y: Any, n_pairs: int) -> np.ndarray:
    if y is None:
        return np.ones(n_pairs, dtype=np.int8)
    label = np.asarray(y)
    if label.shape != (n_pairs,):
        msg = f"y has shape {label.shape}; it must be ({n_pairs},), a label a pair"
        raise UsageError(msg)
    wrong = [value for value in np.unique(label).tolist() if value not in (0, 1)]
    if wrong:
        msg = f"y holds {wrong[0]!r}; a label is 1 (match) or 0 (no match)"
        raise UsageError(msg)
    return label.astype(np.int8)


def _labels(table: TextTable) -> np.ndarray:
    column = table.columns.get("label")
    if column is None:
        return np.ones(len(table.lines), dtype=np.int8)
    return _translate(table, column, LABELS, "1 (match) or 0 (no match)").astype(
        np.int8
    )


def _splits(table: TextTable) -> np.ndarray | None:
    column = table.columns.get("split")
    if column is None:
        return None
    legal = "train, validation or test"
    return _translate(table, column, SPLITS, legal).astype(str)


def _queries(table: TextTable) -> np.ndarray | None:
    column = table.columns.get("query")
    if column is None:
        return None
    rank = {value: i for i, value in enumerate(sorted(column.values))}
    if "" in rank:
        line = int(table.first_lines(column)[column.values.index("")])
        table.problems.append((line, "query '' is empty; give the query's name"))
    return np.array([rank[value] for value in column.values], np.int64)[column.codes]


def _translate(
    table: TextTable, column: Column, meanings: dict[str, Any], legal: str
) -> np.ndarray:
    """Return the meaning of each row; a value without one joins the problems."""
    lines = table.first_lines(column)
    found = []
    for value, line in zip(column.values, lines.tolist(), strict=True):
        meaning = meanings.get(value.lower())
        if meaning is None:
            text = f"{column.name} {value!r} is not legal; it must be {legal}"
            table.problems.append((line, text))
            meaning = next(iter(meanings.values()))
        found.append(meaning)
    return np.array(found)[column.codes]


def _find_self_pairs(pairs: PairTable, table: TextTable) -> None:
    for row in np.flatnonzero((pairs.left == pairs.right) & (pairs.left >= 0)):
        text = f"{pairs.ids[pairs.left[row]]!r} is paired with itself; drop the row"
        table.problems.append((int(pairs.lines[row]), text))


def _find_repeats(pairs: PairTable, table: TextTable) -> None:
    """Find rows that say again, or deny, what an earlier row says."""
    found = np.flatnonzero(
        (pairs.left >= 0) & (pairs.right >= 0) & (pairs.left != pairs.right)
    )
    left, right = pairs.left[found], pairs.right[found]
    low, high = np.minimum(left, right), np.maximum(left, right)
    earlier = found[_first_equal(low * pairs.n_images + high)]
    denied = pairs.label[found] != pairs.label[earlier]
    for row, first in zip(found[denied], earlier[denied], strict=True):
        text = (
            f"{_names(pairs, row)} has label {pairs.label[row]} here and "
            f"{pairs.label[first]} on line {pairs.lines[first]}; keep one"
        )
        table.problems.append((int(pairs.lines[row]), text))
    key = left * pairs.n_images + right
    if pairs.query is not None:
        # The same two pictures may stand in several queries.
        key = np.unique(key, return_inverse=True)[1] * (pairs.query.max() + 1)
        key = key + pairs.query[found]
    earlier = found[_first_equal(key)]
    for row, first in zip(found, earlier, strict=True):
        if row != first and pairs.label[row] == pairs.label[first]:
            text = f"{_names(pairs, row)} stands on line {pairs.lines[first]} already"
            table.problems.append((int(pairs.lines[row]), f"{text}; drop one"))


def _first_equal(key: np.ndarray) -> np.ndarray:
    """Return, for each element, the place of the first one that equals it."""
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return first[inverse]


def _names(pairs: PairTable, row: Any) -> str:
    return f"{pairs.ids[pairs.left[row]]!r}, {pairs.ids[pairs.right[row]]!r}"
