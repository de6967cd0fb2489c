"""The single vectorizers that a classifier looks through, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from tllboost.classifier import PairClassifier
from tllboost.errors import UsageError
from tllboost.fitted import FittedCell, joint_score
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizing import Progress, space_of, vectorize_many

__all__ = [
    "Blocks",
    "Leaves",
    "cell_vectors",
    "leaf_blocks",
    "leaves_of",
    "log_odds",
    "scores",
]

Indices = NDArray[np.int64]
Leaves = Mapping[str, Vectorizer]
Blocks = Mapping[str, NDArray[np.float32]]
"""Vectors (n_images, n_dims of the leaf) by what the leaf is stored under."""


def leaves_of(cells: Sequence[FittedCell]) -> dict[str, Vectorizer]:
    """Return the parts of all vectorizers, each once, by what they are stored under.

    Raises
    ------
    UsageError
        If one of them never looks at a picture.
    """
    leaves: dict[str, Vectorizer] = {}
    for cell in cells:
        for leaf in _parts(cell.vectorizer):
            leaves.setdefault(space_of(leaf), leaf)
    for leaf in leaves.values():
        if not leaf.needs_images:
            msg = (
                f"{leaf.label!r} looks vectors up by id and sees no picture: there is "
                "nothing to cover; explain a bundle whose vectorizers look at pictures"
            )
            raise UsageError(msg)
    return leaves


def leaf_blocks(
    leaves: Leaves,
    paths: Sequence[str | PathLike[str]],
    *,
    store: str | PathLike[str] | None,
    progress: Progress | None = None,
) -> tuple[dict[str, NDArray[np.float32]], dict[int, str]]:
    """Vectorize pictures with every leaf; return what failed by index, too."""
    results = vectorize_many(
        list(leaves.values()), paths, store=store, progress=progress
    )
    failures: dict[int, str] = {}
    for result in results:
        failures = result.failures | failures
    vectors = [result.vectors for result in results]
    return dict(zip(leaves, vectors, strict=True)), failures


def scores(
    classifier: PairClassifier, blocks: Blocks, left: Indices, right: Indices
) -> NDArray[np.float64]:
    """Return the score of pairs of rows, before calibration: (n_pairs,) float64."""
    vectors = [cell_vectors(cell, blocks) for cell in classifier.cells_]
    return joint_score(classifier.cells_, vectors, left, right)


def log_odds(
    classifier: PairClassifier, blocks: Blocks, left: Indices, right: Indices
) -> NDArray[np.float64]:
    """Return the calibrated log-odds of pairs of rows: (n_pairs,) float64."""
    return classifier.calibration_.log_odds(scores(classifier, blocks, left, right))


def cell_vectors(cell: FittedCell, blocks: Blocks) -> NDArray[np.float32]:
    """Return the vectors that a cell sees, put together from those of the leaves."""
    own = [blocks[space_of(leaf)] for leaf in _parts(cell.vectorizer)]
    fuse = getattr(cell.vectorizer, "fuse", None)
    return own[0] if fuse is None else fuse(own)


def _parts(vectorizer: Vectorizer) -> Sequence[Vectorizer]:
    parts: Sequence[Vectorizer] | None = getattr(vectorizer, "parts", None)
    return [vectorizer] if parts is None else parts
