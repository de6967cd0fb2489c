"""The committed results: every page says what its files say, and so does the README."""

from __future__ import annotations

import csv
import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tllboost.vectorizers import make_vectorizer

ROOT = Path(__file__).resolve().parents[1]
RUNS = sorted(path.parent for path in ROOT.glob("results/*/run.toml"))
REPORTED = [ROOT / "results" / name for name in ("tll", "demo")]
FIGURE = re.compile(r"(?<![\w.])[+-]?\d\.\d{3}(?!\d)")


def script(name: str) -> ModuleType:
    """Import a script of benchmarks/, which finds its neighbours as when it is run."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_runs_that_the_readme_names_are_there() -> None:
    names = {run.name for run in RUNS}
    assert names >= {"tll", "tll-peer", "dvd-covers", "dvd-covers-2017", "ukbench"}


def test_the_page_of_the_recipes_is_what_the_results_make() -> None:
    module = script("recipes_page")
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert text == module.page()


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_each_page_is_what_its_files_make(run: Path) -> None:
    module = script("results_page")
    assert (run / "README.md").read_text(encoding="utf-8") == module.page(run)


def test_the_readme_quotes_the_figures_of_the_challenge() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## On real images\n")[1].split("\n## ")[0]
    page = (ROOT / "results/tll-similarity/README.md").read_text("utf-8").splitlines()
    table = [line for line in section.splitlines() if line.startswith("|")]
    # One row for each merge; the page has the rest.
    ours = re.compile(r"\| views\+maps \| (similarity(\+l1)?|dot|l1) ")
    rows = [line for line in page if ours.match(line)]
    assert len(rows) == 4
    assert table[2:] == rows
    assert set(table) <= set(page)
    section = "\n".join(line for line in section.splitlines() if line not in table)
    summary = json.loads((ROOT / "results/tll/summary.json").read_text("utf-8"))
    made = {figure for line in summary["lines"] for figure in FIGURE.findall(line)}
    quoted = set(FIGURE.findall(section))
    assert quoted
    assert quoted == made


@pytest.mark.parametrize("run", REPORTED, ids=lambda run: run.name)
def test_each_report_shows_the_figures_of_its_files(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    begin = '<script type="application/json" id="data">'
    shown = json.loads(page.split(begin)[1].split("</script>")[0])
    for cell, row in zip(shown["cells"], rows_of(run), strict=True):
        assert cell["status"] == row["status"]
        for metric, figures in cell["figures"].items():
            ends = [row[metric], row[f"{metric}_low"], row[f"{metric}_high"]]
            told = [float(end) if end else None for end in ends]
            assert figures == pytest.approx(told, abs=1e-4)
    # Images of people are nobody's to publish: the demo's alone are shown.
    assert (shown["gallery"] is not None) == (run.name == "demo")


def test_the_page_of_pocket_is_what_its_files_make() -> None:
    module = script("pocket_page")
    assert (module.OUT / "README.md").read_text("utf-8") == module.page(module.OUT)


def test_the_page_of_the_blocks_of_classic_is_what_its_table_makes() -> None:
    module = script("classic_blocks")
    assert (module.OUT / "README.md").read_text("utf-8") == module.page(module.OUT)
    named = {row["variant"] for row in module.rows_of(module.OUT / "blocks.csv")}
    assert named == {name for name, _ in module.variants()}


def test_the_pages_of_choosing_are_what_their_tables_make() -> None:
    pages = ("choosing", "README.md"), ("ensembles", "ensembles.md")
    more = ("second_network", "second-network.md"), ("defaults", "README.md")
    for name, page in (*pages, *more):
        module = script(name)
        assert (module.OUT / page).read_text("utf-8") == module.page(module.OUT)


def test_the_page_of_similarities_is_what_its_table_makes() -> None:
    module = script("similarity")
    page = module.page(module.OUT / "similarity.csv")
    assert (module.OUT / "README.md").read_text("utf-8") == page


def test_what_validation_chose_of_pocket_is_what_is_shipped() -> None:
    """The length is in the weights; the fusion is the one that is told about."""
    module = script("pocket_page")
    vectors = make_vectorizer("pocket").transform([Image.new("RGB", (90, 70), "teal")])
    length = float(np.linalg.norm(vectors[0, 128:]))
    assert length == pytest.approx(module.chosen_length(module.OUT), abs=1e-4)
    card = (module.ROOT / "docs" / "pocket.md").read_text(encoding="utf-8")
    assert f"`{module.chosen_fusion(module.OUT)[0]}`" in card
