"""Labelled pairs of pictures, vectorized, on a training and a validation side."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tllboost.errors import ImageError
from tllboost.pairs import PairTable, pairs_from_paths
from tllboost.splits import (
    PairSet,
    Protocol,
    harden,
    match_components,
    training_sides,
)
from tllboost.vectorizing import vectorize

if TYPE_CHECKING:
    from tllboost.vectorizers import Vectorizer

__all__ = ["Labelled", "raise_first", "vectorize_labelled"]


class Labelled(NamedTuple):
    """What estimators that take pairs of paths are fitted on.

    ``vectors`` is (n_images, n_dims) float32; ``train`` and ``validation`` are pairs
    of its rows that share no picture.
    """

    vectors: NDArray[np.float32]
    train: PairSet
    validation: PairSet


def vectorize_labelled(
    vectorizer: Vectorizer,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    store: str | PathLike[str] | None = None,
    n_negatives: int | None = None,
    n_hard: int = 0,
    validation_fraction: float = 0.15,
    seed: int = 0,
) -> Labelled:
    """Vectorize the pictures of labelled pairs and hold out a part of the pairs.

    Parameters
    ----------
    vectorizer : Vectorizer
    X : array-like of shape (n_pairs, 2)
        Paths of the left and of the right picture.
    y : array-like of shape (n_pairs,) or None, default=None
        1 for a match, 0 for none; None says that all are matches.
    store : path-like or None, default=None
        Folder of the vector store.
    n_negatives : int or None, default=None
        Non-matches drawn for each training match, beside those given. None draws 5
        where `y` has matches only, else none.
    n_hard : int, default=0
        How many of them are the nearest by cosine.
    validation_fraction : float, default=0.15
        Share of the matches held out, whole components at a time.
    seed : int, default=0
        Decides what is held out and drawn.

    Raises
    ------
    ImageError
        If a picture can't be read.
    DataError
        If there are too few pairs to hold a part out.

    Examples
    --------
    >>> import tempfile
    >>> from tllboost.scenes import make_scenes
    >>> from tllboost.vectorizers import make_vectorizer
    >>> folder = make_scenes(tempfile.mkdtemp(), n_scenes=6, n_views=2).parent
    >>> X = [[folder / f"scene_{i:04d}_{v}.jpg" for v in (0, 1)] for i in range(1, 7)]
    >>> data = vectorize_labelled(
    ...     make_vectorizer("pixels?size=4"), X, validation_fraction=0.4
    ... )
    >>> data.vectors.shape, int(data.train.label.sum())
    ((12, 48), 3)
    """
    table = pairs_from_paths(X, y)
    result = vectorize(vectorizer, table.paths, ids=table.ids, store=store)
    raise_first(result.failures, table)
    is_match = table.label == 1
    if n_negatives is None:
        n_negatives = 5 if is_match.all() else 0
    component = match_components(
        table.n_images,
        table.left[is_match],
        table.right[is_match],
        _identical(result.vectors),
    )
    train, validation = training_sides(
        table.left,
        table.right,
        table.label,
        component,
        protocol=Protocol(
            n_negatives=n_negatives,
            n_hard=n_hard,
            validation_fraction=validation_fraction,
        ),
        seed=seed,
    )
    return Labelled(result.vectors, harden(train, result.vectors, n_hard), validation)


def raise_first(failures: Mapping[int, str], table: PairTable) -> None:
    """Raise for the first picture that could not be vectorized, if any.

    Parameters
    ----------
    failures : mapping of int to str
        Index of each picture that failed, and why.
    table : PairTable
        Whose pictures they are.

    Raises
    ------
    ImageError
        It names the picture.
    """
    for index, reason in sorted(failures.items()):
        raise ImageError(table.paths[index] or table.ids[index], reason)


def _identical(vectors: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Tie pictures of the same vector: as far as the head can tell, they are one."""
    first: dict[bytes, int] = {}
    ties = [(first.setdefault(row.tobytes(), i), i) for i, row in enumerate(vectors)]
    return [(a, b) for a, b in ties if a != b]
