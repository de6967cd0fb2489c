r"""The matrix as a LaTeX table with booktabs, to ``\input`` into a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tllboost.grid.matrix import caption, make_matrix, shown
from tllboost.printable import printable

__all__ = ["latex_text", "matrix_latex"]

_HEADER = r"""% {caption}; the best is bold, its ties are underlined.
% Needs \usepackage{{booktabs}}. Made to fit a page, with \usepackage{{graphicx}}:
% \resizebox{{\textwidth}}{{!}}{{\input{{matrix}}}}
"""
# Braces keep [ and * at the start of a row from the line break before it.
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "`": r"\`{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "'": r"\char39{}",
    **{one: f"\\{one}" for one in "{}#$%&_"},
    **{one: f"{{{one}}}" for one in "[*"},
}
# LaTeX makes one dash of two hyphens.
_HYPHENS = re.compile("-(?=-)")
# Letters with accents that every LaTeX sets in every font encoding.
_LETTERS = frozenset(map(chr, range(0xC0, 0x100))) - set("ÐÞðþ×÷")


def matrix_latex(rows: Sequence[dict[str, Any]], metric: str) -> str:
    """Return the matrix of one metric: the best is bold, its ties are underlined."""
    matrix = make_matrix(rows)
    head = ["vectorizer", "projection", "merge", *map(latex_text, matrix.heads)]
    lines = [
        rf"\begin{{tabular}}{{lll{'r' * len(matrix.heads)}}}",
        r"\toprule",
        _line(head),
        r"\midrule",
    ]
    for key in matrix.keys:
        cells = [_cell(matrix.cells.get((key, head)), metric) for head in matrix.heads]
        lines.append(_line([*map(latex_text, key), *cells]))
    lines += [r"\bottomrule", r"\end{tabular}"]
    header = _HEADER.format(caption=caption(rows, metric).replace("±", "+-"))
    return header + "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    r"""Return text that LaTeX sets as it is, whatever engine and font.

    A character that pdfLaTeX may have no glyph for is named by its number.

    Examples
    --------
    >>> print(latex_text("a_b 100% é 猫"))
    a\_b 100\% é \texttt{U+732B}
    """
    escaped = "".join(map(_letter, printable(text)))
    return _HYPHENS.sub("-{}", escaped)


def _letter(one: str) -> str:
    if one in _ESCAPES:
        return _ESCAPES[one]
    if one.isascii() or one in _LETTERS:
        return one
    return rf"\texttt{{U+{ord(one):04X}}}"


def _cell(row: dict[str, Any] | None, metric: str) -> str:
    text, stands = shown(row, metric, r" $\pm$ ")
    text = text.replace("–", "--")
    wrap = {"best": rf"\textbf{{{text}}}", "tie": rf"\underline{{{text}}}"}
    return wrap.get(stands, text)


def _line(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"
