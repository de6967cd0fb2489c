"""From a pair table to what all cells share: vectors, components, splits.

Fine-tuned networks in the grid: their vectors, through the store as any other's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import DataError, HubError, ImageError, UsageError
from tllboost.grid.cells import digest
from tllboost.pairs.pair_table import PairTable
from tllboost.processes import Backend
from tllboost.splits import Protocol, Split, make_splits, match_components
from tllboost.store import VectorStore, default_store, hash_files
from tllboost.vectorizing import space_of, vectorize

__all__ = ["GridData", "gather", "tuned_vectors"]

Progress = Callable[[int, int, str], None]


@dataclass(eq=False)
class Vectors:
    """The vectors of one vectorizer and what they cost."""

    label: str
    space: str
    array: NDArray[np.float32]
    seconds: float
    n_computed: int
    n_reused: int


@dataclass(eq=False)
class GridData:
    """Everything that all cells see alike.

    ``failures`` maps the index of an image that some vectorizer could not read to the
    reason; its pairs are in no cell, so that all cells are measured on the same pairs.
    ``contents`` is the hash of each image's bytes, its name where it has no file.
    ``unavailable`` maps a vectorizer whose weights no hub gives to the reason.
    """

    table: PairTable
    vectors: dict[str, Vectors]
    failures: dict[int, str]
    component: NDArray[np.int64]
    contents: list[str]
    digest: str
    n_dropped: int = 0
    unavailable: dict[str, str] = field(default_factory=dict)
    _splits: dict[tuple[Protocol, int], list[Split]] = field(default_factory=dict)

    def splits(self, protocol: Protocol, seed: int) -> list[Split]:
        """Return the splits of one seed, made once."""
        if (protocol, seed) not in self._splits:
            table = self.table
            self._splits[protocol, seed] = make_splits(
                table.left,
                table.right,
                table.label,
                self.component,
                protocol=protocol,
                seed=seed,
                query=table.query,
                given=table.split,
            )
        return self._splits[protocol, seed]

    def sizes(self) -> dict[str, int]:
        """Return how many there are of what a run is about."""
        used = np.union1d(self.table.left, self.table.right)
        return {
            "pairs": self.table.n_pairs,
            "matches": int(np.count_nonzero(self.table.label == 1)),
            "images": len(used),
            "components": len(np.unique(self.component[used])),
            "pairs left out": self.n_dropped,
        }

    def split_digest(self, protocol: Protocol, seed: int) -> str:
        """Hash the pairs of every side: another way to split is another cell."""
        sides = [
            (side.left, side.right, side.label, side.query)
            for split in self.splits(protocol, seed)
            for side in (split.train, split.validation, split.test)
        ]
        return digest([[column.tobytes() for column in side] for side in sides])


def gather(
    table: PairTable,
    vectorizers: Mapping[str, Any],
    *,
    store: VectorStore | str | os.PathLike[str] | None = None,
    batch_size: int = 32,
    backend: Backend | None = None,
    progress: Progress | None = None,
    strict: bool = False,
) -> GridData:
    """Vectorize the images of a table and tie them into components.

    Parameters
    ----------
    table : PairTable
    vectorizers : mapping of str to Vectorizer
        By the label that cells know them under.
    store : VectorStore, path-like or None
    batch_size : int, default=32
    backend : Processes or Cluster or None, default=None
        Who computes vectors; None is this process.
    progress : callable or None
    strict : bool, default=False
        Raise the first failure of an image.

    Raises
    ------
    ImageError
        If an image fails and `strict` is set.
    DataError
        If no match is left.
    UsageError
        If a vectorizer needs images and there are none.
    HubError
        If no vectorizer's published weights can be had.
    """
    vectors: dict[str, Vectors] = {}
    failures: dict[int, str] = {}
    unavailable: dict[str, str] = {}
    for label, vectorizer in vectorizers.items():
        _need_images(table, vectorizer)
        try:
            result = vectorize(
                vectorizer,
                table.paths,
                ids=table.ids,
                store=store,
                batch_size=batch_size,
                backend=backend,
                progress=progress,
                strict=strict,
            )
        except HubError as error:
            unavailable[label] = str(error)
            if len(unavailable) == len(vectorizers):
                raise
            continue
        failures = result.failures | failures
        vectors[label] = Vectors(
            label,
            space_of(vectorizer),
            result.vectors,
            result.seconds,
            result.n_computed,
            result.n_reused,
        )
    kept = table.without_images(set(failures))
    if not (kept.label == 1).any():
        first = next(iter(failures.values()), "there is none")
        msg = f"{table.source}: no match is left with two readable images ({first})"
        raise DataError(msg)
    # Figures must not depend on the order in which a table happens to list its pairs.
    kept = kept.take(np.lexsort((kept.label, kept.right, kept.left)))
    contents = _contents(kept)
    is_match = kept.label == 1
    component = match_components(
        kept.n_images, kept.left[is_match], kept.right[is_match], _identical(contents)
    )
    return GridData(
        kept,
        vectors,
        failures,
        component,
        contents,
        _digest(kept, contents),
        n_dropped=table.n_pairs - kept.n_pairs,
        unavailable=unavailable,
    )


def _need_images(table: PairTable, vectorizer: Any) -> None:
    if getattr(vectorizer, "needs_images", True) and None in table.paths:
        msg = (
            f"{vectorizer.label} needs the images of {table.source}: give --images, "
            "or --left and --right"
        )
        raise UsageError(msg)


def _contents(table: PairTable) -> list[str]:
    """Return what each image is: the hash of its bytes, or its name where unread."""
    paths = [path for path in table.paths if path is not None]
    hashes = dict(zip(paths, hash_files(paths), strict=True))
    found = [None if path is None else hashes[path] for path in table.paths]
    return [
        name if content is None or isinstance(content, ImageError) else content
        for name, content in zip(table.ids, found, strict=True)
    ]


def _identical(contents: list[str]) -> list[tuple[int, int]]:
    """Tie each image to the first one of the same content."""
    first: dict[str, int] = {}
    ties = [(first.setdefault(content, i), i) for i, content in enumerate(contents)]
    return [(a, b) for a, b in ties if a != b]


def _digest(table: PairTable, contents: list[str]) -> str:
    """Hash all that the splits and labels depend on."""
    columns = (table.left, table.right, table.label, table.query, table.split)
    return digest(contents, [None if c is None else c.tolist() for c in columns])


def tuned_vectors(
    vectorizer: Any,
    files: Sequence[Path],
    data: GridData,
    *,
    store: Any = None,
    progress: Callable[[int, int, str], None] | None = None,
    backend: Backend | None = None,
) -> tuple[list[Any], list[NDArray[np.float32]]]:
    """Return the fine-tuned vectorizer of each fold, and the vectors of all images.

    Parameters
    ----------
    vectorizer : Vectorizer
        The network before.
    files : sequence of Path
        Its weights after, a file a fold.
    data : GridData
    store : VectorStore, path-like or None
        None takes :func:`~tllboost.store.default_store`.
    progress : callable or None
    backend : Processes or Cluster or None, default=None
        Who computes; None is this process.
    """
    from sklearn.base import clone

    networks = [clone(vectorizer).set_params(file=str(file)) for file in files]
    arrays = [
        vectorize(
            network,
            data.table.paths,
            ids=data.table.ids,
            store=default_store() if store is None else store,
            backend=backend,
            progress=progress,
        ).vectors
        for network in networks
    ]
    return networks, arrays
