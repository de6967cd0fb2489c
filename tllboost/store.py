"""The vector store: what was vectorized once is never vectorized again.

A store is a folder with one SQLite file, ``vectors.sqlite``:

    spaces    one row a fingerprint of a vectorizer
    vectors   (space, SHA-256 of an image file) -> the vector as float32 and a checksum
    files     (path, size, times) -> SHA-256, so that unchanged files are not read again

A batch is one transaction: a kill loses at most the batch that was being written. In
SQLite's write-ahead mode any number of processes read while one writes; on a network
drive, where that mode is not safe, SQLite's older one makes readers wait. The checksum
covers the fingerprint and the image as well as the vector: a damaged file may lose
vectors, but never returns one as another's.

The store in the user's cache folder is one that nobody chose. Where it can't be used
(no home, no rights, a full disk) a note says so, and work goes on without it.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil

from tllboost.errors import ImageError, StoreError, UsageError
from tllboost.files import large_zeros
from tllboost.images import content_hash

SETTLED_SECONDS = 2.0
"""A file changed within this time is hashed again: one that changes twice within a
tick of the file system's clock keeps its times."""

WAIT_SECONDS = 60.0
"""How long to wait for another process that writes."""

_FILE = "vectors.sqlite"
_APPLICATION_ID = 0x746C6C62  # "tllb", in the header of the SQLite file
_FORMAT = 2
_SCHEMA = f"""BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS spaces (
        id INTEGER PRIMARY KEY,
        fingerprint TEXT NOT NULL UNIQUE,
        created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
    );
    CREATE TABLE IF NOT EXISTS vectors (
        space INTEGER NOT NULL REFERENCES spaces (id),
        key BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        vector BLOB NOT NULL,
        UNIQUE (space, key)
    );
    CREATE TABLE IF NOT EXISTS files (
        path BLOB PRIMARY KEY,
        size INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        changed INTEGER NOT NULL,
        key BLOB NOT NULL
    ) WITHOUT ROWID;
    PRAGMA application_id = {_APPLICATION_ID};
    PRAGMA user_version = {_FORMAT};
    COMMIT"""
# Whose file it is, its format, and whether there is anything in it.
_WHOSE = """SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)
    FROM pragma_application_id, pragma_user_version"""
# A space's vectors are as wide as its first one: who adds others is refused.
_N_DIMS = "ifnull((SELECT length(vector) / 4 FROM vectors WHERE space = id), 0)"
_EVERYTHING = f"""SELECT vectors.rowid, {_N_DIMS}, fingerprint, key, checksum, vector
    FROM vectors LEFT JOIN spaces ON id = space"""
_KEYS_A_QUERY = 500  # one at a time takes 1.5 times as long
_MEMORY = Path(":memory:")
_NETWORKS = (
    "nfs",
    "smb",
    "cifs",
    "afp",
    "afs",
    "webdav",
    "fuse.sshfs",
    "ceph",
    "lustre",
)


def default_store() -> Path:
    """Return where vectors are kept unless told otherwise.

    ``$TLLBOOST_STORE``, or else ``store`` in the user's cache folder for tllboost.

    Raises
    ------
    StoreError
        If the user has no home.
    """
    chosen = os.environ.get("TLLBOOST_STORE")
    return Path(chosen) if chosen else user_cache() / "store"


def user_cache() -> Path:
    """Return this package's folder in the user's cache; StoreError if there is none."""
    from platformdirs import user_cache_path

    with suppress(RuntimeError):  # a user without a home, as in a container
        if (folder := user_cache_path("tllboost")).is_absolute():
            return folder
    msg = "there is no home folder for the store: choose one by TLLBOOST_STORE"
    raise StoreError(msg) from OSError(msg)


def is_store(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder holds a store: opening one makes it."""
    return Path(folder, _FILE).is_file()


def hash_files(paths: Sequence[str | os.PathLike[str]]) -> list[str | ImageError]:
    """Return the SHA-256 of each file, or the error of one that can't be read."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(content_hash, path) for path in paths]
    ended = ((future.exception(), future) for future in futures)
    return [e if isinstance(e, ImageError) else one.result() for e, one in ended]


class VectorStore:
    """A folder of vectors, found by fingerprint and content hash.

    Any number of processes may use one folder at once; one object serves one thread.
    It opens on first use; a ``with`` block closes it, and the next use opens it again.

    Parameters
    ----------
    folder : path-like or None, default=None
        Where the vectors are; made on first use. None takes :func:`default_store`.
        Unless ``$TLLBOOST_STORE`` names that, it is only a cache: if it can't be used,
        one warning says so, and no vectors are kept.

    Attributes
    ----------
    is_lost : bool
        Whether it keeps nothing.

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

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = folder
        self.is_lost = False
        self._is_cache = folder is None and not os.environ.get("TLLBOOST_STORE")
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        """Open the store, and make it where there is none.

        Raises
        ------
        StoreError
            If its file is another program's, of another format or damaged, or can't
            be made.
        """
        with self._unless_lost(), self._opened():
            pass
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file; the next use opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the connection behind: a copy opens its own."""
        return vars(self) | {"_connection": None}

    def __repr__(self) -> str:
        return f"VectorStore({str(self.folder or '')!r})"

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
        places = {_key_bytes(key): index for index, key in enumerate(keys)}
        wanted = sorted(places)  # as they stand in the index
        found = np.zeros(len(keys), dtype=bool)
        vectors = np.zeros((len(keys), 0), dtype=np.float32)
        with self._unless_lost(), self._opened() as connection:
            space, n_dims = _space(connection, fingerprint)
            vectors = large_zeros((len(keys), n_dims), self.folder)
            for first in range(0, len(wanted), _KEYS_A_QUERY):
                some = wanted[first : first + _KEYS_A_QUERY]
                query = (
                    "SELECT key, checksum, vector FROM vectors WHERE space = ?"
                    f" AND key IN ({', '.join('?' * len(some))})"
                )
                for row in connection.execute(query, (space, *some)):
                    if not _is_sound(n_dims, fingerprint, *row):
                        image = _image_name(connection, row[0])
                        msg = (
                            f"the store {str(self.folder)!r} is damaged: the "
                            f"vector of {image} under {fingerprint!r} does not match "
                            "its checksum; run `tllboost store prune` to drop what is "
                            "damaged, it is then computed again"
                        )
                        raise StoreError(msg)
                    index = places[row[0]]
                    vectors[index] = np.frombuffer(row[2], dtype="<f4")
                    found[index] = True
        if len(places) < len(keys):  # some are asked for several times
            again = [places[_key_bytes(key)] for key in keys]
            return vectors[again], found[again]
        return vectors, found

    def add(self, fingerprint: str, keys: Sequence[str], vectors: np.ndarray) -> None:
        """Store the vectors of images; those stored already stay as they are.

        Parameters
        ----------
        fingerprint : str
            What the vectorizer calls itself.
        keys : sequence of str, length n_images
            SHA-256 of each image's file, in hexadecimal.
        vectors : ndarray of shape (n_images, n_dims), float32
            One row for each key.

        Raises
        ------
        StoreError
            If the disk is full, or the fingerprint has vectors of other dimensions.
        """
        vectors = np.asarray(vectors, dtype="<f4")
        if vectors.ndim != 2 or len(vectors) != len(keys) or vectors.shape[1] == 0:
            msg = f"got vectors of shape {vectors.shape} for {len(keys)} keys"
            raise UsageError(msg)
        rows = [
            (key, _checksum(fingerprint, key, vector), vector)
            for key, vector in zip(
                map(_key_bytes, keys), map(np.ndarray.tobytes, vectors), strict=True
            )
        ]
        if not rows:
            return
        with self._unless_lost(), self._opened(write=True) as connection:
            connection.execute(
                "INSERT OR IGNORE INTO spaces (fingerprint) VALUES (?)", (fingerprint,)
            )
            space, n_dims = _space(connection, fingerprint)
            if n_dims not in (0, vectors.shape[1]):
                msg = (
                    f"the store has vectors of {n_dims} dimensions under "
                    f"{fingerprint!r}, got {vectors.shape[1]}: what changes a vector "
                    "must change the vectorizer's fingerprint"
                )
                raise StoreError(msg)
            connection.executemany(
                f"INSERT OR IGNORE INTO vectors VALUES ({space}, ?, ?, ?)", rows
            )

    def hashes_of(
        self, paths: Sequence[str | os.PathLike[str]]
    ) -> list[str | ImageError]:
        """Return what `hash_files` does, reading only new and changed files."""
        query = (
            "SELECT lower(hex(key)) FROM files"
            " WHERE path = ? AND size = ? AND modified = ? AND changed = ?"
        )
        stamps = [_stamp(path) for path in paths]
        known: list[Any] = [None] * len(stamps)
        with self._unless_lost(), self._opened() as connection:
            known = [s and connection.execute(query, s).fetchone() for s in stamps]
        unknown = [index for index, row in enumerate(known) if row is None]
        settled = time.time_ns() - int(SETTLED_SECONDS * 1e9)
        fresh = hash_files([paths[index] for index in unknown])
        results = dict(zip(unknown, fresh, strict=True))
        remembered = [
            (*stamp, bytes.fromhex(result))
            for index, result in results.items()
            if isinstance(result, str)
            and (stamp := stamps[index]) is not None
            and max(stamp[2:]) < settled
            and stamp == _stamp(paths[index])
        ]
        if remembered:
            with self._unless_lost(), self._opened(write=True) as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", remembered
                )
        return [row[0] if row else results[i] for i, row in enumerate(known)]

    def info(self) -> list[dict[str, Any]]:
        """Return what is stored, one entry for each fingerprint.

        Returns
        -------
        list of dict
            With ``fingerprint``, ``n_dims``, ``n_rows``, ``n_bytes`` and ``created``.
        """
        query = f"""SELECT CAST(fingerprint AS TEXT) AS fingerprint,
            {_N_DIMS} AS n_dims, count(*) AS n_rows,
            4 * count(*) * {_N_DIMS} AS n_bytes, CAST(created AS TEXT) AS created
            FROM spaces JOIN vectors ON space = id GROUP BY id ORDER BY id"""
        with self._opened() as connection:
            rows = connection.execute(query)
            names = [name for name, *_ in rows.description]
            return [dict(zip(names, row, strict=True)) for row in rows]

    def verify(self) -> list[str]:
        """Read all vectors and return the problems, one line each."""
        with self._opened() as connection:
            checked = connection.execute("PRAGMA integrity_check").fetchall()
            problems = [f"{_FILE}: {text}" for (text,) in checked if text != "ok"]
            for _, *row in connection.execute(_EVERYTHING):
                if not _is_sound(*row):
                    problems.append(
                        f"{_FILE}: the vector of {_image_name(connection, row[2])} "
                        f"under {row[1]!r} does not match its checksum"
                    )
        return problems

    def prune(self, fingerprint: str | None = None) -> int:
        """Delete damaged vectors, or all vectors of some fingerprints; free the space.

        The hashes of files that no longer exist are deleted too.

        Parameters
        ----------
        fingerprint : str, optional
            A whole fingerprint, or the beginning of all those to be deleted.

        Returns
        -------
        int
            Number of deleted vectors.

        Raises
        ------
        UsageError
            If `fingerprint` is empty, or nothing is stored under it.
        """
        with self._opened(write=True) as connection:
            if fingerprint is None:
                rows = connection.execute(_EVERYTHING)
                dropped = [(row,) for row, *rest in rows if not _is_sound(*rest)]
                connection.executemany("DELETE FROM vectors WHERE rowid = ?", dropped)
                n_dropped = len(dropped)
            else:
                query = """SELECT id FROM spaces WHERE fingerprint = ?1
                    OR ?1 NOT IN (SELECT fingerprint FROM spaces)
                    AND ?1 != '' AND substr(fingerprint, 1, length(?1)) = ?1"""
                spaces = connection.execute(query, (fingerprint,)).fetchall()
                if not spaces:
                    msg = (
                        f"nothing is stored under {fingerprint!r}: "
                        "`tllboost store info` shows all fingerprints"
                    )
                    raise UsageError(msg)
                n_dropped = connection.executemany(
                    "DELETE FROM vectors WHERE space = ?", spaces
                ).rowcount
            connection.execute(
                "DELETE FROM spaces WHERE id NOT IN (SELECT space FROM vectors)"
            )
            paths = connection.execute("SELECT path FROM files").fetchall()
            gone = [row for row in paths if not os.path.exists(row[0])]
            connection.executemany("DELETE FROM files WHERE path = ?", gone)
        with self._opened() as connection:
            connection.execute("VACUUM")
        return n_dropped

    @contextmanager
    def _opened(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Open what is closed; tell what SQLite or the disk complains of in a line.

        With `write` all that the block writes is written or nothing, after whoever
        writes now.
        """
        path = _MEMORY
        if not self.is_lost:
            self.folder = self.folder or default_store()
            path = Path(self.folder, _FILE)
        try:
            if self._connection is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = _open_file(path)
            if write:
                self._connection.execute("BEGIN IMMEDIATE")
            with self._connection if write else nullcontext():
                yield self._connection
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            # The last is Python's, of a message that quotes what is damaged.
            msg = f"the store {str(path)!r} can't be used ({_reason(error, path)})"
            raise StoreError(msg) from error

    @contextmanager
    def _unless_lost(self) -> Iterator[None]:
        """Go on without a store that nobody chose and that can't be used."""
        try:
            yield
        except StoreError as error:
            # One that is damaged, or another program's, is not passed over.
            if not (self._is_cache and _is_unusable(error.__cause__)):
                raise
            line = "%s; going on without it: vectors are not kept"
            logging.getLogger(__name__).warning(line, error)
            self.__exit__()
            self.is_lost = True


def _open_file(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
    try:
        # What a stranger's file may have in it (views, triggers) runs nothing.
        connection.execute("PRAGMA trusted_schema = OFF")
        found = connection.execute(_WHOSE).fetchone()
        if found == (0, 0, 0):
            connection.executescript(_SCHEMA)
            found = connection.execute(_WHOSE).fetchone()
        if found[:2] != (_APPLICATION_ID, _FORMAT):
            msg = (
                f"{str(path)!r} is an SQLite file of another program or of another "
                f"version of tllboost (format {found[1]}, not {_FORMAT}): choose "
                "another folder, or delete it, vectors are then computed again"
            )
            raise StoreError(msg)
        connection.execute("PRAGMA synchronous = NORMAL")
        place = os.path.realpath(path.parent)
        is_remote = place.startswith("\\\\")  # Windows, a drive without a letter
        with suppress(OSError):  # where nobody tells
            disks = psutil.disk_partitions(all=True)
            for one in sorted(disks, key=lambda one: len(one.mountpoint)):
                if Path(place).is_relative_to(one.mountpoint):
                    kind, options = one.fstype, one.opts.split(",")
                    is_remote = kind.startswith(_NETWORKS) or "remote" in options
        # Memory that processes share is not shared between machines.
        if not is_remote:
            # Of two processes that switch a new file at once, one is told "locked": it
            # works all the same, and so does the next that opens the file.
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")
            # Reading through a map takes two thirds of the time.
            connection.execute("PRAGMA mmap_size = 2147418112")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_unusable(error: BaseException | None) -> bool:
    """Tell whether an error is of the disk or of rights, not of what is in a file."""
    if not isinstance(error, sqlite3.OperationalError):
        return isinstance(error, OSError)
    # What is in it is a plain error, or none that operating causes: "malformed".
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF != sqlite3.SQLITE_ERROR


def _reason(error: Exception, path: Path) -> str:
    """Return what went wrong and what to do about it, on one line."""
    # SQLite quotes a statement that it can't parse, over several lines.
    said = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
    if "locked" in said:
        waited = f"another process has held it for {WAIT_SECONDS:.0f} seconds"
        return f"{waited}: try again when that is done"
    if _is_unusable(error):
        return f"{said}: free some space, fix the permissions, or choose another folder"
    folder = str(path.parent)
    again = f"delete the folder {folder!r}, its vectors are then computed again"
    return f"{said}: if it is damaged, {again}"


def _space(connection: sqlite3.Connection, fingerprint: str) -> tuple[Any, int]:
    """Return the id of a space and its number of dimensions, None and 0 if unknown."""
    query = f"SELECT id, {_N_DIMS} FROM spaces WHERE fingerprint = ?"
    return connection.execute(query, (fingerprint,)).fetchone() or (None, 0)


def _checksum(fingerprint: str, key: bytes, vector: bytes) -> int:
    return zlib.crc32(vector, zlib.crc32(key, zlib.crc32(fingerprint.encode())))


def _is_sound(
    n_dims: int, fingerprint: Any, key: Any, checksum: Any, vector: Any
) -> bool:
    """Tell whether a row is as it was stored; nothing in it need be of its type."""
    return (
        isinstance(fingerprint, str)
        and isinstance(key, bytes)
        and isinstance(vector, bytes)
        and len(vector) == 4 * n_dims > 0
        and checksum == _checksum(fingerprint, key, vector)
    )


def _image_name(connection: sqlite3.Connection, key: Any) -> str:
    """Return what to call an image in a message: with its last known path."""
    path_of = "SELECT CAST(path AS BLOB) FROM files WHERE key = :key"
    query = f"SELECT lower(hex(:key)), ({path_of})"
    name, path = connection.execute(query, {"key": key}).fetchone()
    return f"image {name}" + (f" ({os.fsdecode(path)})" if path else "")


def _key_bytes(key: str) -> bytes:
    if not re.fullmatch("[0-9a-fA-F]{64}", key):
        msg = f"{key!r} is not a content hash: give 64 hexadecimal digits"
        raise UsageError(msg)
    return bytes.fromhex(key)


def _stamp(path: str | os.PathLike[str]) -> tuple[bytes, int, int, int] | None:
    """Return a file's name and what changes whenever its content does."""
    try:
        status = os.stat(path)
        name = os.fsencode(os.path.abspath(path))  # on disk it need not be valid text
    except (OSError, ValueError):  # hashing it says why
        return None
    return name, status.st_size, status.st_mtime_ns, status.st_ctime_ns
