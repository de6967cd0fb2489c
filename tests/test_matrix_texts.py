"""The matrix as CSV and Markdown: the same figures, whatever the names."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import record

from tllboost.errors import UsageError
from tllboost.grid.cells import Cell
from tllboost.grid.matrix import FORMATS, markdown_text, matrix_text
from tllboost.grid.summary import summarise
from tllboost.report.run import read_run

NASTY = "[x]*--_{}\\%$#&~^`\n<>|\"'?`猫é\x1b[31m www.x.org http://y @z"
ROOT = Path(__file__).resolve().parents[1]
RUNS = sorted(
    run.with_name("results.csv") for run in (ROOT / "results").glob("*/run.toml")
)


def rows_of(vectorizer: str = "classic", **failing: str) -> list[dict[str, Any]]:
    cosine = Cell(vectorizer, "none", "none", "cosine")
    cells = [
        cosine,
        Cell(vectorizer, "none", "dot", "logistic"),
        Cell(vectorizer, "none", "dot", "mlp"),
        Cell(vectorizer, "none", "l1", "mlp"),
    ]
    records = [
        record(cells[0], 0.2),
        record(cells[1], 0.5),
        record(cells[2], 0.49, shared=1),
        record(cells[3], 0.4, **failing),
    ]
    return summarise(cells, records, metric="top2", protocol="holdout")


def test_every_form_says_the_same_figures() -> None:
    rows = rows_of()
    (csv_head, *lines) = csv.reader(io.StringIO(matrix_text(rows, "top2", "csv")))
    figures = [f"{float(one):.3f}" for line in lines for one in line[3:] if one]
    assert csv_head[3:] == ["cosine", "logistic", "mlp"]
    found = re.findall(r"(0\.\d{3}) ± 0\.\d{3}", matrix_text(rows, "top2", "md"))
    assert found == figures == ["0.200", "0.500", "0.490", "0.200", "0.400"]


def test_the_best_is_bold_and_its_ties_are_marked() -> None:
    rows = rows_of()
    half = f"{(rows[1]['top2_high'] - rows[1]['top2_low']) / 2:.3f}"
    markdown = matrix_text(rows, "top2", "md")
    assert f"**0.500 ± {half}**" in markdown
    assert re.search(r"\| 0\.490 ± 0\.\d{3} = \|", markdown)
    assert markdown.count("**0") == 1
    assert markdown.splitlines()[0].startswith("top2, protocol holdout, 1 seed;")


def test_ties_are_marked_in_the_metric_that_they_are_told_in_and_no_other() -> None:
    told, _, table = matrix_text(rows_of(), "brier", "md").partition("\n")
    assert "lower is better" in told
    assert "| 0.200" in table
    assert "**" not in table
    assert "=" not in table


def test_a_failed_cell_says_so_and_one_not_run_is_empty() -> None:
    rows = rows_of(status="failed", error="no memory")
    assert matrix_text(rows, "top2", "csv").endswith("l1,0.2000,,failed\n")
    text = matrix_text(rows, "top2", "md")
    assert "|  | failed |\n" in text
    assert "no memory" not in text


@pytest.mark.parametrize("off", [-1e-12, 1e-12])
def test_a_figure_is_rounded_as_the_results_have_it(off: float) -> None:
    """Of six digits: a mean of many seeds may lie a trifle beside a half."""
    exact, mean = rows_of(), rows_of()
    exact[0]["top2"], mean[0]["top2"] = 0.54375, 0.54375 + off
    for form in FORMATS:
        texts = [matrix_text(rows, "top2", form) for rows in (exact, mean)]
        assert texts[0] == texts[1]


def test_a_figure_that_is_none_is_a_dash() -> None:
    rows = rows_of()
    rows[0]["top2"] = float("nan")
    rows[1]["top2_low"] = float("nan")
    assert "| – |" in matrix_text(rows, "top2", "md")
    assert "| **0.500** |" in matrix_text(rows, "top2", "md")
    assert "nan" not in "".join(matrix_text(rows, "top2", form) for form in FORMATS)


@pytest.mark.parametrize(("metric", "form"), [("top2", "xls"), ("top3", "md")])
def test_a_wrong_form_or_metric_is_named(metric: str, form: str) -> None:
    with pytest.raises(UsageError, match=r"unknown (format 'xls'|metric 'top3'): know"):
        matrix_text(rows_of(), metric, form)


@given(st.text(max_size=20))
def test_names_stay_in_their_cell_of_markdown(name: str) -> None:
    text = matrix_text(rows_of(name), "top2", "md")
    lines = text.splitlines()[2:]
    bars = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines}
    assert bars == {7}
    assert markdown_text(name).isprintable()


def test_markup_in_a_name_is_shown_and_not_obeyed() -> None:
    text = markdown_text(NASTY)
    for markup in ("<", "|", "`", "*", "["):
        assert not re.search(rf"(?<!\\){re.escape(markup)}", text), markup
    assert r"www\.x.org http:\// \@z".replace(" \\@", "y \\@") in text


@pytest.mark.parametrize(
    "run", [path.parent for path in RUNS], ids=lambda run: run.name
)
def test_the_matrices_of_the_committed_runs_are_what_their_results_say(
    run: Path,
) -> None:
    found = read_run(run)
    for form in FORMATS:
        text = (run / f"matrix.{form}").read_text(encoding="utf-8")
        assert text == matrix_text(found.rows(), found.metric, form)
