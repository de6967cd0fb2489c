"""Candidate tables: one query and the images to be ranked for it a row."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from tllboost.pairs.tables import find_images, read_table

__all__ = ["CandidateTable", "read_candidates"]


@dataclass(frozen=True, eq=False)
class CandidateTable:
    """Queries and their candidates as indices into a list of unique images.

    Parameters
    ----------
    source : str
        Where the table came from, for messages.
    ids : tuple of str, length n_images
        Unique images, named as in `PairTable`.
    paths : tuple of (Path or None), length n_images
        Their files; None where no folder was given.
    query : ndarray of shape (n_queries,), int64
        The query of each row.
    candidates : ndarray of shape (n_queries, n_candidates), int64
        Its candidates, in the order of the columns.
    rows : tuple of tuple of str
        The ids of each row as they were written: the query, then the candidates.
    header : tuple of str
        ``left, c0, c1, …``: the names that go with `rows`.
    """

    source: str
    ids: tuple[str, ...]
    paths: tuple[Path | None, ...]
    query: np.ndarray
    candidates: np.ndarray
    rows: tuple[tuple[str, ...], ...]
    header: tuple[str, ...]


def read_candidates(
    path: str | PathLike[str],
    *,
    images: str | PathLike[str] | None = None,
    left: str | PathLike[str] | None = None,
    right: str | PathLike[str] | None = None,
    anywhere: bool = False,
) -> CandidateTable:
    r"""Read a candidate table: columns ``left, c0, c1, …``.

    Parameters
    ----------
    path : path-like
        The table, separated by commas, semicolons or tabs.
    images : path-like, optional
        The folder of all images.
    left, right : path-like, optional
        The folder of the queries and that of the candidates instead.
    anywhere : bool, default=False
        Accept ids that are absolute paths or climb out of their folder. Whoever wrote
        the table then says which files are opened.

    Raises
    ------
    TableError
        With file, line and value of up to twenty problems.
    DataError
        If the table or a folder is not there.
    UsageError
        If the folders contradict each other.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "candidates.csv")
    ...     _ = path.write_text("left,c0,c1\na,x,y\nb,y,x\n")
    ...     table = read_candidates(path)
    >>> table.ids, table.query.tolist(), table.candidates.tolist()
    (('a', 'b', 'x', 'y'), [0, 1], [[2, 3], [3, 2]])
    """
    table = read_table(path, required=("left",), numbered="c")
    header = tuple(table.columns)
    sides = {name: "left" if name == "left" else "right" for name in header}
    found = find_images(table, sides, images, left, right, anywhere=anywhere)
    table.raise_problems()
    written = (
        [column.values[code] for code in column.codes]
        for column in table.columns.values()
    )
    return CandidateTable(
        source=table.source,
        ids=found.ids,
        paths=found.paths,
        query=found.codes["left"],
        candidates=np.column_stack([found.codes[name] for name in header[1:]]),
        rows=tuple(zip(*written, strict=True)),
        header=header,
    )
