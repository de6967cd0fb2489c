"""Content hashes of files, remembered while the file's size and times stay the same."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tllboost.errors import ImageError
from tllboost.images import content_hash
from tllboost.store.index import transaction

__all__ = ["forget_vanished_files", "hash_files"]

# A file changed a moment ago may change again within one tick of the file system's
# clock, and its times would not show it: such a one is not remembered.
SETTLED_SECONDS = 2.0


class _Stamp(NamedTuple):
    """What changes whenever a file's content does."""

    size: int
    modified: int
    changed: int


def hash_files(
    paths: Sequence[str | os.PathLike[str]],
    connection: sqlite3.Connection | None = None,
    *,
    n_workers: int | None = None,
) -> list[str | ImageError]:
    """Return the SHA-256 of each file, or the error of one that can't be read.

    Parameters
    ----------
    paths : sequence of path-like, length n_paths
        The files.
    connection : sqlite3.Connection, optional
        The index of a store, which remembers.
    n_workers : int, optional
        Threads that read; by default as many as there are cores, at most eight.

    Returns
    -------
    list of str or ImageError, length n_paths
        In the order of `paths`.
    """
    stamps = [_stamp(path) for path in paths]
    hashes: list[str | ImageError | None] = [None] * len(paths)
    if connection is not None:
        hashes = [
            _recall(connection, path, stamp)
            for path, stamp in zip(paths, stamps, strict=True)
        ]
    unknown = [index for index, known in enumerate(hashes) if known is None]
    with ThreadPoolExecutor(n_workers or min(8, os.cpu_count() or 1)) as pool:
        fresh = list(pool.map(_hash_one, [paths[index] for index in unknown]))
    for index, result in zip(unknown, fresh, strict=True):
        hashes[index] = result
    if connection is not None:
        _remember(
            connection,
            [
                (paths[index], stamps[index], result)
                for index, result in zip(unknown, fresh, strict=True)
            ],
        )
    return [result for result in hashes if result is not None]


def forget_vanished_files(connection: sqlite3.Connection) -> None:
    """Drop the remembered hashes of files that are no longer there."""
    paths = [row[0] for row in connection.execute("SELECT path FROM files")]
    gone = [(path,) for path in paths if not os.path.exists(path)]
    connection.executemany("DELETE FROM files WHERE path = ?", gone)


def _hash_one(path: str | os.PathLike[str]) -> str | ImageError:
    try:
        return content_hash(path)
    except ImageError as error:
        return error


def _stamp(path: str | os.PathLike[str]) -> _Stamp | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # hashing it says why
        return None
    return _Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _name(path: str | os.PathLike[str]) -> bytes:
    """Return the absolute path as bytes: a name on disk need not be valid text."""
    return os.fsencode(os.path.abspath(path))


def _recall(
    connection: sqlite3.Connection,
    path: str | os.PathLike[str],
    stamp: _Stamp | None,
) -> str | None:
    if stamp is None:
        return None
    row = connection.execute(
        "SELECT key FROM files"
        " WHERE path = ? AND size = ? AND modified = ? AND changed = ?",
        (_name(path), *stamp),
    ).fetchone()
    return None if row is None else row[0].hex()


def _remember(
    connection: sqlite3.Connection,
    files: Iterable[tuple[str | os.PathLike[str], _Stamp | None, str | ImageError]],
) -> None:
    settled = time.time_ns() - int(SETTLED_SECONDS * 1e9)
    rows = [
        (_name(path), *stamp, bytes.fromhex(result))
        for path, stamp, result in files
        if isinstance(result, str)
        and stamp is not None
        and max(stamp.modified, stamp.changed) < settled
        and stamp == _stamp(path)
    ]
    if rows:
        with transaction(connection, write=True):
            connection.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows
            )
