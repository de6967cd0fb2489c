"""Tables as they are read from CSV, and as they are written in Markdown."""

from __future__ import annotations

import csv
from pathlib import Path

Row = dict[str, str]


def rows_of(file: Path) -> list[Row]:
    """Return the rows of a table."""
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
