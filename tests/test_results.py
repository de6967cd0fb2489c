"""The committed results: every page says what its files say, and so does the README."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNS = sorted(path.parent for path in ROOT.glob("results/*/README.md"))
FIGURE = re.compile(r"(?<![\w.])[+-]?\d\.\d{3}(?!\d)")


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_runs_that_the_readme_names_are_there() -> None:
    names = {run.name for run in RUNS}
    assert names >= {"tll", "tll-peer", "dvd-covers", "ukbench"}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_each_page_is_what_its_files_make(run: Path) -> None:
    script = ROOT / "benchmarks" / "results_page.py"
    spec = importlib.util.spec_from_file_location("results_page", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (run / "README.md").read_text(encoding="utf-8") == module.page(run)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_no_boosted_cell_is_below_its_own_cosine(run: Path) -> None:
    for row in rows_of(run):
        if row["head"] == "xgboost":
            assert float(row["gain_high"]) >= 0, row["vectorizer"]


def test_the_readme_quotes_the_figures_of_the_challenge() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## On real pictures\n")[1].split("\n## ")[0]
    summary = json.loads((ROOT / "results/tll/summary.json").read_text("utf-8"))
    made = {figure for line in summary["lines"] for figure in FIGURE.findall(line)}
    quoted = set(FIGURE.findall(section))
    assert quoted
    assert quoted == made


def test_the_same_network_from_two_files_has_the_same_cosine() -> None:
    rows = [row for row in rows_of(ROOT / "results/tll") if row["head"] == "cosine"]
    by_name = {row["vectorizer"]: row for row in rows}
    onnx, timm = by_name["onnx:mobilenetv2"], by_name["timm:mobilenetv2_100"]
    for metric in ("top1", "top2", "top5", "mrr", "roc_auc"):
        assert float(onnx[metric]) == pytest.approx(float(timm[metric]), abs=0.005)
