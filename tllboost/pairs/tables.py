"""Read a table of text into coded columns, and look up the images that it names.

A column is an integer a row and the distinct values behind the integers, so that a
table of a million rows costs a million small integers and each distinct id is looked
at once. Problems are collected with their lines, and raised together.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.errors import WHY, DataError, TableError, UsageError, retold
from tllboost.files import plain_cell
from tllboost.images.folders import Folder, find_names, without_suffix

_DELIMITERS = ",;\t"
_MOST_BYTES = 1_000_000_000
# Excel's own first line, which says what separates the cells.
_EXCEL = re.compile(r"\A\s*\"?sep=.\"?[ \t,;]*\r?\n", re.IGNORECASE)
# What people call the label.
_LIKE_LABEL = re.compile(
    r"(is_?)?(match\w{0,2}|same(_\w+)?|dup\w*|identical|similar|equal|related|positive)"
    r"|target|(ground_?)?truth|gt|y"
)

Problem = tuple[int | None, str]
"""A line number (1 is the first line) or None, and what is wrong there."""


@dataclass(frozen=True, eq=False)
class Column:
    """One column: ``values[codes[i]]`` is what row i holds, without outer blanks.

    The apostrophe that keeps a spreadsheet from running a cell is not part of it.
    """

    codes: np.ndarray
    values: tuple[str, ...]


@dataclass(eq=False)
class TextTable:
    """The known columns of a table, the line of each row, and what was wrong.

    `ignored` holds the names of the columns that were not read.
    """

    source: str
    columns: dict[str, Column]
    lines: np.ndarray
    problems: list[Problem] = field(default_factory=list)
    ignored: tuple[str, ...] = ()

    def values(self, column: Column) -> Iterator[tuple[str, int]]:
        """Return each value of `column`, and the line on which it stands first."""
        first = np.zeros(len(column.values), dtype=np.int64)
        codes, rows = np.unique(column.codes, return_index=True)
        first[codes] = self.lines[rows]
        return zip(column.values, first.tolist(), strict=True)

    def rows(self) -> tuple[tuple[str, ...], ...]:
        """Return what stands in each row, column by column."""
        columns = ([c.values[i] for i in c.codes] for c in self.columns.values())
        return tuple(zip(*columns, strict=True))

    def raise_problems(self) -> None:
        """Raise TableError if anything was wrong, in the order of the lines."""
        if self.problems:
            problems = sorted(self.problems, key=lambda problem: problem[0] or 0)
            raise TableError(self.source, problems)


def read_table(
    path: Any,
    *,
    required: Sequence[str],
    optional: Sequence[str] = (),
    numbered: str | None = None,
    in_order: bool = False,
) -> TextTable:
    r"""Read the known columns of a comma, semicolon or tab separated table.

    The delimiter is the one under which the header names most known columns. A byte
    order mark and blank lines are skipped; further columns are left alone, unless
    their name looks like a slip for an optional one.

    Parameters
    ----------
    path : path-like or pandas.DataFrame
        The table; its first line names the columns, in upper or lower case. Excel's
        line ``sep=;`` may stand before it.
    required, optional : sequence of str
        Columns that must, or may, be there.
    numbered : str, optional
        A prefix: with ``"c"`` the columns ``c0, c1, …`` are read too.
    in_order : bool, default=False
        Take the required columns in their order where the table has as many, whatever
        it calls them.

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
    is_frame = hasattr(path, "to_csv")
    source = "DataFrame" if is_frame else str(path)
    text = path.to_csv(index=False) if is_frame else _read_text(Path(path))
    text = _EXCEL.sub("\n", text)
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    if not first.isascii() and (wrong := _no_text(first)):
        raise TableError(source, [(1 + text[: text.index(first)].count("\n"), wrong)])
    fits = {}
    for delimiter in _DELIMITERS:
        cells = [cell.strip().strip('"').lower() for cell in first.split(delimiter)]
        n_known = sum(cell in (*required, *optional) for cell in cells)
        fits[delimiter] = n_known, len(cells)
    rows = _rows(text, max(fits, key=fits.__getitem__))
    line, header = next(rows, (None, []))
    if not header:
        raise TableError(source, [(None, "the table is empty")])
    if isinstance(header, str):
        raise TableError(source, [(line, header)])
    names = [name.strip().lower() for name in header]
    if in_order and len(names) == len(required) and {*names} != {*required}:
        if without_suffix(names[0]) != names[0]:
            text = f"{header!r} names no columns; put a line {','.join(required)} first"
            raise TableError(source, [(line, text)])
        names = list(required)
    wanted = _wanted(source, line, names, required, optional, numbered)
    problems: list[Problem] = []
    lines = array("q")
    # Of each column the code of every text as written, and of every value: texts that
    # differ by outer blanks alone, or by what keeps a cell inert, are one value.
    known: dict[str, dict[str, int]] = {name: {} for name in wanted}
    values: dict[str, dict[str, int]] = {name: {} for name in wanted}
    coded = {name: array("q") for name in wanted}
    for line, row in rows:
        if isinstance(row, str):
            problems.append((line, row))
            continue
        if not row[0].strip() and not any(cell.strip() for cell in row):
            continue
        while len(row) > len(names) and not row[-1].strip():
            row.pop()
        if len(row) != len(names):
            text = f"{len(row)} fields where the header has {len(names)}: {row!r}"
            problems.append((line, text))
            continue
        lines.append(line)
        for name, place in wanted.items():
            codes, written = known[name], row[place]
            if written not in codes:
                value = plain_cell(written.strip())
                codes[written] = values[name].setdefault(value, len(values[name]))
            coded[name].append(codes[written])
    columns = {
        name: Column(np.frombuffer(coded[name], dtype=np.int64), tuple(values[name]))
        for name in wanted
    }
    if not lines and not problems:
        raise TableError(source, [(None, "the table has a header and no row")])
    ignored = tuple(name for name in names if name and name not in wanted)
    found = np.frombuffer(lines, dtype=np.int64)
    return TextTable(source, columns, found, problems, ignored)


def _read_text(path: Path) -> str:
    """Return the text of a table file; its encoding is UTF-8, or UTF-16 with a mark."""
    with retold(f"{path}: {WHY}", DataError, OSError):
        if not path.is_file():
            kind = "not a regular file" if path.exists() else "no such file"
            kind = "is a folder" if path.is_dir() else kind
            msg = f"{path}: {kind}; a table is a file of text"
            raise DataError(msg)
        if (size := path.stat().st_size) > _MOST_BYTES:
            msg = f"{path}: has {size:,} bytes; a table may have {_MOST_BYTES:,}"
            raise DataError(msg)
        data = path.read_bytes()
    if data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        # The name of a file need not be text: whoever looks it up will see.
        return data.decode("utf-8-sig", "surrogateescape")
    try:
        return data.decode("utf-16")
    except UnicodeDecodeError as error:
        msg = f"{path}: begins as UTF-16 and is not ({error.reason}); save it as UTF-8"
        raise DataError(msg) from error


def _no_text(value: str) -> str:
    """Tell which byte of a value is no UTF-8, nothing where it is text."""
    wrong = re.search("[\udc80-\udcff]", value)
    byte = wrong and f"{ord(wrong[0]) - 0xDC00:#04x}"
    return f"byte {byte} is not text in UTF-8; save it as UTF-8" if byte else ""


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
    if "left" in required and "image" in names:
        found += ": a table of images and classes is read by FOLDER --groups-from FILE"
    missing = [name for name in required if name not in names]
    problems += [(line, f"no column {name!r}; found {found}") for name in missing]
    known = [name for name in (*required, *optional) if name in names]
    if numbered is not None:
        matched = (re.fullmatch(f"{numbered}(0|[1-9][0-9]*)", name) for name in names)
        numbers = sorted(int(found[1]) for found in matched if found)
        known += [f"{numbered}{number}" for number in numbers]
        if numbers != list(range(len(numbers))) or not numbers:
            text = f"candidates are columns {numbered}0, {numbered}1, … without gaps"
            problems.append((line, f"{text}; found {found}"))
    problems += [
        (line, f"column {name!r} occurs {names.count(name)} times")
        for name in dict.fromkeys(known)
        if names.count(name) > 1
    ]
    absent = [name for name in optional if name not in names]
    for name in names:
        near = difflib.get_close_matches(name, absent, 1, 0.8)
        if not near and "label" in absent and _LIKE_LABEL.fullmatch(name):
            near = ["label"]
        if name not in known and near:
            text = f"column {name!r} is not known; did you mean {near[0]!r}? Rename it"
            problems.append((line, f"{text}, or drop the column"))
    if problems:
        raise TableError(source, problems)
    return {name: names.index(name) for name in known}


def find_images(
    table: TextTable,
    names: Sequence[str],
    images: str | PathLike[str] | None,
    left: str | PathLike[str] | None,
    right: str | PathLike[str] | None,
    anywhere: bool,
) -> tuple[tuple[str, ...], tuple[Path | None, ...], dict[str, np.ndarray]]:
    """Look up every id of a table once; what is not found joins its problems.

    Parameters
    ----------
    table : TextTable
        The table.
    names : sequence of str
        The columns that hold ids; all but ``"left"`` are of the right side.
    images : path-like or None
        One folder for both sides.
    left, right : path-like or None
        A folder for each side. Ids get the prefix ``left/`` or ``right/``, unless
        both name the same folder.
    anywhere : bool
        Whether ids may be absolute or climb out of their folder.

    Returns
    -------
    ids : tuple of str
        The images, sorted.
    paths : tuple of (Path or None)
        Their files.
    codes : dict of str to ndarray of int64
        Each column as indices into them; -1 where no image was found.

    Raises
    ------
    UsageError
        If one side has a folder and the other has not, or `images` is given as well.
    DataError
        If a folder is not there.
    """
    if images is not None and (left is not None or right is not None):
        msg = f"images={str(images)!r} is one folder for both sides: give it alone"
        raise UsageError(msg)
    if (left is None) != (right is None):
        given, other = ("left", "right") if right is None else ("right", "left")
        msg = f"{given} has a folder and {other} has none: give both, or images"
        raise UsageError(msg)
    columns = {name: table.columns[name] for name in names}
    sides: Sequence[tuple[Callable[[str], tuple[str, Path | None]], str]]
    if images is not None:
        sides = [(Folder(images, "images", anywhere=anywhere).find, "")] * 2
    elif left is None or right is None:
        values = itertools.chain(*(column.values for column in columns.values()))
        sides = [(find_names(values, anywhere=anywhere), "")] * 2
    else:
        one = Folder(left, "left", anywhere=anywhere)
        two = Folder(right, "right", anywhere=anywhere)
        are_two = one.path.resolve() != two.path.resolve()
        sides = [(one.find, "left/" * are_two), (two.find, "right/" * are_two)]
    paths: dict[str, Path | None] = {}
    ids: dict[str, list[str | None]] = {name: [] for name in columns}
    for name, column in columns.items():
        find, prefix = sides[name != "left"]
        for value, line in table.values(column):
            try:
                found, path = find(value)
            except LookupError as error:
                text = f"{name}: {error.args[0]}"
                table.problems.append((line, _no_text(value) or text))
                ids[name].append(None)
            else:
                ids[name].append(prefix + found)
                seen = paths.setdefault(prefix + found, path)
                if path and seen and path != seen and path.resolve() != seen.resolve():
                    text = f"{name}: {path} and {seen} have the same name; rename one"
                    table.problems.append((line, text))
    order = sorted(paths)
    number: dict[str | None, int] = {image_id: i for i, image_id in enumerate(order)}
    codes = {
        name: np.array([number.get(i, -1) for i in ids[name]], np.int64)[column.codes]
        for name, column in columns.items()
    }
    return tuple(order), tuple(paths[i] for i in order), codes
