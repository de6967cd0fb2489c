"""The matrix as CSV, Markdown and LaTeX: the same figures, whatever the names."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import record

from tllboost.errors import UsageError
from tllboost.grid.cells import Cell
from tllboost.grid.matrix import FORMATS, latex_text, markdown_text, matrix_text
from tllboost.grid.summary import summarise
from tllboost.report.run import read_run

NASTY = "[x]*--_{}\\%$#&~^`\n<>|\"'?`猫é\x1b[31m www.x.org http://y @z"
ROOT = Path(__file__).resolve().parents[1]
RUNS = sorted(
    run.with_name("results.csv") for run in (ROOT / "results").glob("*/run.toml")
)
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
\resizebox{\textwidth}{!}{\input{matrix}}
\end{document}
"""


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
    for form in ("md", "tex"):
        text = matrix_text(rows, "top2", form)
        found = re.findall(r"(0\.\d{3}) (?:±|\$\\pm\$) 0\.\d{3}", text)
        assert found == figures == ["0.200", "0.500", "0.490", "0.200", "0.400"]


def test_the_best_is_bold_and_its_ties_are_marked() -> None:
    rows = rows_of()
    half = f"{(rows[1]['top2_high'] - rows[1]['top2_low']) / 2:.3f}"
    markdown, latex = (matrix_text(rows, "top2", form) for form in ("md", "tex"))
    assert f"**0.500 ± {half}**" in markdown
    assert re.search(r"\| 0\.490 ± 0\.\d{3} = \|", markdown)
    assert rf"\textbf{{0.500 $\pm$ {half}}}" in latex
    assert re.search(r"\\underline\{0\.490 \$\\pm\$ 0\.\d{3}\}", latex)
    assert markdown.count("**0") == latex.count(r"\textbf") == 1
    assert markdown.splitlines()[0].startswith("top2, protocol holdout, 1 seed;")


def test_ties_are_marked_in_the_metric_that_they_are_told_in_and_no_other() -> None:
    text = matrix_text(rows_of(), "brier", "tex")
    assert "lower is better" in text
    assert r"\textbf" not in text
    assert r"\underline{" not in text


def test_a_failed_cell_says_so_and_one_not_run_is_empty() -> None:
    rows = rows_of(status="failed", error="no memory")
    assert matrix_text(rows, "top2", "csv").endswith("l1,0.2000,,failed\n")
    for form, line in (("md", "|  | failed |\n"), ("tex", "&  & failed \\\\\n")):
        text = matrix_text(rows, "top2", form)
        assert line in text
        assert "no memory" not in text


def test_a_figure_that_is_none_is_a_dash() -> None:
    rows = rows_of()
    rows[0]["top2"] = float("nan")
    rows[1]["top2_low"] = float("nan")
    assert "| – |" in matrix_text(rows, "top2", "md")
    assert "& -- &" in matrix_text(rows, "top2", "tex")
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


@given(st.text(max_size=20))
def test_names_stay_in_their_cell_of_latex(name: str) -> None:
    shown = latex_text(name)
    bare = re.sub(r"\\textbackslash|\\[{}#$%&_]", "", shown)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[#$%&_^~]", bare)
    assert "--" not in shown
    body = matrix_text(rows_of(name), "top2", "tex").split(r"\midrule")[1]
    assert len(re.findall(r"(?<!\\)&", body)) == 5 * 2


def test_markup_in_a_name_is_shown_and_not_obeyed() -> None:
    text = markdown_text(NASTY)
    for markup in ("<", "|", "`", "*", "["):
        assert not re.search(rf"(?<!\\){re.escape(markup)}", text), markup
    assert r"www\.x.org http:\// \@z".replace(" \\@", "y \\@") in text


def test_latex_sets_the_table_whatever_the_names(tmp_path: Path) -> None:
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("needs pdflatex (Debian: texlive-latex-recommended), not there")
    rows = [*rows_of(NASTY), *rows_of("".join(map(chr, range(0x20, 0x180))))]
    rows[-1]["head"] = NASTY
    (tmp_path / "matrix.tex").write_text(
        matrix_text(rows, "top2", "tex"), encoding="utf-8"
    )
    (tmp_path / "paper.tex").write_text(DOCUMENT, encoding="utf-8")
    done = subprocess.run(
        [latex, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Missing character" not in log


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
