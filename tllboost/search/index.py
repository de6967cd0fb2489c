"""`VectorIndex`: the vectors to look among, and what of them can be known before."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tllboost.bilinear import lengths_of
from tllboost.errors import DataError, UsageError
from tllboost.fitted import FittedCell
from tllboost.search.files import map_archive, map_array
from tllboost.store import VectorStore

__all__ = ["VectorIndex", "View"]

_BLOCK = 4096


class View(NamedTuple):
    """The vectors as a cell merges them: projected, and how long each is."""

    vectors: NDArray[np.float32]
    lengths: NDArray[np.float32]


class VectorIndex:
    """Vectors of many pictures by one vectorizer, to be searched again and again.

    What a search needs of all of them, their lengths and, of a cell with a projection,
    the projected vectors, is computed at the first search and kept.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
        May be a memory map: it is only read.
    ids : sequence of str, length n_images, optional
        What the pictures are called; by default "0", "1", ….

    Examples
    --------
    >>> index = VectorIndex(np.float32([[1, 0], [0, 1]]), ["cat", "dog"])
    >>> len(index), index.n_dims, index.id_of(1)
    (2, 2, 'dog')
    """

    def __init__(
        self, vectors: NDArray[np.float32], ids: Sequence[str] | None = None
    ) -> None:
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            msg = (
                f"vectors of shape {vectors.shape}, {vectors.dtype}: give "
                "(n_images, n_dims), float32"
            )
            raise UsageError(msg)
        if ids is not None and len(ids) != len(vectors):
            msg = f"got {len(ids)} ids for {len(vectors)} vectors"
            raise UsageError(msg)
        self.vectors = vectors
        self.ids = ids
        self._views: dict[int, tuple[object, View]] = {}

    @classmethod
    def open(cls, path: str | PathLike[str], *, fingerprint: str | None = None) -> Self:
        """Open vectors on disk; they are mapped into memory, not read.

        Parameters
        ----------
        path : path-like
            An ``.npy`` file of the vectors alone; an ``.npz`` file of ``ids`` and
            ``vectors``, as ``tllboost vectorize --out`` writes; or the folder of a
            store, where pictures are called by the sha256 of their files.
        fingerprint : str, optional
            Which vectors of a store, as ``tllboost store info`` spells it; may be left
            out where there is one.

        Raises
        ------
        DataError
            If there are no vectors.
        StoreError
            If the store is damaged.
        UsageError
            If a store has several fingerprints and none was chosen.
        """
        path = Path(path)
        if path.suffix == ".npy":
            return cls(map_array(path))
        if path.suffix == ".npz":
            ids, vectors = map_archive(path)
            return cls(vectors, ids)
        if not (path / "index.sqlite").is_file():
            msg = f"{str(path)!r} is no .npy file, no .npz file and no vector store"
            raise DataError(msg)
        with VectorStore(path) as store:
            chosen = _only(store, fingerprint, path)
            keys, vectors = store.mapped(chosen)
        return cls(vectors, keys)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def n_dims(self) -> int:
        """Width of a vector."""
        return self.vectors.shape[1]

    def id_of(self, row: int) -> str:
        """Return what the picture of a row is called."""
        return str(row) if self.ids is None else self.ids[row]

    def view(self, cell: FittedCell) -> View:
        """Return the vectors as a cell merges them, computed at the first call."""
        key = id(cell.projection)
        if key not in self._views:
            vectors = self._projected(cell)
            # The projection is held too, so that no other gets its place and id.
            self._views[key] = cell.projection, View(vectors, lengths_of(vectors))
        return self._views[key][1]

    def _projected(self, cell: FittedCell) -> NDArray[np.float32]:
        if cell.projection is None or not len(self):
            return self.vectors
        starts = range(0, len(self), _BLOCK)
        first, *others = (cell.project(self.vectors[i : i + _BLOCK]) for i in starts)
        return np.concatenate([first, *others])


def _only(store: VectorStore, fingerprint: str | None, path: Path) -> str:
    """Return the fingerprint that is meant."""
    known = [entry["fingerprint"] for entry in store.info()]
    if fingerprint is None and len(known) == 1:
        return str(known[0])
    if fingerprint is not None and fingerprint in known:
        return fingerprint
    listed = "; ".join(map(repr, known)) or "none"
    msg = f"store {str(path)!r}: fingerprint {fingerprint!r} is none of {listed}"
    raise UsageError(msg)
