"""Files that are there whole or not at all, whatever stops the writing.

CSV that a spreadsheet can open and only show: no cell of text is a formula.

Text that begins as a formula would gets an apostrophe before it, and loses it again
where tables are read. Numbers, and text that is a number, stay as they are.

Write vectors to a file that ``vectors:FILE.npz`` reads back.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import WHY, DataError, retold

_MAPPED_FROM = 2**28  # bytes
_ZEROS = bytes(2**20)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only once it is written.

    It is written under a temporary name in the same folder, synced to the disk, then
    renamed over what was there. After an error what was there still is.

    Parameters
    ----------
    path : path-like
        Where to; missing folders are made.

    Raises
    ------
    DataError
        If it can't be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(folder + "/a.bin") as file:
    ...         _ = file.write(b"all of it")
    ...     Path(folder + "/a.bin").read_bytes()
    b'all of it'
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with retold(f"{target}: can't be written ({WHY})", DataError, OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            for seconds in (0.05, 0.2, 0.8, None):
                try:
                    partial.replace(target)
                    break
                except PermissionError:  # on Windows, while a scanner holds it open
                    if seconds is None:
                        raise
                    time.sleep(seconds)
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text as UTF-8, whole or not at all; bytes that are no text stay as such."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write bytes, whole or not at all."""
    with whole_file(path) as file:
        file.write(data)


def write_json(
    path: str | os.PathLike[str], value: Any, *, indent: int | None = None
) -> None:
    """Write a value as JSON, whole or not at all; see :func:`finite`."""
    write_text(path, json.dumps(finite(value), indent=indent, allow_nan=False) + "\n")


def large_zeros(
    shape: tuple[int, int], folder: str | os.PathLike[str] | None = None
) -> NDArray[np.float32]:
    """Return zeros: in memory, or from 256 MiB on in a mapped file that ends with them.

    The system may then write to the disk what it needs memory for.

    Parameters
    ----------
    shape : (int, int)
    folder : path-like, optional
        Where the file is made; by default among temporary ones. Where it has no room
        for it, the zeros are in memory.

    Returns
    -------
    ndarray of that shape, float32

    Examples
    --------
    >>> large_zeros((1, 3))
    array([[0., 0., 0.]], dtype=float32)
    """
    if (n_bytes := 4 * math.prod(shape)) >= _MAPPED_FROM:
        with suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
            # Written, not only made longer: a map of a file without a place on the
            # disk ends the process where that gets full.
            for first in range(0, n_bytes, len(_ZEROS)):
                file.write(_ZEROS[: n_bytes - first])
            file.flush()
            return np.asarray(np.memmap(file, np.float32, "r+", shape=shape))
    return np.zeros(shape, np.float32)


_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_INERT = re.compile(r"'+[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def finite(value: Any) -> Any:
    """Return a value as JSON has it: numbers that are not finite are None.

    Examples
    --------
    >>> finite({"top2": 0.5, "mrr": float("nan"), 3: (1, 2)})
    {'top2': 0.5, 'mrr': None, '3': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Return rows as CSV, numbers with all their digits.

    Examples
    --------
    >>> csv_text(["left", "score"], [["a,b", -0.1], ["=1+1", None]])
    'left,score\n"a,b",-0.1\n\'=1+1,\n'
    """
    lines = []
    for row in (header, *rows):
        # A carriage return is quoted where it could end a line, and nowhere else.
        line = io.StringIO(newline="")
        csv.writer(line, lineterminator="\r\n").writerow(map(inert_cell, row))
        lines.append(f"{line.getvalue()[:-2]}\n")
    return "".join(lines)


def inert_cell(value: object) -> object:
    """Return what to write for a value so that no spreadsheet runs it.

    Examples
    --------
    >>> inert_cell("=cmd()"), inert_cell("-1.5e-3"), inert_cell(-2), inert_cell("a=b")
    ("'=cmd()", '-1.5e-3', -2, 'a=b')
    """
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    return value if _NUMBER.fullmatch(value) else f"'{value}"


def plain_cell(text: str) -> str:
    """Return the text that `inert_cell` made a cell of.

    Examples
    --------
    >>> plain_cell("'=cmd()"), plain_cell("'tis")
    ('=cmd()', "'tis")
    """
    return text[1:] if _INERT.match(text) else text


def write_vectors(
    file: str | os.PathLike[str],
    ids: Sequence[str],
    vectors: NDArray[np.float32],
) -> None:
    """Write an ``.npz`` with the arrays ``ids`` and ``vectors``, whole or not at all.

    Parameters
    ----------
    file : path-like
        Where to; missing folders are made.
    ids : sequence of str, length n_images
        A name a row.
    vectors : ndarray of shape (n_images, n_dims), float32

    Raises
    ------
    DataError
        If the file can't be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_vectors(folder + "/v.npz", ["a", "b"], np.eye(2, dtype=np.float32))
    ...     with np.load(folder + "/v.npz", allow_pickle=False) as arrays:
    ...         arrays["ids"].tolist(), arrays["vectors"].shape
    (['a', 'b'], (2, 2))
    """
    with whole_file(file) as opened:
        np.savez(opened, ids=np.asarray(ids, dtype=str), vectors=vectors)
