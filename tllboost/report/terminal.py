"""The matrix as a table for the terminal: no digit is lost, however narrow it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tllboost.errors import printable
from tllboost.grid.matrix import Matrix, make_matrix

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["print_matrix"]

_SHORT = {
    "logistic": "logit",
    "linear-svm": "svm",
    "naive-bayes": "bayes",
    "random-forest": "forest",
    "xgboost": "xgb",
    "xgboost-rank": "rank",
}
_WIDTH_UNWATCHED = 80
_LONGEST_NAME, _LONGEST_HEAD = 28, 10
_WIDEST_LABEL, _NARROWEST_LABEL = 34, 24
_LABEL = "vectorizer, projection, merge"


def print_matrix(
    rows: list[dict[str, Any]], metric: str, *, console: Console | None = None
) -> None:
    """Print one metric of every cell; the best is marked ``*``, its ties ``=``.

    Names that are too long are cut, and written out below. Heads that find no room
    beside each other are printed in several tables, one below the other, each with
    the rows that have something in it.

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
    from rich.console import Console

    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=_WIDTH_UNWATCHED)
    matrix = make_matrix(rows)
    heads = _short_heads(matrix.heads)
    parts = _short_names(dict.fromkeys(part for key in matrix.keys for part in key))
    labels = [" ".join(parts[p] for p in key if p != "none") for key in matrix.keys]
    columns = {head: _column(matrix, head, metric) for head in matrix.heads}
    widths = [
        1 + max(map(_width, [heads[head], *columns[head]])) for head in matrix.heads
    ]
    console.print(
        f"{metric}, {rows[0]['protocol']} (* best, = tied with it at 95 %)\n",
        highlight=False,
    )
    for chosen, label_width in _blocks(labels, widths, console.width):
        block = _Block(label_width, [widths[index] for index in chosen])
        some = [matrix.heads[index] for index in chosen]
        block.add(_LABEL, [heads[head] for head in some], is_header=True)
        block.add_rule("─" if console.encoding.startswith("utf") else "-")
        for number, label in enumerate(labels):
            figures = [columns[head][number] for head in some]
            if any(figures):
                block.add(label, figures)
        console.print(*block.lines, "", sep="\n", soft_wrap=True)
    _print_legend({**parts, **heads}, console)


def _column(matrix: Matrix, head: str, metric: str) -> list[str]:
    """Return what a head's column holds, from above."""
    return [_value(matrix.cells.get((key, head)), metric) for key in matrix.keys]


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
    longest = max(map(_width, [*labels, _LABEL]))
    room = width - 1 - sum(widths)
    if room >= min(longest, _NARROWEST_LABEL):
        yield range(len(widths)), min(longest, room)
        return
    label = min(longest, _WIDEST_LABEL, width // 2)
    starts, used = [0], 0
    for index, one in enumerate(widths):
        if used and used + one > width - 1 - label:
            starts.append(index)
            used = 0
        used += one
    for start, end in zip(starts, [*starts[1:], len(widths)], strict=True):
        yield range(start, end), label


class _Block:
    """Lines of a table: labels to the left, folded, and figures in columns."""

    def __init__(self, label_width: int, widths: Sequence[int]) -> None:
        self.label_width = label_width
        self.widths = widths
        self.lines: list[Text] = []

    def add(
        self, label: str, figures: Sequence[str], *, is_header: bool = False
    ) -> None:
        """Add a row; its figures stand beside the last line of its label."""
        *above, last = _folded(label, self.label_width)
        line = _text(f" {last}{' ' * (self.label_width - _width(last))}")
        for figure, width in zip(figures, self.widths, strict=True):
            line.append(" " * (width - _width(figure)))
            is_bold = is_header or figure.endswith("*")
            line.append(figure, "bold" if is_bold else "")
        line.rstrip()
        self.lines += [*(_text(f" {one}") for one in above), line]

    def add_rule(self, stroke: str) -> None:
        """Add a line between the header and the rows."""
        self.lines.append(_text(f" {stroke * (self.label_width + sum(self.widths))}"))


def _folded(label: str, width: int) -> list[str]:
    """Return a label in lines, broken between names where that is possible."""
    from rich.console import Console

    lines = _text(label).wrap(Console(width=width), width, overflow="fold")
    return [line.plain.rstrip() for line in lines]


def _short_heads(heads: Sequence[str]) -> dict[str, str]:
    """Return what stands above each column."""
    names = {head: _SHORT.get(head, head.rpartition(":")[2]) for head in heads}
    return _distinct(names, _LONGEST_HEAD)


def _short_names(names: Iterable[str]) -> dict[str, str]:
    """Return what stands for each vectorizer, projection and merge."""
    return _distinct({name: name for name in names}, _LONGEST_NAME)


def _distinct(names: Mapping[str, str], longest: int) -> dict[str, str]:
    """Cut what is too long, and number what is then the same.

    Examples
    --------
    >>> _distinct({"a:Net": "Net", "b:Net": "Net", "c": "far too long"}, 8)
    {'a:Net': 'Net', 'b:Net': 'Net~2', 'c': 'far …ong'}
    """
    shown: dict[str, str] = {}
    for name, wanted in names.items():
        text, number = _cut(printable(wanted), longest), 1
        while text in shown.values():
            number += 1
            mark = f"~{number}"
            text = _cut(printable(wanted), longest - len(mark)) + mark
        shown[name] = text
    return shown


def _cut(text: str, longest: int) -> str:
    """Leave out the middle of what is too long."""
    if _width(text) <= longest:
        return text
    end = (longest - 1) // 2
    start = longest - 1 - end
    if text.isascii():
        return f"{text[:start]}…{text[-end:]}"
    from rich.cells import set_cell_size  # letters may be two columns wide

    return f"{set_cell_size(text, longest - 1).rstrip()}…"


def _print_legend(shown: Mapping[str, str], console: Console) -> None:
    """Write out the names that were cut."""
    usual = {**_SHORT, "none": "none"}
    cut = {
        text: printable(name)
        for name, text in shown.items()
        if text != printable(name) and usual.get(name) != text
    }
    if not cut:
        return
    indent = 3 + max(map(_width, cut))
    is_narrow = indent > console.width // 2
    for text, name in cut.items():
        start = f" {text}{' ' * (indent - 1 - _width(text))}"
        if is_narrow:
            console.print(_text(f" {text}"), soft_wrap=True)
            indent, start = 3, "   "
        for line in _folded(name, console.width - indent):
            console.print(_text(f"{start}{line}"), soft_wrap=True)
            start = " " * indent


def _text(text: str) -> Text:
    """Return text as it is: the brackets in a name are no markup."""
    from rich.text import Text

    return Text(text)


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
