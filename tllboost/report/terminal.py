"""The matrix as a table for the terminal: no digit is lost, however narrow it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tllboost.errors import printable
from tllboost.grid.matrix import joined, make_matrix

_SHORT = {
    "logistic": "logit",
    "linear-svm": "svm",
    "naive-bayes": "bayes",
    "random-forest": "forest",
    "xgboost": "xgb",
    "xgboost-rank": "rank",
}
_WIDTH_UNWATCHED = 80
_WIDEST_HEAD, _WIDEST_LABEL, _NARROWEST_LABEL = 14, 34, 24
_LABEL = "vectorizer, projection, merge"
# A space between columns, and a rule below their heads.
_BOX = "    \n    \n ── \n" + "    \n" * 5


def print_matrix(
    rows: list[dict[str, Any]], metric: str, *, console: Console | None = None
) -> None:
    """Print one metric of every cell; the best is marked ``*``, its ties ``=``.

    Long names take several lines. Heads that find no room beside each other are printed
    in several tables, one below the other, each with the rows that have something in
    it.

    Parameters
    ----------
    rows : list of dict
        Rows of ``results.csv``.
    metric : str
        What to show.
    console : rich.console.Console or None
        Where to; None prints to standard output, 80 columns wide where that is no
        terminal.
    """
    width = None if Console().is_terminal else _WIDTH_UNWATCHED
    console = console or Console(width=width)
    matrix = make_matrix(rows)
    labels = [*map(joined, matrix.keys)]
    short = [_SHORT.get(head, head.rpartition(":")[2]) for head in matrix.heads]
    heads = [
        printable(name if short.count(name) == 1 else head)
        for name, head in zip(short, matrix.heads, strict=True)
    ]
    columns = [
        [_value(row, metric) for row in column]
        for column in zip(*matrix.cells, strict=True)
    ]
    widths = [
        max(min(cell_len(head), _WIDEST_HEAD), *map(len, column))
        for head, column in zip(heads, columns, strict=True)
    ]
    title = f"{metric}, {rows[0]['protocol']} (* best, = tied with it at 95 %)\n"
    console.print(title, highlight=False)
    stroke = "─" if console.encoding.startswith("utf") else "-"
    box = Box(_BOX.replace("─", stroke), ascii=True)
    for chosen, label_width in _blocks(labels, widths, console.width):
        table = Table(box=box, padding=0, show_edge=False)
        table.add_column(_LABEL, width=label_width, overflow="fold")
        for index in chosen:
            head = Text(heads[index], justify="right", overflow="fold")
            table.add_column(head, width=widths[index], vertical="bottom")
        for number, label in enumerate(labels):
            figures = [columns[index][number].rjust(widths[index]) for index in chosen]
            if any(map(str.strip, figures)):
                bold = ("bold" if "*" in figure else "" for figure in figures)
                table.add_row(Text(label), *map(Text, figures, bold))
        for segments in console.render_lines(Padding(table, (0, 0, 1, 1)), pad=False):
            line = Text.assemble(*((one.text, one.style or "") for one in segments))
            line.rstrip()
            console.print(line, soft_wrap=True)
    for name, long in matrix.legend.items():
        console.print(Text(printable(f"{name} = {long}"), overflow="fold"))


def _value(row: dict[str, Any] | None, metric: str) -> str:
    if row is None:
        return ""
    if row["status"] != "ok":
        return "failed"
    value = row[metric]
    if value != value:
        return "–"
    mark = {"best": "*", "yes": "="}.get(row["tied_with_best"], " ")
    text = f"{value:.3f}".removeprefix("0") if 0 <= value < 1 else f"{value:.2f}"
    return f"{text}{mark}"


def _blocks(
    labels: Sequence[str], widths: Sequence[int], width: int
) -> Iterator[tuple[range, int]]:
    """Yield which heads stand beside each other, and how wide their labels are."""
    longest = max(map(cell_len, [*labels, _LABEL]))
    room = width - 1 - sum(widths) - len(widths)
    if room < min(longest, _NARROWEST_LABEL):
        room = min(_WIDEST_LABEL, width // 2, width - 2 - max(widths))
    label = min(longest, room)
    start, used = 0, 0
    for index, one in enumerate(widths):
        if used and used + one + 1 > width - 1 - label:
            yield range(start, index), label
            start, used = index, 0
        used += one + 1
    yield range(start, len(widths)), label
