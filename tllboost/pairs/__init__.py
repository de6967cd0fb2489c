"""Read a pair table from a file, finding every problem in it at once."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from tllboost.pairs.pair_table import PairTable, pairs_from_paths
from tllboost.pairs.tables import TextTable, find_images, read_table

__all__ = ["PairTable", "pairs_from_paths", "read_pairs"]

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
"""The spellings of the split column, and the side that each means."""

LABELS = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "true": 1, "false": 0}
"""The spellings of the label column, and what each means."""


def read_pairs(
    path: str | PathLike[str],
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
    path : path-like
        The table, separated by commas, semicolons or tabs. Without a ``label``
        column every row is a match.
    images : path-like, optional
        The folder of all images.
    left, right : path-like, optional
        The folder of each side instead. Without any folder the ids are taken as they
        are written and have no paths: for vectors that the user already has.
    allow_repeats : bool, default=False
        Accept a pair that stands twice and an image paired with itself: right for
        scoring, wrong for training.
    anywhere : bool, default=False
        Accept ids that are absolute paths or climb out of their folder. Whoever wrote
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
    sides = {"left": "left", "right": "right"}
    found = find_images(table, sides, images, left, right, anywhere=anywhere)
    pairs = PairTable(
        source=table.source,
        ids=found.ids,
        paths=found.paths,
        left=found.codes["left"],
        right=found.codes["right"],
        label=_translated(table, "label", LABELS, "1 (match) or 0 (no match)"),
        query=_queries(table),
        split=_translated(table, "split", SPLITS, "train, validation or test"),
        lines=table.lines,
        notes=_notes(table),
    )
    if not allow_repeats:
        _find_repeats(pairs, table)
    table.raise_problems()
    return pairs


def _notes(table: TextTable) -> tuple[str, ...]:
    """Say which columns have no part: a label by another name would be missed."""
    if not table.ignored:
        return ()
    ignored = ", ".join(repr(name) for name in table.ignored)
    known = ", ".join((*_REQUIRED, *_OPTIONAL))
    note = f"{table.source}: columns left alone: {ignored}; those read are {known}"
    if "label" not in table.columns:
        note += "; without label every row is a match"
    return (note,)


def _queries(table: TextTable) -> np.ndarray | None:
    column = table.columns.get("query")
    if column is None:
        return None
    rank = {value: i for i, value in enumerate(sorted(column.values))}
    if "" in rank:
        line = int(table.first_lines(column)[column.values.index("")])
        table.problems.append((line, "query '' is empty; give the query's name"))
    return np.array([rank[value] for value in column.values], np.int64)[column.codes]


def _translated(
    table: TextTable, name: str, meanings: dict[str, Any], legal: str
) -> Any:
    """Return what a column means, if it is there; unknown values are problems."""
    column = table.columns.get(name)
    if column is None:
        return None
    lines = table.first_lines(column).tolist()
    found = [meanings.get(value.lower()) for value in column.values]
    for value, meaning, line in zip(column.values, found, lines, strict=True):
        if meaning is None:
            text = f"{name} {value!r} is not legal; it must be {legal}"
            table.problems.append((line, text))
    some = next(iter(meanings.values()))
    kind = np.int8 if isinstance(some, int) else str
    return np.array([some if m is None else m for m in found], kind)[column.codes]


def _find_repeats(pairs: PairTable, table: TextTable) -> None:
    """Find rows that pair an image with itself, or repeat or deny an earlier row."""
    for row in np.flatnonzero((pairs.left == pairs.right) & (pairs.left >= 0)):
        text = f"{pairs.ids[pairs.left[row]]!r} is paired with itself; drop the row"
        table.problems.append((int(pairs.lines[row]), text))
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
    if pairs.query is not None and len(key):
        # The same two images may stand in several queries.
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
