"""Pair tables and candidate tables: which images belong to each row.

A row of a pair table names two images and whether they match, one of a candidate table
a query and the images to be ranked for it. A table is read from a file, every problem
in it found at once; a pair table may also be made of paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.conventions import labels_of
from tllboost.errors import UsageError
from tllboost.pairs.tables import TextTable, find_images, read_table

_REQUIRED = ("left", "right")
_OPTIONAL = ("label", "query", "split")

SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""The spellings of the split column, and the set that each means."""

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
    label : ndarray of shape (n_pairs,), int8, optional
        1 for a match, 0 for no match; by default every pair is a match.
    query : ndarray of shape (n_pairs,), int64, optional
        Rows of one query share a number.
    split : ndarray of shape (n_pairs,), str, optional
        ``"train"``, ``"validation"`` or ``"test"``.
    lines : ndarray of shape (n_pairs,), int64, optional
        The line of each row in `source`, 0 where it has none.
    notes : tuple of str
        What was left out on reading and its user should know.
    """

    source: str
    ids: tuple[str, ...]
    paths: tuple[Path | None, ...]
    left: np.ndarray
    right: np.ndarray
    label: np.ndarray = None  # type: ignore[assignment]
    query: np.ndarray | None = None
    split: np.ndarray | None = None
    lines: np.ndarray = None  # type: ignore[assignment]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.label is None:
            object.__setattr__(self, "label", np.ones(self.n_pairs, dtype=np.int8))
        if self.lines is None:
            object.__setattr__(self, "lines", np.zeros(self.n_pairs, dtype=np.int64))

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
        names = ("left", "right", "label", "query", "split", "lines")
        known = {n: one for n in names if (one := getattr(self, n)) is not None}
        return replace(self, **{name: one[rows] for name, one in known.items()})


def pairs_from_paths(X: Any, y: Any = None) -> PairTable:
    """Make a pair table of image paths, as `PairClassifier` is given them.

    Parameters
    ----------
    X : array-like of shape (n_pairs, 2), str or path-like
        The two images of each pair.
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
    cells = np.asarray(X, dtype=object)
    if cells.ndim != 2 or cells.shape[1] != 2:
        msg = f"X has shape {cells.shape}; it must be (n_pairs, 2): two paths a pair"
        raise UsageError(msg)
    for row, cell in enumerate(cells.ravel()):
        if not isinstance(cell, str | PathLike):
            msg = f"X[{row // 2}, {row % 2}] is {cell!r}; it must be a path"
            raise UsageError(msg)
    names = np.array([str(os.fspath(cell)) for cell in cells.ravel()], dtype=object)
    unique, codes = np.unique(names, return_inverse=True)
    label: Any = None if y is None else labels_of(y, len(cells))
    left, right = codes.reshape(cells.shape).T
    return PairTable("X", tuple(unique), tuple(map(Path, unique)), left, right, label)


def read_pairs(
    path: str | PathLike[str] | Any,
    *,
    images: str | PathLike[str] | None = None,
    left: str | PathLike[str] | None = None,
    right: str | PathLike[str] | None = None,
    allow_repeats: bool = False,
    anywhere: bool = False,
) -> PairTable:
    r"""Read a pair table: columns ``left, right[, label][, query][, split]``.

    Parameters
    ----------
    path : path-like or pandas.DataFrame
        The table, separated by commas, semicolons or tabs. Without a ``label``
        column every row is a match.
    images : path-like, optional
        The folder of all images.
    left, right : path-like, optional
        The folder of each side instead. Without any folder the ids are taken as they
        are written and have no paths: for vectors that the user already has.
    allow_repeats : bool, default=False
        Accept pairs that occur twice and images paired with themselves: right for
        scoring, wrong for training.
    anywhere : bool, default=False
        Accept ids that are absolute paths or lead outside the folder. Whoever wrote
        the table then says which files are opened.

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
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pairs.csv")
    ...     _ = path.write_text("left,right,label\na,b,1\na,c,0\n")
    ...     table = read_pairs(path)
    >>> table.ids, table.left.tolist(), table.right.tolist(), table.label.tolist()
    (('a', 'b', 'c'), [0, 0], [1, 2], [1, 0])
    """
    table = read_table(path, required=_REQUIRED, optional=_OPTIONAL)
    ids, paths, codes = find_images(table, _REQUIRED, images, left, right, anywhere)
    query = None
    if (column := table.columns.get("query")) is not None:
        if "" in column.values:
            line = dict(table.values(column))[""]
            table.problems.append((line, "query '' is empty; give the query's name"))
        places = np.unique(np.array(column.values, object), return_inverse=True)[1]
        query = places[column.codes]
    notes: tuple[str, ...] = ()
    if table.ignored:  # a label by another name would be missed
        ignored = ", ".join(repr(name) for name in table.ignored)
        known = ", ".join((*_REQUIRED, *_OPTIONAL))
        note = f"{table.source}: columns ignored: {ignored}; known columns: {known}"
        if "label" not in table.columns:
            note += "; without label every row is a match"
        notes = (note,)
    pairs = PairTable(
        source=table.source,
        ids=ids,
        paths=paths,
        left=codes["left"],
        right=codes["right"],
        label=_translated(table, "label", LABELS, "1 (match) or 0 (no match)"),
        query=query,
        split=_translated(table, "split", SPLITS, "train, validation or test"),
        lines=table.lines,
        notes=notes,
    )
    wrong = () if allow_repeats else _repeats(pairs)
    table.problems += [(int(pairs.lines[row]), text) for row, text in wrong]
    table.raise_problems()
    return pairs


def _translated(
    table: TextTable, name: str, meanings: dict[str, Any], legal: str
) -> Any:
    """Return what a column means, if it is there; unknown values are problems."""
    column = table.columns.get(name)
    if column is None:
        return None
    some = next(iter(meanings.values()))
    found = [meanings.get(value.lower(), some) for value in column.values]
    for value, line in table.values(column):
        if value.lower() not in meanings:
            text = f"{name} {value!r} is not legal; it must be {legal}"
            table.problems.append((line, text))
    kind = np.int8 if isinstance(some, int) else str
    return np.array(found, kind)[column.codes]


def _repeats(pairs: PairTable) -> Iterator[tuple[Any, str]]:
    """Yield rows that pair an image with itself, or repeat or deny an earlier row."""
    for row in np.flatnonzero((pairs.left == pairs.right) & (pairs.left >= 0)):
        yield row, f"{pairs.ids[pairs.left[row]]!r} is paired with itself; drop the row"
    found = np.flatnonzero(
        (pairs.left >= 0) & (pairs.right >= 0) & (pairs.left != pairs.right)
    )
    left, right = pairs.left[found], pairs.right[found]
    low, high = np.minimum(left, right), np.maximum(left, right)
    earlier = found[first_equal(low * pairs.n_images + high)]
    denied = pairs.label[found] != pairs.label[earlier]
    for row, first in zip(found[denied], earlier[denied], strict=True):
        text = f"has label {pairs.label[row]} here and {pairs.label[first]} on line"
        yield row, f"{_names(pairs, row)} {text} {pairs.lines[first]}; keep one"
    key = left * pairs.n_images + right
    if pairs.query is not None and len(key):
        # The same two images may stand in several queries.
        key = np.unique(key, return_inverse=True)[1] * (pairs.query.max() + 1)
        key = key + pairs.query[found]
    earlier = found[first_equal(key)]
    for row, first in zip(found, earlier, strict=True):
        if row != first and pairs.label[row] == pairs.label[first]:
            text = f"is on line {pairs.lines[first]} already; drop one"
            yield row, f"{_names(pairs, row)} {text}"


def first_equal(key: np.ndarray) -> np.ndarray:
    """Return, for each element, the place of the first one that equals it."""
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return first[inverse]


def _names(pairs: PairTable, row: Any) -> str:
    return f"{pairs.ids[pairs.left[row]]!r}, {pairs.ids[pairs.right[row]]!r}"


@dataclass(frozen=True, eq=False)
class CandidateTable:
    """Queries and their candidates as indices into a list of unique images.

    Parameters
    ----------
    source : str
        Where the table came from, for messages.
    ids : tuple of str, length n_images
        Unique images, named as in `PairTable`.
    paths : tuple of (Path or None), length n_images
        Their files; None where no folder was given.
    query : ndarray of shape (n_queries,), int64
        The query of each row.
    candidates : ndarray of shape (n_queries, n_candidates), int64
        Its candidates, in the order of the columns.
    rows : tuple of tuple of str
        The ids of each row as they were written: the query, then the candidates.
    header : tuple of str
        ``left, c0, c1, …``: the names that go with `rows`.
    """

    source: str
    ids: tuple[str, ...]
    paths: tuple[Path | None, ...]
    query: np.ndarray
    candidates: np.ndarray
    rows: tuple[tuple[str, ...], ...]
    header: tuple[str, ...]


def read_candidates(
    path: str | PathLike[str] | Any,
    *,
    images: str | PathLike[str] | None = None,
    left: str | PathLike[str] | None = None,
    right: str | PathLike[str] | None = None,
    anywhere: bool = False,
) -> CandidateTable:
    r"""Read a candidate table: columns ``left, c0, c1, …``.

    Parameters
    ----------
    path : path-like or pandas.DataFrame
        The table, separated by commas, semicolons or tabs.
    images : path-like, optional
        The folder of all images.
    left, right : path-like, optional
        The folder of the queries and that of the candidates instead.
    anywhere : bool, default=False
        Accept ids that are absolute paths or lead outside the folder. Whoever wrote
        the table then says which files are opened.

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
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "candidates.csv")
    ...     _ = path.write_text("left,c0,c1\na,x,y\nb,y,x\n")
    ...     table = read_candidates(path)
    >>> table.ids, table.query.tolist(), table.candidates.tolist()
    (('a', 'b', 'x', 'y'), [0, 1], [[2, 3], [3, 2]])
    """
    table = read_table(path, required=("left",), numbered="c")
    header = tuple(table.columns)
    ids, paths, codes = find_images(table, header, images, left, right, anywhere)
    table.raise_problems()
    return CandidateTable(
        source=table.source,
        ids=ids,
        paths=paths,
        query=codes["left"],
        candidates=np.column_stack([codes[name] for name in header[1:]]),
        rows=table.rows(),
        header=header,
    )
