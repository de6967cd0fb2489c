"""The SQLite index of a vector store: opening it, its schema, its transactions."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tllboost.errors import StoreError

__all__ = ["guarded", "open_index", "transaction"]

_APPLICATION_ID = 0x746C6C62  # "tllb", in the header of the SQLite file
_SCHEMA_VERSION = 1
_SCHEMA = (
    # A space is one fingerprint and the file of its rows.
    """CREATE TABLE spaces (
        id INTEGER PRIMARY KEY,
        fingerprint TEXT NOT NULL UNIQUE,
        n_dims INTEGER NOT NULL,
        file TEXT NOT NULL UNIQUE,
        n_rows INTEGER NOT NULL,
        created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
    )""",
    """CREATE TABLE rows (
        space INTEGER NOT NULL REFERENCES spaces (id),
        key BLOB NOT NULL,
        position INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (space, key)
    ) WITHOUT ROWID""",
    # The remembered hash of a path, good while its size and times stay the same.
    """CREATE TABLE files (
        path BLOB PRIMARY KEY,
        size INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        changed INTEGER NOT NULL,
        key BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX files_by_key ON files (key)",
)
_WAIT_SECONDS = 60.0
_REMEDIES = {
    sqlite3.SQLITE_READONLY: "fix the permissions",
    sqlite3.SQLITE_CANTOPEN: "fix the permissions",
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_IOERR: "free some space, see whether the disk is sound",
}


def open_index(path: Path) -> sqlite3.Connection:
    """Open the index of a store, and make it where there is none.

    Raises
    ------
    StoreError
        If the file is no SQLite file, another program's, or of a newer tllboost.
    """
    with guarded(path):
        connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            # What a stranger's index may have in it (views, triggers) runs nothing.
            connection.execute("PRAGMA trusted_schema = OFF")
            _claim(connection, path)
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(
    connection: sqlite3.Connection, *, write: bool = False
) -> Iterator[None]:
    """Run the block in one transaction: all of it or nothing.

    A writing one takes the lock between processes when it begins.
    """
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has already rolled back by itself after some errors (a full disk).
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Tell what SQLite or the disk complains of as one `StoreError`."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        # The latter is Python's, of a message that quotes what is damaged.
        msg = f"the store {str(path)!r} can't be used ({_reason(error, path)})"
        raise StoreError(msg) from error
    except OSError as error:
        msg = (
            f"the store {str(path.parent)!r} can't be read or written "
            f"({error.strerror or error}): free some space, fix the permissions, or "
            "choose another folder"
        )
        raise StoreError(msg) from error


def _reason(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> str:
    """Return what went wrong and what to do about it, on one line."""
    # SQLite quotes a statement that it can't parse, over several lines.
    said = " ".join(str(error).split())[:200]
    if "locked" in said:
        return (
            f"another process has held it for {_WAIT_SECONDS:.0f} seconds: "
            "try again when that is done"
        )
    remedy = _REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if remedy is not None:
        return f"{said}: {remedy}, or choose another folder"
    return (
        f"{said}: if it is damaged, delete the folder {str(path.parent)!r}, "
        "its vectors are then computed again"
    )


def _claim(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is ours, or make it so if it is new."""
    if _is_new(connection):
        with transaction(connection, write=True):
            if _is_new(connection):  # another process may have come first
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    if _pragma(connection, "application_id") != _APPLICATION_ID:
        msg = (
            f"{str(path)!r} is an SQLite file of another program, not a vector store: "
            "choose another folder"
        )
        raise StoreError(msg)
    version = _pragma(connection, "user_version")
    if version != _SCHEMA_VERSION:
        msg = (
            f"the store {str(path)!r} has format {version}, this tllboost reads "
            f"{_SCHEMA_VERSION}: upgrade tllboost, or choose another folder"
        )
        raise StoreError(msg)


def _is_new(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return tables == 0 and _pragma(connection, "application_id") == 0


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _use_wal(connection: sqlite3.Connection) -> None:
    # Two processes that switch a new file at once are told "locked" without the wait
    # that the timeout promises.
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
