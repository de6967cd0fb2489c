"""CSV that a spreadsheet can open and only show: no cell of text is a formula.

Text that begins as a formula would gets an apostrophe before it, and loses it again
where tables are read. Numbers, and text that is a number, stay as they are.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence

__all__ = ["csv_text", "inert_cell", "plain_cell"]

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_INERT = re.compile(r"'+[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Return rows as CSV, numbers with all their digits.

    Examples
    --------
    >>> csv_text(["left", "score"], [["a,b", -0.1], ["=1+1", None]])
    'left,score\n"a,b",-0.1\n\'=1+1,\n'
    """
    lines = _Lines()
    # A carriage return is quoted where it could end a line, and nowhere else.
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow([inert_cell(value) for value in header])
    writer.writerows([inert_cell(value) for value in row] for row in rows)
    return "".join(lines.text)


class _Lines:
    """Rows as they are written, with plain line ends."""

    def __init__(self) -> None:
        self.text: list[str] = []

    def write(self, row: str) -> None:
        self.text.append(f"{row[:-2]}\n")


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
