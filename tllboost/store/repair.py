"""Keeping a store in order: tidying after a kill, finding damage, dropping rows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from tllboost.store.index import transaction
from tllboost.store.rows import (
    ROW_TYPE,
    Row,
    Space,
    append_rows,
    damage,
    find_rows,
    is_rows_file,
    list_spaces,
    map_rows,
    new_file_name,
    read_rows,
)

__all__ = ["drop_damaged", "drop_space", "find_damage", "picture_name", "tidy"]

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
                name = picture_name(connection, row.key)
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


def picture_name(connection: sqlite3.Connection, key: bytes) -> str:
    """Return what to call a picture in a message: with its last known path."""
    found = connection.execute("SELECT path FROM files WHERE key = ?", (key,))
    row = found.fetchone()
    return f"picture {key.hex()}" + (f" ({os.fsdecode(row[0])})" if row else "")


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
