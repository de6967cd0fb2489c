"""Read delimited text, whatever its delimiter, encoding and line ends.

Read a delimited text table into coded columns, remembering where each row stood.

A column is an integer a row and the distinct values behind the integers, so that a
table of a million rows costs a million small integers and each distinct id is looked
at once.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

import numpy as np

from tllboost.errors import DataError, TableError
from tllboost.files import plain_cell

__all__ = ["Column", "TextTable", "read_table"]

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


Problem = tuple[int | None, str]
"""A line number (1 is the first line) or None, and what is wrong there."""

_BLOCK = 200


@dataclass(frozen=True, eq=False)
class Column:
    """One column: ``values[codes[i]]`` is what row i holds, without outer blanks.

    The apostrophe that keeps a spreadsheet from running a cell is not part of it.
    """

    name: str
    codes: np.ndarray
    values: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TextTable:
    """The known columns of a table, the line of each row, and what was wrong.

    `ignored` holds the names of the columns that were not read.
    """

    source: str
    columns: dict[str, Column]
    lines: np.ndarray
    problems: list[Problem] = field(default_factory=list)
    ignored: tuple[str, ...] = ()

    def first_lines(self, column: Column) -> np.ndarray:
        """Return the line on which each value of `column` stands first."""
        first = np.zeros(len(column.values), dtype=np.int64)
        codes, rows = np.unique(column.codes, return_index=True)
        first[codes] = self.lines[rows]
        return first

    def raise_problems(self) -> None:
        """Raise TableError if anything was wrong, in the order of the lines."""
        if self.problems:
            raise TableError(self.source, sorted(self.problems, key=_by_line))


def read_table(
    path: str | PathLike[str],
    *,
    required: Sequence[str],
    optional: Sequence[str] = (),
    numbered: str | None = None,
) -> TextTable:
    r"""Read the known columns of a comma, semicolon or tab separated table.

    The delimiter is the one under which the header names most known columns. A byte
    order mark and blank lines are skipped; further columns are left alone, unless
    their name looks like a slip for an optional one.

    Parameters
    ----------
    path : path-like
        The table; its first line names the columns, in upper or lower case.
    required, optional : sequence of str
        Columns that must, or may, be there.
    numbered : str, optional
        A prefix: with ``"c"`` the columns ``c0, c1, …`` are read too.

    Raises
    ------
    DataError
        If there is no such file or it can't be read.
    TableError
        If the header does not fit, or there is no row. Problems of single rows are
        collected in `TextTable.problems`, for the caller to add its own.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pairs.csv")
    ...     _ = path.write_text("left;right\na;b\na;c\n")
    ...     table = read_table(path, required=["left", "right"])
    >>> table.columns["left"].values, table.columns["right"].codes.tolist()
    (('a',), [0, 1])
    """
    source = str(path)
    rows = read_rows(path, (*required, *optional))
    line, header = next(rows, (None, None))
    if header is None:
        raise TableError(source, [(None, "the table is empty")])
    if isinstance(header, str):
        raise TableError(source, [(line, header)])
    names = [name.strip().lower() for name in header]
    wanted = _wanted(source, line, names, required, optional, numbered)
    table = _read_rows(source, rows, wanted, len(names))
    if not len(table.lines) and not table.problems:
        raise TableError(source, [(None, "the table has a header and no row")])
    ignored = tuple(name for name in names if name and name not in wanted)
    return replace(table, ignored=ignored)


def _wanted(
    source: str,
    line: int | None,
    names: list[str],
    required: Sequence[str],
    optional: Sequence[str],
    numbered: str | None,
) -> dict[str, int]:
    """Return the position of each column that is to be read."""
    problems: list[Problem] = []
    found = ", ".join(repr(name) for name in names)
    missing = [name for name in required if name not in names]
    problems += [(line, f"no column {name!r}; found {found}") for name in missing]
    known = [name for name in (*required, *optional) if name in names]
    if numbered is not None:
        matched = (re.fullmatch(f"{numbered}(0|[1-9][0-9]*)", name) for name in names)
        numbers = sorted(int(found[1]) for found in matched if found)
        known += [f"{numbered}{number}" for number in numbers]
        if numbers != list(range(len(numbers))) or not numbers:
            text = (
                f"candidates must be columns {numbered}0, {numbered}1, … without gaps"
            )
            problems.append((line, f"{text}; found {found}"))
    problems += [
        (line, f"column {name!r} stands {names.count(name)} times")
        for name in dict.fromkeys(known)
        if names.count(name) > 1
    ]
    absent = [name for name in optional if name not in names]
    for name in names:
        if name not in known and (
            near := difflib.get_close_matches(name, absent, 1, 0.8)
        ):
            text = f"column {name!r} is not known; did you mean {near[0]!r}? Rename it"
            problems.append((line, text))
    if problems:
        raise TableError(source, problems)
    return {name: names.index(name) for name in known}


def _read_rows(
    source: str,
    rows: Iterator[tuple[int, list[str] | str]],
    wanted: dict[str, int],
    width: int,
) -> TextTable:
    """Code the wanted columns of all rows that have as many cells as the header."""
    problems: list[Problem] = []
    lines = array("q")
    known = {name: _Codes() for name in wanted}
    coded = {name: array("q") for name in wanted}
    good = _fitting_rows(rows, width, problems)
    while block := list(itertools.islice(good, _BLOCK)):
        lines.extend([line for line, _ in block])
        cells = list(zip(*(row for _, row in block), strict=True))
        for name, place in wanted.items():
            coded[name].extend(map(known[name].__getitem__, cells[place]))
    columns = {name: _column(name, coded[name], list(known[name])) for name in wanted}
    return TextTable(source, columns, np.frombuffer(lines, dtype=np.int64), problems)


class _Codes(dict[str, int]):
    """Number values as they come: looking one up numbers it."""

    def __missing__(self, value: str) -> int:
        code = self[value] = len(self)
        return code


def _fitting_rows(
    rows: Iterator[tuple[int, list[str] | str]], width: int, problems: list[Problem]
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows with as many cells as the header; note the others' lines."""
    for line, row in rows:
        if isinstance(row, str):
            problems.append((line, row))
            continue
        if len(row) != width or not row[0].strip():
            row = _fit(row, width)
        if len(row) == width:
            yield line, row
        elif row:
            text = f"{len(row)} cells where the header has {width}: {row!r}"
            problems.append((line, text))


def _fit(row: list[str], width: int) -> list[str]:
    """Drop blank cells beyond the header's width; nothing is left of a blank line."""
    if not any(cell.strip() for cell in row):
        return []
    while len(row) > width and not row[-1].strip():
        row = row[:-1]
    return row


def _column(name: str, codes: array[int], raw: list[str]) -> Column:
    """Join values that differ by outer blanks alone, or by what keeps a cell inert."""
    stripped: dict[str, int] = {}
    joined = [
        stripped.setdefault(plain_cell(value.strip()), len(stripped)) for value in raw
    ]
    moved = np.array(joined, dtype=np.int64)[np.frombuffer(codes, dtype=np.int64)]
    return Column(name, moved, tuple(stripped))


def _by_line(problem: Problem) -> int:
    return problem[0] or 0
