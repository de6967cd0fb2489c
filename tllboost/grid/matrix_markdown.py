"""The matrix as a table that GitHub and most editors show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tllboost.grid.matrix import caption, make_matrix, shown
from tllboost.printable import printable

__all__ = ["markdown_text", "matrix_markdown"]

_MARKUP = re.compile(r"[\\`*_\[\]<>|~&#$!]")
# What GitHub makes a link of although nobody marked it up.
_ADDRESS = re.compile(r"(?i)(?<=:)//|(?<=www)\.|@")


def matrix_markdown(rows: Sequence[dict[str, Any]], metric: str) -> str:
    """Return the matrix of one metric: the best is bold, its ties are marked ``=``."""
    matrix = make_matrix(rows)
    head = ["vectorizer", "projection", "merge", *map(markdown_text, matrix.heads)]
    lines = [
        f"{caption(rows, metric)}; **best**, = tied with it.",
        "",
        _line(head),
        _line(["---"] * 3 + ["---:"] * len(matrix.heads)),
    ]
    for key in matrix.keys:
        cells = [_cell(matrix.cells.get((key, head)), metric) for head in matrix.heads]
        lines.append(_line([*map(markdown_text, key), *cells]))
    return "\n".join(lines) + "\n"


def markdown_text(text: str) -> str:
    r"""Return text that Markdown shows as it is, in one line.

    Examples
    --------
    >>> markdown_text("onnx:a|b_c.onnx")
    'onnx:a\\|b\\_c.onnx'
    """
    plain = _MARKUP.sub(r"\\\g<0>", printable(text))
    return _ADDRESS.sub(lambda found: rf"\{found.group()}", plain)


def _cell(row: dict[str, Any] | None, metric: str) -> str:
    text, stands = shown(row, metric, " ± ")
    return {"best": f"**{text}**", "tie": f"{text} ="}.get(stands, text)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
