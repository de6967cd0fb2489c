"""What a grid came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["GridResult"]


@dataclass(eq=False)
class GridResult:
    """What a grid came to.

    Attributes
    ----------
    out : Path
        Folder of all files.
    rows : list of dict
        A row a cell, the columns of ``results.csv``.
    metric : str
        What the matrix shows.
    chosen : dict or None
        The row that validation chose and ``best.tllb`` holds.
    failures : dict of str to str
        Pictures left out, and why.
    n_run, n_reused : int
        Cells and seeds fitted now, and found finished.
    notes : list of str
        What the user should know.
    data : dict of str to int
        How many pairs, matches, pictures and components there were.
    leaks : list of (str, str)
        What training and test share.
    """

    out: Path
    rows: list[dict[str, Any]]
    metric: str
    chosen: dict[str, Any] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    n_run: int = 0
    n_reused: int = 0
    notes: list[str] = field(default_factory=list)
    data: dict[str, int] = field(default_factory=dict)
    leaks: list[tuple[str, str]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """4 where a picture or a cell failed, else 0."""
        failed = any(row["status"] != "ok" for row in self.rows)
        return 4 if failed or self.failures else 0
