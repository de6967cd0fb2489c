"""Pair tables: which two images belong to each row, and whether they match."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.errors import UsageError

__all__ = ["PairTable", "pairs_from_paths"]


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
        msg = (
            f"X has shape {cells.shape}; it must be (n_pairs, 2): "
            "the paths of the two images of each pair"
        )
        raise UsageError(msg)
    for row, cell in enumerate(cells.ravel()):
        if not isinstance(cell, str | PathLike):
            msg = f"X[{row // 2}, {row % 2}] is {cell!r}; it must be a path"
            raise UsageError(msg)
    names = [str(os.fspath(cell)) for cell in cells.ravel()]
    unique = sorted(set(names))
    number = {name: i for i, name in enumerate(unique)}
    codes = np.array([number[name] for name in names], dtype=np.int64).reshape(-1, 2)
    if y is not None:
        y = np.asarray(y)
        if y.shape != (len(codes),):
            msg = f"y has shape {y.shape}; it must be ({len(codes)},), a label a pair"
            raise UsageError(msg)
        wrong = [value for value in np.unique(y).tolist() if value not in (0, 1)]
        if wrong:
            msg = f"y holds {wrong[0]!r}; a label is 1 (match) or 0 (no match)"
            raise UsageError(msg)
        y = y.astype(np.int8)
    left, right = codes.T
    return PairTable("X", tuple(unique), tuple(map(Path, unique)), left, right, y)
