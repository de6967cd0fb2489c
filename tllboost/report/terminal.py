"""The matrix as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tllboost.grid.matrix import make_matrix

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_matrix"]

_SHORT = {
    "logistic": "logit",
    "linear-svm": "svm",
    "naive-bayes": "bayes",
    "random-forest": "forest",
    "xgboost": "xgb",
    "xgboost-rank": "rank",
}
_WIDTH_UNWATCHED = 120


def print_matrix(
    rows: list[dict[str, Any]], metric: str, *, console: Console | None = None
) -> None:
    """Print one metric of every cell; the best is marked ``*``, its ties ``=``.

    Parameters
    ----------
    rows : list of dict
        Rows of ``results.csv``.
    metric : str
        What to show.
    console : rich.console.Console or None
        Where to; None prints to standard output.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    if console is None:
        console = Console()
        if not console.is_terminal:
            # A file or a pipe has no width of its own, and nothing shall be cut off.
            console = Console(width=_WIDTH_UNWATCHED)
    matrix = make_matrix(rows)
    protocol = rows[0]["protocol"]
    table = Table(
        title=f"{metric}, {protocol} (* best, = tied with it at 95 %)",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    table.add_column("vectorizer, projection, merge", overflow="fold")
    for head in matrix.heads:
        name = _SHORT.get(head, head.rpartition(":")[2])
        table.add_column(name, justify="right", overflow="fold", no_wrap=False)
    for key in matrix.keys:
        name = " ".join(part for part in key if part != "none")
        cells = [_text(matrix.cells.get((key, head)), metric) for head in matrix.heads]
        table.add_row(name, *cells)
    console.print(table)


def _text(row: dict[str, Any] | None, metric: str) -> str:
    if row is None:
        return ""
    if row["status"] != "ok":
        return "failed"
    value = row[metric]
    if value != value:
        return "–"
    mark = {"best": "*", "yes": "="}.get(row["tied_with_best"], " ")
    text = f"{value:.3f}".removeprefix("0") if 0 <= value < 1 else f"{value:.2f}"
    return f"[bold]{text}{mark}[/bold]" if mark == "*" else f"{text}{mark}"
