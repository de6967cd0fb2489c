"""The rows of a store: one space a fingerprint, its index rows and its flat file."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tllboost.errors import StoreError
from tllboost.store.index import transaction

__all__ = [
    "KEY_BYTES",
    "ROW_TYPE",
    "Row",
    "Space",
    "append_rows",
    "damage",
    "find_rows",
    "find_space",
    "is_rows_file",
    "list_spaces",
    "make_space",
    "map_rows",
    "new_file_name",
    "read_rows",
    "row_checksum",
]

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
    """Where the vector of one picture lies."""

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
    """Return the rows of some pictures, those that are stored; of all by default."""
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

    With the key in it, a row that a damaged index hands to another picture is caught.
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
