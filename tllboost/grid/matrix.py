"""One metric as a matrix: heads across, vectorizer, projection and merge down.

It is written as CSV, and as a table that GitHub shows. :data:`FORMATS` names them.
"""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tllboost.errors import need, printable
from tllboost.files import csv_text
from tllboost.grid.cells import Cell
from tllboost.metrics import METRICS, check_metric
from tllboost.registry import Entry, Registry

Row = dict[str, Any]
Key = tuple[str, str, str]


class Matrix(NamedTuple):
    """Rows of results arranged for reading.

    Parameters
    ----------
    keys : list of (vectorizer, projection, merge)
        Rows.
    heads : list of str
        Columns. Names of more than 32 characters are shortened, here and in rows.
    cells : list of list of (dict or None)
        The row of results of each cell, None where there is none; the cosine, which
        reads no merge, stands in every row of its vectorizer and projection.
    legend : dict of str to str
        What each shortened name is short for.
    """

    keys: list[Key]
    heads: list[str]
    cells: list[list[Row | None]]
    legend: dict[str, str]


_LONGEST = 32


def _short(name: str, legend: dict[str, str]) -> str:
    """Return what a long name is shown as, and note it.

    A class without its module, options by the first letters of their words.
    """
    base, mark, told = name.partition("?")
    module, _, own = base.rpartition(":")
    words = re.sub(r"([^\W_])[^\W_]*_*(?=\w*=)", r"\1", told)
    short = f"{own if '.' in module else base}{mark}{words}"
    if len(short) > _LONGEST:
        short = f"{short[: _LONGEST - 3]}..."
    tries = [short, *(f"{short[: _LONGEST - 3]}~{n}" for n in range(2, 1000))]
    return next(one for one in tries if legend.setdefault(one, name) == name)


def make_matrix(rows: Sequence[Row]) -> Matrix:
    """Arrange the rows of ``results.csv`` as a matrix.

    Examples
    --------
    >>> row = {"vectorizer": "classic", "projection": "none", "merge": "none"}
    >>> make_matrix([row | {"head": "cosine"}]).keys
    [('classic', 'none', 'none')]
    """
    heads = list(dict.fromkeys(row["head"] for row in rows))
    own = {(r["vectorizer"], r["projection"], r["merge"], r["head"]): r for r in rows}
    merged = {(v, p) for v, p, merge, _ in own if merge != "none"}
    keys: dict[Key, None] = dict.fromkeys(
        (v, p, m) for v, p, m, _ in own if m != "none" or (v, p) not in merged
    )
    cells = [
        [own.get((v, p, m, head)) or own.get((v, p, "none", head)) for head in heads]
        for v, p, m in keys
    ]
    legend: dict[str, str] = {}
    named = dict.fromkeys([part for key in keys for part in key[:2]] + heads)
    long = {one: _short(one, legend) for one in named if len(one) > _LONGEST}
    shown_keys = [(long.get(v, v), long.get(p, p), merge) for v, p, merge in keys]
    return Matrix(shown_keys, [long.get(one, one) for one in heads], cells, legend)


def _lines(
    rows: Sequence[Row], metric: str, text: Callable[[str], str], **marks: str
) -> Iterator[list[str]]:
    """Give the fields of the header and of each line.

    `text` is applied to names; `marks` are the formats of figures by how they stand.
    """
    matrix = make_matrix(rows)
    yield ["vectorizer", "projection", "merge", *map(text, matrix.heads)]
    for key, cells in zip(matrix.keys, matrix.cells, strict=True):
        told = [shown(row, metric, is_plain=not marks) for row in cells]
        yield [
            *map(text, key),
            *(marks.get(how, "{}").format(one) for one, how in told),
        ]


def matrix_csv(rows: Sequence[Row], metric: str) -> str:
    """Return the matrix of one metric as CSV.

    A failed cell says so, one that was not run or has no figure is empty.
    """
    legend = make_matrix(rows).legend
    head, *lines = _lines(rows, metric, lambda name: legend.get(name, name))
    return csv_text(head, lines)


def caption(rows: Sequence[Row], metric: str, text: Callable[[str], str]) -> str:
    """Return what a matrix shows, in one sentence, and what its short names stand for.

    `text` is applied to names.

    Examples
    --------
    >>> row = {"vectorizer": "classic", "projection": "none", "merge": "none"}
    >>> row |= {"head": "cosine", "protocol": "holdout", "n_seeds": 5}
    >>> caption([row], "brier", str)
    'brier (lower is better), protocol holdout, 5 seeds; ± is half of the 95 % interval'
    """
    lower = " (lower is better)" if METRICS[metric].sign < 0 else ""
    seeds = max(row["n_seeds"] for row in rows)
    counted = "1 seed" if seeds == 1 else f"{seeds:g} seeds"
    protocol = f"protocol {rows[0]['protocol']}, {counted}"
    legend = make_matrix(rows).legend.items()
    told = [f"{text(short)} = {text(name)}" for short, name in legend]
    half = "± is half of the 95 % interval"
    return "; ".join([f"{metric}{lower}, {protocol}", half, *told])


def shown(row: Row | None, metric: str, *, is_plain: bool = False) -> tuple[str, str]:
    """Return the text of a cell, and how it stands: "best", "tie" or nothing.

    Parameters
    ----------
    row : dict or None
        The cell's row of results; None where it was not run.
    metric : str
    is_plain : bool, default=False
        Whether a figure stands alone, for programs, and nothing where there is none.

    Examples
    --------
    >>> row = {"status": "ok", "metric": "top2", "tied_with_best": "yes"}
    >>> row |= {"top2": 0.656, "top2_low": 0.62, "top2_high": 0.69}
    >>> shown(row, "top2")
    ('0.656 ± 0.035', 'tie')
    """
    if row is None:
        return "", ""
    if row["status"] != "ok":
        return "failed", ""
    if not math.isfinite(row[metric]):
        return "" if is_plain else "–", ""
    # Of six digits, as in results.csv: what lies beside a half rounds as it does there.
    value = float(f"{row[metric]:.6g}")
    if is_plain:
        return f"{value:.4f}", ""
    half = (row[f"{metric}_high"] - row[f"{metric}_low"]) / 2
    spread = f" ± {half:.3f}" if math.isfinite(half) else ""
    # Ties are told in the metric of the rows, and of no other.
    told = row["tied_with_best"] if row["metric"] == metric else ""
    return f"{value:.3f}{spread}", {"yes": "tie", "best": "best"}.get(told, "")


def matrix_html(rows: Sequence[Row], metric: str) -> str:
    """Return the matrix of one metric as a table for a notebook: the best is bold."""
    lines = _lines(rows, metric, html.escape, best="<b>{}</b>", tie="{} =")
    body = "".join(f"<tr><td>{'</td><td>'.join(line)}</td></tr>" for line in lines)
    told = caption(rows, metric, str)
    return f"<p>{html.escape(told)}</p><table>{body}</table>"


_MARKUP = re.compile(r"[\\`*_\[\]<>|~&#$!]")
# What GitHub makes a link of although nobody marked it up.
_ADDRESS = re.compile(r"(?i)(?<=:)//|(?<=www)\.|@")


def matrix_markdown(rows: Sequence[Row], metric: str) -> str:
    """Return the matrix of one metric: the best is bold, its ties are marked ``=``."""
    head, *body = _lines(rows, metric, markdown_text, best="**{}**", tie="{} =")
    rule = ["---"] * 3 + ["---:"] * (len(head) - 3)
    table = [f"| {' | '.join(fields)} |" for fields in (head, rule, *body)]
    told = f"{caption(rows, metric, markdown_text)}; **best**, = tied with it."
    return "\n".join([told, "", *table]) + "\n"


def markdown_text(text: str) -> str:
    r"""Return text that Markdown shows as it is, in one line.

    Examples
    --------
    >>> markdown_text("onnx:a|b_c.onnx")
    'onnx:a\\|b\\_c.onnx'
    """
    plain = _MARKUP.sub(r"\\\g<0>", printable(text))
    return _ADDRESS.sub(lambda found: rf"\{found.group()}", plain)


FORMATS = Registry(
    "format",
    {
        "csv": Entry("tllboost.grid.matrix:matrix_csv", "figures alone, for programs"),
        "md": Entry("tllboost.grid.matrix:matrix_markdown", "a table of GitHub's"),
    },
)
"""Functions of the rows of results and a metric to text; ``matrix.NAME`` holds it."""


def matrix_text(rows: Sequence[Row], metric: str, form: str) -> str:
    """Return the matrix of one metric as text.

    Parameters
    ----------
    rows : sequence of dict
        Rows of ``results.csv``, ties told in `metric`.
    metric : str
        One of :data:`~tllboost.metrics.METRICS`.
    form : str
        "csv" (figures alone), "md" (a GitHub table: ± half of the interval, the best
        bold, its ties marked), or ``package.module:function``.

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
    check_metric(metric)
    return str(FORMATS.resolve(form)(rows, metric))


# As a figure of matplotlib

# What stands behind the name of a figure, and of the ends of its interval.
ENDS = "", "_low", "_high"
_MOST_GAINS = 30
_LEAST_SCALE = 0.05  # else the largest of small gains would have the strongest colour


def draw(rows: Sequence[Row], metric: str) -> Any:
    """Draw the matrix of one metric, and below it what each cell gains.

    A cell of the matrix is blue where it is better than the cosine of its vectors, red
    where it is worse, and white where the interval of the difference includes 0. Of the
    gains the 30 largest are drawn, with their 95 % intervals.

    Parameters
    ----------
    rows : sequence of dict
        Rows of ``results.csv``.
    metric : str
        The one that gains are told in.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MissingLibraryError
        If matplotlib is not installed.
    """
    need("matplotlib", "plot()")
    from matplotlib import pyplot

    matrix = make_matrix(rows)
    best = [row for row in rows if math.isfinite(row.get("gain", math.nan))]
    best = sorted(best, key=lambda row: row["gain"])[-_MOST_GAINS:]
    gains, lows, highs = ([row[f"gain{end}"] for row in best] for end in ENDS)
    heights = len(matrix.keys) + 2, len(best) + 2
    size = 3 + 1.3 * len(matrix.heads), 1 + 0.3 * sum(heights)
    figure = pyplot.figure(figsize=size, layout="constrained")
    pyplot.close(figure)  # else a notebook shows it twice
    above, below = figure.subplots(2, height_ratios=heights)
    tones = [[_sure_gain(row) for row in cells] for cells in matrix.cells]
    scale = 2 * max(map(abs, [_LEAST_SCALE, *gains]))
    above.imshow(tones, cmap="RdBu", vmin=-scale, vmax=scale, aspect="auto")
    for y, cells in enumerate(matrix.cells):
        for x, row in enumerate(cells):
            told, stands = shown(row, metric)
            weight = "bold" if stands == "best" else "normal"
            above.text(x, y, told, ha="center", va="center", weight=weight)
    short = {name: one for one, name in matrix.legend.items()}
    parts = ([row[part] for part in Cell.__annotations__] for row in best)
    names = [joined(short.get(part, part) for part in each) for each in parts]
    text: dict[str, Any] = {"parse_math": False}  # a name may have a $
    above.set_xticks(range(len(matrix.heads)), map(printable, matrix.heads), **text)
    above.set_yticks(range(len(matrix.keys)), map(joined, matrix.keys), **text)
    above.set_title(textwrap.fill(caption(rows, metric, printable), 80), **text)
    below.hlines(range(len(best)), lows, highs)
    below.plot(gains, range(len(best)), "o")
    below.axvline(0, color="grey")
    below.set_yticks(range(len(best)), names, **text)
    below.set_title(f"gain in {metric} over the plain cosine, 95 % interval")
    return figure


def joined(parts: Iterable[str]) -> str:
    """Return the parts of a cell's name in one line, without those that are none."""
    return printable(" ".join(part for part in parts if part != "none"))


def _sure_gain(row: Row | None) -> float:
    """Return a gain, 0 where its interval includes 0, NaN where there is none."""
    if row is None or row["status"] != "ok":
        return math.nan
    return float(row["gain"] if row["gain_low"] > 0 or row["gain_high"] < 0 else 0)
