"""The matrix of a run and the gains of its cells, as a figure of matplotlib."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from tllboost.errors import missing_library, printable
from tllboost.grid.cells import Cell
from tllboost.grid.matrix import Row, caption, make_matrix, shown

__all__ = ["draw"]

_ENDS = "", "_low", "_high"
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
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise missing_library(error.name, "plot()") from error
    matrix = make_matrix(rows)
    best = [row for row in rows if math.isfinite(row.get("gain", math.nan))]
    best = sorted(best, key=lambda row: row["gain"])[-_MOST_GAINS:]
    gains, lows, highs = ([row[f"gain{end}"] for row in best] for end in _ENDS)
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
    names = [_joined(short.get(part, part) for part in each) for each in parts]
    text: dict[str, Any] = {"parse_math": False}  # a name may have a $
    above.set_xticks(range(len(matrix.heads)), map(printable, matrix.heads), **text)
    above.set_yticks(range(len(matrix.keys)), map(_joined, matrix.keys), **text)
    above.set_title(textwrap.fill(caption(rows, metric, printable), 80), **text)
    below.hlines(range(len(best)), lows, highs)
    below.plot(gains, range(len(best)), "o")
    below.axvline(0, color="grey")
    below.set_yticks(range(len(best)), names, **text)
    below.set_title(f"gain in {metric} over the plain cosine, 95 % interval")
    return figure


def _joined(parts: Iterable[str]) -> str:
    return printable(" ".join(part for part in parts if part != "none"))


def _sure_gain(row: Row | None) -> float:
    """Return a gain, 0 where its interval includes 0, NaN where there is none."""
    if row is None or row["status"] != "ok":
        return math.nan
    return float(row["gain"] if row["gain_low"] > 0 or row["gain_high"] < 0 else 0)
