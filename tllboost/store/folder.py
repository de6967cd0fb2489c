"""`VectorStore`: vectors in a folder, found by fingerprint and content hash."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from tllboost.errors import ImageError, StoreError, UsageError
from tllboost.store.hashes import forget_vanished_files, hash_files
from tllboost.store.index import guarded, open_index, transaction
from tllboost.store.repair import (
    drop_damaged,
    drop_space,
    find_damage,
    picture_name,
    tidy,
)
from tllboost.store.rows import (
    KEY_BYTES,
    ROW_TYPE,
    append_rows,
    damage,
    find_rows,
    list_spaces,
    make_space,
    read_rows,
    row_checksum,
)

__all__ = ["VectorStore", "default_store"]


def default_store() -> Path:
    """Return where vectors are kept unless told otherwise.

    ``$TLLBOOST_STORE``, or else ``store`` in the user's cache folder for tllboost.
    """
    chosen = os.environ.get("TLLBOOST_STORE")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("tllboost") / "store"


class VectorStore:
    """A folder of vectors, found by fingerprint and content hash.

    Any number of processes may use one folder at once; one object serves one thread.
    It opens on first use: use it in a ``with`` block, or `close` it.

    Parameters
    ----------
    folder : path-like
        Where the vectors lie; made on first use.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> cat, dog = "0a" * 32, "0b" * 32
    >>> with tempfile.TemporaryDirectory() as folder, VectorStore(folder) as store:
    ...     store.add("classic|v1", [cat], np.ones((1, 3), dtype=np.float32))
    ...     vectors, found = store.get("classic|v1", [dog, cat])
    >>> found
    array([False,  True])
    >>> vectors
    array([[0., 0., 0.],
           [1., 1., 1.]], dtype=float32)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = folder
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open index behind: a copy opens its own."""
        return {"folder": self.folder, "_connection": None}

    def __repr__(self) -> str:
        return f"VectorStore({os.fspath(self.folder)!r})"

    def open(self) -> None:
        """Open the store, make it where there is none, and tidy up after a kill.

        Raises
        ------
        StoreError
            If the folder holds another program's index, a newer one or a broken one.
        """
        if self._connection is not None:
            return
        with guarded(self._index):
            self._root.mkdir(parents=True, exist_ok=True)
            self._connection = open_index(self._index)
            try:
                tidy(self._connection, self._root)
            except BaseException:
                self.close()
                raise

    @property
    def is_open(self) -> bool:
        """Whether the index is open."""
        return self._connection is not None

    def close(self) -> None:
        """Close the index; the next use opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(
        self, fingerprint: str, keys: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the stored vectors of pictures.

        Parameters
        ----------
        fingerprint : str
            What the vectorizer calls itself.
        keys : sequence of str, length n_images
            SHA-256 of each picture's file, in hexadecimal.

        Returns
        -------
        vectors : ndarray of shape (n_images, n_dims), float32
            Zero where nothing is stored; ``n_dims`` is 0 for an unknown fingerprint.
        found : ndarray of shape (n_images,), bool
            Which of them are stored.

        Raises
        ------
        StoreError
            If a stored vector is damaged; it names the picture.
        """
        wanted = [_key_bytes(key) for key in keys]
        with guarded(self._index):
            rows, mapped = read_rows(self._opened, self._root, fingerprint, wanted)
        vectors = np.zeros((len(wanted), mapped.shape[1]), dtype=np.float32)
        found = np.array([key in rows for key in wanted], dtype=bool)
        for index in np.flatnonzero(found):
            row = rows[wanted[index]]
            problem = damage(row, mapped)
            if problem:
                msg = (
                    f"the store {str(self._root)!r} is damaged: the vector of "
                    f"{picture_name(self._opened, row.key)} under {fingerprint!r} "
                    f"{problem}; run `tllboost store prune` to drop what is damaged, "
                    "it is then computed again"
                )
                raise StoreError(msg)
            vectors[index] = mapped[row.position]
        return vectors, found

    def mapped(self, fingerprint: str) -> tuple[list[str], np.ndarray]:
        """Return all vectors of a fingerprint without reading them.

        Their checksums are not looked at: that is what `verify` is for.

        Returns
        -------
        keys : list of str, length n_images
            SHA-256 of each picture's file, in hexadecimal.
        vectors : ndarray of shape (n_images, n_dims), float32
            A memory map, where no gap was left by pruning.

        Raises
        ------
        StoreError
            If the file of the vectors is shorter than the index says.
        """
        with guarded(self._index):
            rows, mapped = read_rows(self._opened, self._root, fingerprint)
        positions = [row.position for row in rows.values()]
        if positions and positions[-1] >= len(mapped):
            msg = (
                f"the store {str(self._root)!r} is damaged: fewer vectors under "
                f"{fingerprint!r} than its index says; run `tllboost store prune`"
            )
            raise StoreError(msg)
        keys = [key.hex() for key in rows]
        if positions == list(range(len(mapped))):
            return keys, mapped
        return keys, mapped[positions]

    def add(self, fingerprint: str, keys: Sequence[str], vectors: np.ndarray) -> None:
        """Store the vectors of pictures; those stored already stay as they are.

        Parameters
        ----------
        fingerprint : str
            What the vectorizer calls itself.
        keys : sequence of str, length n_images
            SHA-256 of each picture's file, in hexadecimal.
        vectors : ndarray of shape (n_images, n_dims), float32
            One row a key.

        Raises
        ------
        StoreError
            If the disk is full, or the fingerprint has vectors of other dimensions.
        """
        vectors = np.asarray(vectors, dtype=ROW_TYPE)
        if vectors.ndim != 2 or len(vectors) != len(keys) or vectors.shape[1] == 0:
            msg = f"got vectors of shape {vectors.shape} for {len(keys)} keys"
            raise UsageError(msg)
        fresh = {_key_bytes(key): index for index, key in enumerate(keys)}
        if not fresh:
            return
        with self._writing() as connection:
            space = make_space(connection, fingerprint, vectors.shape[1])
            # Another process may have stored some since they were looked up.
            for key in find_rows(connection, space, list(fresh)):
                del fresh[key]
            block = vectors[list(fresh.values())]
            append_rows(self._root, space, block)
            connection.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?)",
                [
                    (space.id, key, position, row_checksum(key, row))
                    for position, (key, row) in enumerate(
                        zip(fresh, block, strict=True), start=space.n_rows
                    )
                ],
            )
            connection.execute(
                "UPDATE spaces SET n_rows = n_rows + ? WHERE id = ?",
                (len(block), space.id),
            )

    def hash_of(self, path: str | os.PathLike[str]) -> str:
        """Return the SHA-256 of a file, remembered while the file is unchanged.

        Raises
        ------
        ImageError
            If the file can't be read.
        """
        result = self.hashes_of([path])[0]
        if isinstance(result, ImageError):
            raise result
        return result

    def hashes_of(
        self, paths: Sequence[str | os.PathLike[str]], *, n_workers: int | None = None
    ) -> list[str | ImageError]:
        """Return the SHA-256 of each file, or the error of one that can't be read."""
        with guarded(self._index):
            return hash_files(paths, self._opened, n_workers=n_workers)

    def info(self) -> list[dict[str, Any]]:
        """Return what is stored, one entry a fingerprint.

        Returns
        -------
        list of dict
            With ``fingerprint``, ``n_dims``, ``n_rows``, ``n_bytes`` and ``created``.
        """
        with guarded(self._index):
            return [
                {
                    "fingerprint": space.fingerprint,
                    "n_dims": space.n_dims,
                    "n_rows": space.n_rows,
                    "n_bytes": space.n_bytes,
                    "created": space.created,
                }
                for space in list_spaces(self._opened)
            ]

    def verify(self) -> list[str]:
        """Read everything back and return what is wrong, one line a problem."""
        with guarded(self._index):
            return list(find_damage(self._opened, self._root))

    def prune(self, fingerprint: str | None = None) -> int:
        """Drop what is damaged, or all vectors of some fingerprints; free the space.

        Remembered hashes of files that are gone are forgotten too.

        Parameters
        ----------
        fingerprint : str, optional
            A whole one, or else how those begin that are to be dropped.

        Returns
        -------
        int
            How many vectors were dropped.

        Raises
        ------
        UsageError
            If `fingerprint` is empty, or nothing is stored under it.
        """
        with self._writing() as connection:
            spaces = list(list_spaces(connection))
            if fingerprint is None:
                n_dropped = sum(
                    drop_damaged(connection, self._root, space) for space in spaces
                )
            else:
                named = [one for one in spaces if one.fingerprint == fingerprint] or [
                    one
                    for one in spaces
                    if fingerprint and one.fingerprint.startswith(fingerprint)
                ]
                if not named:
                    msg = (
                        f"nothing is stored under {fingerprint!r}: "
                        "`tllboost store info` shows all fingerprints"
                    )
                    raise UsageError(msg)
                n_dropped = sum(drop_space(connection, space) for space in named)
            forget_vanished_files(connection)
        with guarded(self._index):
            tidy(self._opened, self._root)
        return n_dropped

    @property
    def _root(self) -> Path:
        return Path(self.folder)

    @property
    def _index(self) -> Path:
        return self._root / "index.sqlite"

    @property
    def _opened(self) -> sqlite3.Connection:
        self.open()
        assert self._connection is not None
        return self._connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with guarded(self._index), transaction(self._opened, write=True):
            yield self._opened


def _key_bytes(key: str) -> bytes:
    try:
        found = bytes.fromhex(key)
    except ValueError:
        found = b""
    if len(found) != KEY_BYTES:
        msg = f"{key!r} is no content hash: give 64 hexadecimal digits"
        raise UsageError(msg)
    return found
