"""The rows of a store: one space a fingerprint, its index rows and its flat file.

Keeping a store in order: tidying after a kill, finding damage, dropping rows.

`VectorStore`: vectors in a folder, found by fingerprint and content hash.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from tllboost.errors import ImageError, StoreError, UsageError
from tllboost.store.hashes import forget_vanished_files, hash_files
from tllboost.store.index import guarded, open_index, transaction

__all__ = ["VectorStore", "default_store"]

ROW_TYPE = np.dtype("<f4")
KEY_BYTES = 32
_KEYS_A_QUERY = 500
_MOST_DIMS = 2**24
_ROWS_FILE = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}\.f32")


class Space(NamedTuple):
    """One fingerprint and its file, as the index has them."""

    id: int
    fingerprint: str
    n_dims: int
    file: str
    n_rows: int
    created: str

    @property
    def n_bytes(self) -> int:
        """How long the file is when nothing is wrong."""
        return self.n_rows * self.n_dims * ROW_TYPE.itemsize


class Row(NamedTuple):
    """Where the vector of one image lies."""

    key: bytes
    position: int
    checksum: int


_SPACE_QUERY = f"SELECT {', '.join(Space._fields)} FROM spaces"
_ROW_QUERY = f"SELECT {', '.join(Row._fields)} FROM rows WHERE space = ?"


def list_spaces(connection: sqlite3.Connection) -> list[Space]:
    """Return all spaces, the oldest first."""
    return [_space(row) for row in connection.execute(f"{_SPACE_QUERY} ORDER BY id")]


def find_space(connection: sqlite3.Connection, fingerprint: str) -> Space | None:
    """Return the space of a fingerprint, if there is one."""
    found = connection.execute(f"{_SPACE_QUERY} WHERE fingerprint = ?", (fingerprint,))
    row = found.fetchone()
    return None if row is None else _space(row)


def make_space(connection: sqlite3.Connection, fingerprint: str, n_dims: int) -> Space:
    """Return the space of a fingerprint, entered in the index if it is new.

    Raises
    ------
    StoreError
        If it is known with another number of dimensions.
    """
    connection.execute(
        "INSERT INTO spaces (fingerprint, n_dims, file, n_rows) VALUES (?, ?, ?, 0)"
        " ON CONFLICT DO NOTHING",
        (fingerprint, n_dims, new_file_name(fingerprint)),
    )
    space = find_space(connection, fingerprint)
    if space is None or space.n_dims != n_dims:
        msg = (
            f"the store has vectors of {space and space.n_dims} dimensions under "
            f"{fingerprint!r}, got {n_dims}: what changes a vector must change the "
            "vectorizer's fingerprint"
        )
        raise StoreError(msg)
    return space


def find_rows(
    connection: sqlite3.Connection, space: Space, keys: Sequence[bytes] | None = None
) -> dict[bytes, Row]:
    """Return the rows of some images, those that are stored; of all by default."""
    if keys is None:
        found = connection.execute(f"{_ROW_QUERY} ORDER BY position", (space.id,))
        return {row[0]: _row(row) for row in found}
    rows = {}
    for start in range(0, len(keys), _KEYS_A_QUERY):
        some = keys[start : start + _KEYS_A_QUERY]
        query = f"{_ROW_QUERY} AND key IN ({', '.join('?' * len(some))})"
        rows.update(
            {row[0]: _row(row) for row in connection.execute(query, (space.id, *some))}
        )
    return rows


def is_rows_file(name: object) -> bool:
    """Tell whether a name is one that rows are kept under."""
    return isinstance(name, str) and _ROWS_FILE.fullmatch(name) is not None


def _space(values: Sequence[Any]) -> Space:
    """Return what the index says of a space, if it can be so.

    An index is a file that a disk may damage and that a stranger may have made: it
    names no file outside of its folder, and no number that fills the memory.
    """
    space = Space(*values)
    sound = (
        isinstance(space.fingerprint, str)
        and is_rows_file(space.file)
        and _is_count(space.n_dims, _MOST_DIMS)
        and space.n_dims > 0
        and _is_count(space.n_rows, 2**40)
    )
    if not sound:
        msg = f"database disk image is malformed: space {space.id!r} can't be so"
        raise sqlite3.DatabaseError(msg)
    return space


def _row(values: Sequence[Any]) -> Row:
    row = Row(*values)
    sound = (
        isinstance(row.key, bytes)
        and len(row.key) == KEY_BYTES
        and isinstance(row.position, int)
        and _is_count(row.checksum, 2**32)
    )
    if not sound:
        msg = "database disk image is malformed: a row in it can't be so"
        raise sqlite3.DatabaseError(msg)
    return row


def _is_count(value: object, limit: int) -> bool:
    return isinstance(value, int) and 0 <= value < limit


def new_file_name(fingerprint: str) -> str:
    """Return a name that no file of the fingerprint has had before."""
    digest = hashlib.sha256(fingerprint.encode()).hexdigest()
    return f"{digest[:16]}-{secrets.token_hex(4)}.f32"


def row_checksum(key: bytes, row: np.ndarray) -> int:
    """Return the CRC-32 of a row and of the key that it belongs to.

    With the key in it, a row that a damaged index hands to another image is caught.
    """
    return zlib.crc32(np.ascontiguousarray(row, dtype=ROW_TYPE).data, zlib.crc32(key))


def damage(row: Row, mapped: np.ndarray) -> str | None:
    """Return what is wrong with a stored row, if anything."""
    if not 0 <= row.position < len(mapped):
        return "is missing from its file"
    if row_checksum(row.key, mapped[row.position]) != row.checksum:
        return "does not match its checksum"
    return None


def append_rows(folder: Path, space: Space, vectors: np.ndarray) -> None:
    """Write rows after those of the space and wait until the disk has them.

    What lies there, the tail that a killed process left, is cut off.

    Raises
    ------
    StoreError
        If the file is shorter than the index says.
    """
    path = folder / space.file
    _refuse_link(path)
    with path.open("r+b" if path.exists() else "xb") as file:
        if os.fstat(file.fileno()).st_size < space.n_bytes:
            msg = (
                f"{str(path)!r} is shorter than its index says; run `tllboost store "
                "prune` to drop what is damaged, it is then computed again"
            )
            raise StoreError(msg)
        file.truncate(space.n_bytes)
        file.seek(space.n_bytes)
        file.write(np.ascontiguousarray(vectors, dtype=ROW_TYPE).data)
        file.flush()
        os.fsync(file.fileno())


def _refuse_link(path: Path) -> None:
    """Write into no file that lies somewhere else."""
    if path.is_symlink():
        msg = f"{str(path)!r} is a link, and no store makes any: delete the folder"
        raise StoreError(msg)


def map_rows(folder: Path, space: Space) -> np.ndarray:
    """Return the rows of a file without reading them: fewer if it is too short.

    Raises
    ------
    FileNotFoundError
        If the file is not there.
    """
    path = folder / space.file
    n_whole = path.stat().st_size // (space.n_dims * ROW_TYPE.itemsize)
    shape = (min(space.n_rows, n_whole), space.n_dims)
    if shape[0] == 0:
        return np.empty(shape, dtype=ROW_TYPE)
    return np.memmap(path, dtype=ROW_TYPE, mode="r", shape=shape)


def read_rows(
    connection: sqlite3.Connection,
    folder: Path,
    fingerprint: str,
    keys: Sequence[bytes] | None = None,
) -> tuple[dict[bytes, Row], np.ndarray]:
    """Return the rows of a fingerprint and its mapped file, as at one moment."""
    empty = np.empty((0, 0), dtype=ROW_TYPE)
    for _ in range(3):
        with transaction(connection):
            space = find_space(connection, fingerprint)
            if space is None:
                return {}, empty
            rows = find_rows(connection, space, keys)
            empty = np.empty((0, space.n_dims), dtype=ROW_TYPE)
            # Another process may compact, and unlink the file that this snapshot of
            # the index names: the next snapshot names the new one.
            with suppress(FileNotFoundError):
                return rows, map_rows(folder, space)
    return rows, empty


_COPIED_ROWS = 4096


def tidy(connection: sqlite3.Connection, folder: Path) -> None:
    """Cut the tails and remove the files that a killed process left."""
    if not _leftovers(connection, folder):
        return
    # A batch that another process is appending looks the same: look again when that
    # is done.
    with transaction(connection, write=True):
        for path, n_bytes in _leftovers(connection, folder).items():
            with suppress(PermissionError):  # Windows: another process maps it
                if n_bytes is None:
                    path.unlink(missing_ok=True)
                else:
                    os.truncate(path, n_bytes)


def find_damage(connection: sqlite3.Connection, folder: Path) -> Iterator[str]:
    """Yield what is wrong with the index and with every stored row."""
    for (text,) in connection.execute("PRAGMA quick_check").fetchall():
        if text != "ok":
            yield f"the index: {text}"
    for space in list_spaces(connection):
        rows, mapped = read_rows(connection, folder, space.fingerprint)
        for row in rows.values():
            problem = damage(row, mapped)
            if problem:
                name = image_name(connection, row.key)
                yield (
                    f"{space.file}: the vector of {name} under "
                    f"{space.fingerprint!r} {problem}"
                )


def drop_damaged(connection: sqlite3.Connection, folder: Path, space: Space) -> int:
    """Drop the damaged rows of a space and return how many; inside a transaction."""
    rows = find_rows(connection, space)
    try:
        mapped = map_rows(folder, space)
    except FileNotFoundError:
        mapped = np.empty((0, space.n_dims), dtype=ROW_TYPE)
    good = [row for row in rows.values() if not damage(row, mapped)]
    n_dropped = len(rows) - len(good)
    if n_dropped or len(rows) != space.n_rows:
        drop_space(connection, space)
        _copy_rows(connection, folder, space, good, mapped)
    return n_dropped


def drop_space(connection: sqlite3.Connection, space: Space) -> int:
    """Drop a space with all its rows and return how many; inside a transaction.

    Its file becomes a leftover for `tidy`.
    """
    dropped = connection.execute("DELETE FROM rows WHERE space = ?", (space.id,))
    connection.execute("DELETE FROM spaces WHERE id = ?", (space.id,))
    return dropped.rowcount


def image_name(connection: sqlite3.Connection, key: bytes) -> str:
    """Return what to call an image in a message: with its last known path."""
    found = connection.execute("SELECT path FROM files WHERE key = ?", (key,))
    row = found.fetchone()
    return f"image {key.hex()}" + (f" ({os.fsdecode(row[0])})" if row else "")


def _leftovers(connection: sqlite3.Connection, folder: Path) -> dict[Path, int | None]:
    """Return the files of rows that are too long, with their due size, or unknown."""
    sizes = {
        entry.name: entry.stat().st_size
        for entry in os.scandir(folder)
        if is_rows_file(entry.name) and not entry.is_symlink()
    }
    due = {space.file: space.n_bytes for space in list_spaces(connection)}
    return {
        folder / name: due.get(name)
        for name, size in sizes.items()
        if name not in due or size > due[name]
    }


def _copy_rows(
    connection: sqlite3.Connection,
    folder: Path,
    space: Space,
    rows: list[Row],
    mapped: np.ndarray,
) -> None:
    """Enter the space anew with these rows only, in a new file."""
    if not rows:
        return
    new = space._replace(file=new_file_name(space.fingerprint), n_rows=0)
    for start in range(0, len(rows), _COPIED_ROWS):
        some = rows[start : start + _COPIED_ROWS]
        append_rows(folder, new, mapped[[row.position for row in some]])
        new = new._replace(n_rows=new.n_rows + len(some))
    connection.execute("INSERT INTO spaces VALUES (?, ?, ?, ?, ?, ?)", new)
    connection.executemany(
        "INSERT INTO rows VALUES (?, ?, ?, ?)",
        [
            (space.id, row.key, position, row.checksum)
            for position, row in enumerate(rows)
        ],
    )


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
        """Return the stored vectors of images.

        Parameters
        ----------
        fingerprint : str
            What the vectorizer calls itself.
        keys : sequence of str, length n_images
            SHA-256 of each image's file, in hexadecimal.

        Returns
        -------
        vectors : ndarray of shape (n_images, n_dims), float32
            Zero where nothing is stored; ``n_dims`` is 0 for an unknown fingerprint.
        found : ndarray of shape (n_images,), bool
            Which of them are stored.

        Raises
        ------
        StoreError
            If a stored vector is damaged; it names the image.
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
                    f"{image_name(self._opened, row.key)} under {fingerprint!r} "
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
            SHA-256 of each image's file, in hexadecimal.
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
        """Store the vectors of images; those stored already stay as they are.

        Parameters
        ----------
        fingerprint : str
            What the vectorizer calls itself.
        keys : sequence of str, length n_images
            SHA-256 of each image's file, in hexadecimal.
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
