"""From a pair table to what all cells share: vectors, components, splits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError, HubError
from tllboost.grid.cells import Plan, digest
from tllboost.pairs import PairTable, first_equal
from tllboost.processes import Backend, Progress
from tllboost.projections import NONE
from tllboost.splits import Protocol, Split, SplitTable, make_splits, match_components
from tllboost.store import VectorStore, hash_files
from tllboost.vectorizing import Vectorized, space_of, vectorize

__all__ = ["Grid", "GridData", "Key", "Learned", "gather"]


@dataclass(eq=False)
class GridData:
    """Everything that all cells see alike.

    Attributes
    ----------
    table : PairTable
        Pairs of two readable images, in an order that is always the same.
    protocol : Protocol
    vectors : dict of str to Vectorized
        By the label that cells know a vectorizer under.
    spaces : dict of str to str
        What those vectors are stored under.
    failures : dict of int to str
        Why some vectorizer could not read an image; its pairs are in no cell, so that
        all cells are measured on the same pairs.
    component : ndarray of shape (n_images,), int64
    contents : list of str
        The hash of each image's bytes, its name where it has no file.
    same : ndarray of shape (n_images,), int64
        The first image of the same content.
    digest : str
        Hash of all that the splits and labels depend on.
    n_dropped : int
        Pairs left out.
    unavailable : dict of str to str
        Why no hub gives the weights of a vectorizer.
    whole : bool
        Whether all pairs are the training set: see
        :func:`~tllboost.splits.make_splits`.
    """

    table: PairTable
    protocol: Protocol
    vectors: dict[str, Vectorized]
    spaces: dict[str, str]
    failures: dict[int, str]
    component: NDArray[np.int64]
    contents: list[str]
    same: NDArray[np.int64]
    digest: str
    n_dropped: int
    unavailable: dict[str, str]
    whole: bool = False
    _splits: dict[int, list[Split]] = field(default_factory=dict, init=False)

    def splits(self, seed: int) -> list[Split]:
        """Return the splits of one seed, made once."""
        if seed not in self._splits:
            own = self.table
            table = SplitTable(
                own.left, own.right, own.label, self.component, own.query, own.split
            )
            self._splits[seed] = make_splits(
                table, protocol=self.protocol, seed=seed, whole=self.whole
            )
        return self._splits[seed]

    def split_digest(self, seed: int) -> str:
        """Hash the pairs of every set: another way to split is another cell."""
        names = ("left", "right", "label", "query")
        return digest(
            [
                [sha256(getattr(pairs, one).tobytes()).hexdigest() for one in names]
                for split in self.splits(seed)
                for pairs in (split.train, split.validation, split.test)
            ]
        )


@dataclass(frozen=True, eq=False)
class Learned:
    """What became of a projection: of its fit, and of the fine-tuning below it.

    Attributes
    ----------
    files : tuple of Path
        What was fitted last, a file a fold; none where nothing was to be, or it failed.
    seconds : float
        Of all folds together.
    error : str
        Why it failed, or nothing.
    said : sequence of list of float
        What validation said in each fold.
    """

    files: tuple[Path, ...] = ()
    seconds: float = 0.0
    error: str = ""
    said: Sequence[list[float]] = ()


Key = tuple[str, str, int]
"""A vectorizer, a projection or fine-tuning, and a seed."""


@dataclass(frozen=True, eq=False)
class Grid:
    """One grid: what is measured, on what, by whom, and where it is written.

    Attributes
    ----------
    out : Path
    plan : Plan
    seeds : sequence of int
    metric : str
        What figures are told in.
    data : GridData
    store : VectorStore or path-like
    device : str
    backend : Processes or Cluster
    progress : callable or None
    learned : dict of (vectorizer, projection, seed) to Learned
        What was fitted before the cells.
    tuned : dict of (vectorizer, fine-tuning, seed) to (list, list)
        Fine-tuned networks and their vectors, one a fold.
    refit : bool
        Whether what goes into bundles is fitted again on all pairs.
    earlier : dict of (vectorizer, projection, seed) to Learned
        Where this is such a fit: what is to be repeated on all pairs.
    """

    out: Path
    plan: Plan
    seeds: Sequence[int]
    metric: str
    data: GridData
    store: VectorStore | str | os.PathLike[str]
    device: str
    backend: Backend
    progress: Progress | None
    learned: dict[Key, Learned] = field(default_factory=dict)
    tuned: dict[Key, tuple[list[Any], list[NDArray[np.float32]]]] = field(
        default_factory=dict
    )
    refit: bool = True
    earlier: Mapping[Key, Learned] = field(default_factory=dict)

    def bases(
        self, vectorizer: str, tuning: str, seed: int
    ) -> list[NDArray[np.float32]]:
        """Return the vectors that are mapped after a fine-tuning, an array a fold."""
        if tuning != NONE:
            return self.tuned[vectorizer, tuning, seed][1]
        vectors = self.data.vectors[vectorizer].vectors
        return [vectors] * len(self.data.splits(seed))


def gather(
    table: PairTable,
    vectorizers: Mapping[str, Any],
    protocol: Protocol | None = None,
    **how: Any,
) -> GridData:
    """Vectorize the images of a table and tie them into components.

    Parameters
    ----------
    table : PairTable
    vectorizers : mapping of str to Vectorizer
        By the label that cells know them under.
    protocol : Protocol or None
        None takes the default.
    **how
        For :func:`~tllboost.vectorize`: ``store``, ``backend``, ``progress``, and
        ``strict``, to raise the first failure of an image.

    Raises
    ------
    ImageError
        If an image fails and ``strict`` is set.
    DataError
        If no match is left.
    UsageError
        If a vectorizer needs images and there are none.
    HubError
        If no vectorizer's published weights can be had.
    """
    vectors: dict[str, Vectorized] = {}
    failures: dict[int, str] = {}
    unavailable: dict[str, str] = {}
    for label, vectorizer in vectorizers.items():
        if not getattr(vectorizer, "needs_images", True):
            vectorizer = copy(vectorizer)  # ends, and its file's vectors with it
        try:
            result = vectorize(vectorizer, table.paths, ids=table.ids, **how)
        except HubError as error:
            unavailable[label] = str(error)
            if len(unavailable) == len(vectorizers):
                raise
            continue
        failures = result.failures | failures
        vectors[label] = result
    good = np.ones(table.n_images, dtype=bool)
    good[list(failures)] = False
    kept = table.take(good[table.left] & good[table.right])
    if not (kept.label == 1).any():
        first = next(iter(failures.values()), "there is none")
        msg = f"{table.source}: no match has two readable images ({first})"
        raise DataError(msg)
    # Figures must not depend on the order in which a table happens to list its pairs.
    kept = kept.take(np.lexsort((kept.label, kept.right, kept.left)))
    # What an image is: the hash of its bytes, or its name where it has none.
    paths = [path for path in kept.paths if path is not None]
    hashes: dict[Any, Any] = dict(zip(paths, hash_files(paths), strict=True))
    contents = [
        content if isinstance(content := hashes.get(path), str) else name
        for name, path in zip(kept.ids, kept.paths, strict=True)
    ]
    # Each image is tied to the first one of the same content.
    same = first_equal(np.array(contents, dtype=object))
    is_match = kept.label == 1
    columns = (kept.left, kept.right, kept.label, kept.query, kept.split)
    return GridData(
        kept,
        protocol or Protocol(),
        vectors,
        {label: space_of(vectorizers[label]) for label in vectors},
        failures,
        match_components(
            kept.n_images, kept.left[is_match], kept.right[is_match], enumerate(same)
        ),
        contents,
        same,
        digest(contents, [None if one is None else one.tolist() for one in columns]),
        table.n_pairs - kept.n_pairs,
        unavailable,
    )
