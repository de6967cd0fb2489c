"""A run as a figure: its matrix and its gains are those of the rows."""

from __future__ import annotations

import io
import math

import pytest
from test_matrix_texts import rows_of

from tllboost.grid.matrix import draw, make_matrix, shown

pytest.importorskip("matplotlib", reason="needs the extra tllboost[plot]")


def test_a_figure_shows_the_matrix_and_the_gains_of_its_rows() -> None:
    rows = rows_of(r"onnx:$a_{b$\\frac.onnx")  # no formula
    rows[2] |= {"gain_low": -0.01}
    figure = draw(rows, "top2")
    figure.savefig(io.BytesIO())
    above, below = figure.axes
    matrix = make_matrix(rows)
    texts = [shown(row, "top2")[0] for cells in matrix.cells for row in cells]
    assert [one.get_text() for one in above.texts] == texts
    assert [one.get_weight() for one in above.texts].count("bold") == 1
    assert [one.get_text() for one in above.get_xticklabels()] == matrix.heads
    # White where the interval includes 0, nothing where no cell is.
    tones = above.images[0].get_array().filled(math.nan)[0]
    assert tones.tolist() == [0, rows[1]["gain"], 0]
    ordered = sorted(rows, key=lambda row: row["gain"])
    assert list(below.lines[0].get_xdata()) == [row["gain"] for row in ordered]
    for row, ends in zip(ordered, below.collections[0].get_segments(), strict=True):
        assert ends[:, 0].tolist() == [row["gain_low"], row["gain_high"]]
    assert below.get_yticklabels()[-1].get_text().endswith(" dot logistic")


def test_a_run_without_a_figure_is_drawn_too() -> None:
    rows = rows_of(status="failed", error="no memory")
    above, below = draw(rows[3:], "top2").axes
    assert [one.get_text() for one in above.texts] == ["failed"]
    assert not len(below.lines[0].get_xdata())
