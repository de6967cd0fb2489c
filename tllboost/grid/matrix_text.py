"""The matrix in each form that it can be written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tllboost.errors import UsageError
from tllboost.grid.matrix import matrix_csv
from tllboost.grid.matrix_latex import matrix_latex
from tllboost.grid.matrix_markdown import matrix_markdown
from tllboost.metrics import METRICS
from tllboost.whole_file import write_text

__all__ = ["FORMATS", "matrix_text", "write_matrices"]

FORMATS: dict[str, Callable[[Sequence[dict[str, Any]], str], str]] = {
    "csv": matrix_csv,
    "md": matrix_markdown,
    "tex": matrix_latex,
}


def matrix_text(rows: Sequence[dict[str, Any]], metric: str, form: str) -> str:
    """Return the matrix of one metric as text.

    Parameters
    ----------
    rows : sequence of dict
        Rows of ``results.csv``, ties told in `metric`.
    metric : str
        One of :data:`~tllboost.metrics.METRICS`.
    form : str
        "csv" (figures alone), "md" (a GitHub table: ± half of the interval, the best
        bold, its ties marked) or "tex" (booktabs, the ties underlined).

    Returns
    -------
    str

    Raises
    ------
    UsageError
        If the form or the metric is not known.

    Examples
    --------
    >>> row = {"vectorizer": "classic", "projection": "none", "merge": "none"}
    >>> row |= {"head": "cosine", "status": "failed", "protocol": "kfold", "n_seeds": 1}
    >>> print(matrix_text([row], "top1", "csv"), end="")
    vectorizer,projection,merge,cosine
    classic,none,none,failed
    """
    for what, name, known in (("format", form, FORMATS), ("metric", metric, METRICS)):
        if name not in known:
            msg = f"unknown {what} {name!r}: known: {', '.join(known)}"
            raise UsageError(msg)
    return FORMATS[form](rows, metric)


def write_matrices(out: Path, rows: Sequence[dict[str, Any]], metric: str) -> None:
    """Write ``matrix.csv``, ``matrix.md`` and ``matrix.tex``."""
    for form in FORMATS:
        write_text(out / f"matrix.{form}", matrix_text(rows, metric, form))
