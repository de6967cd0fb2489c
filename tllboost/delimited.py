"""Read delimited text, whatever its delimiter, encoding and line ends."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

from tllboost.errors import DataError, TableError

__all__ = ["read_rows"]

_DELIMITERS = ",;\t"
_MOST_BYTES = 1_000_000_000


def read_rows(
    path: str | PathLike[str], known: Sequence[str]
) -> Iterator[tuple[int, list[str] | str]]:
    r"""Yield the line and the cells of each row that is not empty, the header first.

    Parameters
    ----------
    path : path-like
        The table, in UTF-8, or in UTF-16 with a byte order mark. A mark is dropped.
    known : sequence of str
        Names of columns: of comma, semicolon and tab, the delimiter is the one under
        which the header holds most of them.

    Yields
    ------
    line : int
        The last line of the row, where a quoted cell spans several.
    cells : list of str, or str
        Its cells; once, as the last, what stopped the reading.

    Raises
    ------
    DataError
        If there is no such file or it can't be read.
    TableError
        If it is not text.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pairs.csv")
    ...     _ = path.write_text("left;right\n\na;b,c\n")
    ...     list(read_rows(path, ["left", "right"]))
    [(1, ['left', 'right']), (3, ['a', 'b,c'])]
    """
    text = _read_text(Path(path))
    return _rows(text, _sniff(text, known))


def _read_text(path: Path) -> str:
    """Return the text of a table; its encoding is UTF-8, or UTF-16 with a mark."""
    if path.is_dir():
        msg = f"{path}: is a folder; a table is a file"
        raise DataError(msg)
    if not path.exists():
        msg = f"{path}: no such file"
        raise DataError(msg)
    if not path.is_file():
        msg = f"{path}: not a regular file; a table is a file of text"
        raise DataError(msg)
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            msg = f"{path}: has {size:,} bytes; a table may have {_MOST_BYTES:,}"
            raise DataError(msg)
        data = path.read_bytes()
    except OSError as error:
        msg = f"{path}: {error.strerror or error}"
        raise DataError(msg) from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        text = f"byte {data[error.start]:#04x} is not text in UTF-8; save it as UTF-8"
        raise TableError(path, [(line, text)]) from error


def _sniff(text: str, known: Sequence[str]) -> str:
    """Return the delimiter under which the header names most known columns."""
    header = next((line for line in io.StringIO(text) if line.strip()), "")

    def fit(delimiter: str) -> tuple[int, int]:
        cells = [cell.strip().strip('"').lower() for cell in header.split(delimiter)]
        return sum(cell in known for cell in cells), len(cells)

    return max(_DELIMITERS, key=fit)


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the line and cells of each row, or what stopped the reading, as text."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 0
    try:
        for row in reader:
            line = reader.line_num
            if row:
                yield line, row
    except csv.Error as error:
        reason = "a quote never closes" if "end of data" in str(error) else str(error)
        yield line + 1, f"{reason}; nothing after this line was read"
