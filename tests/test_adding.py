"""One more metric, protocol, matrix format, head and vectorizer, from outside.

A copy of the package gets one line a registry; what the lines name lies in a module
beside it. Nothing else changes: a grid, its tables, its report and ``tllboost list``
have them. A run from before the line is still read, and can go on.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import tllboost
from tllboost.demo import make_scenes

OWN = '''
import html
import numpy as np
from sklearn.tree import DecisionTreeClassifier
from tllboost.splits.sets import holdout

def top3(rank):
    """Share of queries whose match is among the first three."""
    return rank <= 3

def f1(pairs):
    """Harmonic mean of precision and recall, in each resample."""
    right = pairs.total(pairs.said * pairs.y)
    return 2 * right / (pairs.total(pairs.said) + pairs.total(pairs.y))

def twice(table, protocol, rng):
    """Two splits, drawn one after the other."""
    return [split for _ in range(2) for split in holdout(table, protocol, rng)]

def as_list(rows, metric):
    """A line a cell."""
    return "".join(f"{row['head']}: {row[metric]:.2f}\\n" for row in rows)

class Tree(DecisionTreeClassifier):
    """A head: any scikit-learn classifier."""
    def __init__(self):
        super().__init__(max_depth=3, random_state=0)

class Colours:
    """A vectorizer: mean and spread of each colour."""
    def transform(self, images):
        images = [np.asarray(image.convert("RGB"), np.float32) for image in images]
        return np.array([[*i.mean((0, 1)), *i.std((0, 1))] for i in images])
'''
LINES = {
    "metrics.py": (
        "METRICS = {\n",
        '    "top3": Metric("top-3 accuracy", "own", "queries", "own:top3"),\n'
        '    "f1": Metric("F1 score", "own", "pairs", "own:f1"),\n',
    ),
    "protocols.py": (
        '    "protocol",\n    {\n',
        '        "twice": Entry("own:twice", "own: two splits"),\n',
    ),
    "grid/matrix.py": (
        '    "format",\n    {\n',
        '        "txt": Entry("own:as_list", "own: a line a cell"),\n',
    ),
}
# Several commands in one process: most of each is the import of libraries.
COMMANDS = """
import json, sys
from tllboost.cli import main
for arguments in json.loads(sys.argv.pop()):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as leaving:
        assert not leaving.code, leaving.code
    print(end="\\0")
"""
Command = tuple[object, ...]
Commands = Callable[..., list[str]]


def commands_in(folder: Path) -> Commands:
    """Return a function that runs commands of the ``tllboost`` in a folder."""

    def run(*commands: Command) -> list[str]:
        told = json.dumps([list(map(str, command)) for command in commands])
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS, told],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\0")[:-1]

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images, a module of somebody's own, and the package."""
    folder = tmp_path_factory.mktemp("adding")
    make_scenes(folder / "images", n_scenes=40, n_views=2)
    (folder / "plain").mkdir()
    (folder / "added").mkdir()
    for name in ("plain", "added"):
        (folder / name / "own.py").write_text(OWN)
    ignore = shutil.ignore_patterns("__pycache__")
    package = Path(tllboost.__file__).parent
    (folder / "plain" / "tllboost").symlink_to(package)
    copy = shutil.copytree(package, folder / "added" / "tllboost", ignore=ignore)
    for name, (before, lines) in LINES.items():
        text = (copy / name).read_text(encoding="utf-8")
        assert text.count(before) == 1
        (copy / name).write_text(text.replace(before, before + lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def added(folder: Path) -> Commands:
    return commands_in(folder / "added")


def grid(out: Path, *more: object) -> Command:
    """Return the command of a small grid of own vectors and an own head."""
    table = out.parent / "images" / "pairs.csv"
    return (
        *("grid", table, "--images", table.parent, "--out", out, "--quiet"),
        *("-v", "own:Colours", "-m", "l1", "-c", "own:Tree", "--jobs", 1),
        *("--store", out.parent / "store", *more),
    )


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def page_of(out: Path) -> str:
    return (out / "report.html").read_text(encoding="utf-8")


class Runs(NamedTuple):
    """What the commands of the package with the lines left and printed."""

    new: Path
    as_f1: str
    known: dict[str, list[dict[str, str]]]
    before: Path
    old: Path
    report: list[dict[str, object]]
    measured: Path


@pytest.fixture(scope="module")
def runs(folder: Path, added: Commands) -> Runs:
    """Run with what was added, and go on with a run from before it."""
    # A protocol and a format need no line at all: a path is a name.
    told = ("--protocol", "own:twice")
    new, before, old, measured = (
        folder / name for name in ("new", "before", "old", "measured")
    )
    _, text = commands_in(folder / "plain")(
        grid(before, *told), ("report", before, "--format", "own:as_list")
    )
    assert text.splitlines() == [
        f"{row['head']}: {float(row['top2']):.2f}" for row in rows_of(before)
    ]
    for copy in (old, measured):
        shutil.copytree(before, copy)
    _, as_f1, _, listed, report, *_ = added(
        grid(new, "--protocol", "twice", "--metric", "top3"),
        ("report", new, "--metric", "f1", "--format", "txt"),
        ("report", new, "--gallery", 0, "--quiet"),
        ("list", "--json"),
        ("report", old, "--format", "json"),
        ("report", old, "--gallery", 0, "--quiet"),
        grid(old, *told, "--resume"),
        grid(measured, *told, "--resume", "--metric", "top3"),
    )
    return Runs(
        new, as_f1, json.loads(listed), before, old, json.loads(report), measured
    )


def test_one_line_each_and_a_grid_its_tables_and_its_report_have_it(
    runs: Runs,
) -> None:
    rows = rows_of(runs.new)
    assert [row["head"] for row in rows] == ["cosine", "own:Tree"]
    for row in rows:
        told = (row["metric"], row["protocol"], row["status"])
        assert told == ("top3", "twice", "ok")
        for name in ("top3", "f1"):
            low, value, high = (float(row[name + end]) for end in ("_low", "", "_high"))
            assert 0 <= low <= value <= high <= 1
        assert float(row["top2"]) <= float(row["top3"]) <= float(row["top5"])
    with (runs.new / "splits.csv").open(newline="", encoding="utf-8") as file:
        assert {row["fold"] for row in csv.DictReader(file)} == {"0", "1"}

    def lines(metric: str) -> list[str]:
        return [f"{row['head']}: {float(row[metric]):.2f}" for row in rows]

    assert (runs.new / "matrix.txt").read_text().splitlines() == lines("top3")
    assert runs.as_f1.splitlines() == lines("f1")
    for said in ("top-3 accuracy", "F1 score", "own: two splits"):
        assert said in page_of(runs.new)
    names = {kind: {row["name"] for row in rows} for kind, rows in runs.known.items()}
    assert {"top3", "f1"} <= names["metrics"]
    assert "twice" in names["protocols"]
    assert "txt" in names["formats"]


def test_a_run_from_before_a_metric_is_read_and_goes_on(runs: Runs) -> None:
    before = rows_of(runs.before)
    assert [row["top3"] for row in runs.report] == [None, None]
    told = [f"{row['top2']:.6g}" for row in runs.report]
    assert told == [row["top2"] for row in before]
    assert "top-3 accuracy" in page_of(runs.old)
    for record in runs.before.glob("cells/*.json"):
        assert (runs.old / "cells" / record.name).read_bytes() == record.read_bytes()
    after = rows_of(runs.old)
    assert [row["top3"] + row["f1_low"] for row in after] == ["", ""]
    assert [{name: row[name] for name in before[0]} for row in after] == before
    notes = json.loads((runs.old / "summary.json").read_text())["lines"]
    assert any(line.startswith("2 of 2 cells have no top3") for line in notes)
    # The metric that is asked for is measured.
    measured = rows_of(runs.measured)
    assert all(0 <= float(row["top3"]) <= 1 for row in measured)
    assert [row["top2"] for row in measured] == [row["top2"] for row in before]


def test_a_run_of_another_number_of_resamples_is_read(
    runs: Runs, folder: Path, added: Commands
) -> None:
    all_fewer, one_fewer = (
        shutil.copytree(runs.new, folder / name) for name in ("all", "one")
    )
    for out in (all_fewer, one_fewer):
        for path in sorted(out.glob("cells/*.json"))[: 2 if out == all_fewer else 1]:
            record = json.loads(path.read_text())
            record["resampled"] = {k: v[:200] for k, v in record["resampled"].items()}
            path.write_text(json.dumps(record))
    told = added(*(("report", o, "--format", "json") for o in (all_fewer, one_fewer)))
    same, apart = map(json.loads, told)
    new = rows_of(runs.new)
    for row, old in zip(same, new, strict=True):
        assert f"{row['top2']:.6g}" == old["top2"]
        assert row["top2_low"] <= row["top2"] <= row["top2_high"]
    # Resamples in different numbers are not paired: a gain has no interval.
    (learned,) = (row for row in apart if row["head"] == "own:Tree")
    assert learned["gain"] == pytest.approx(float(new[1]["gain"]), abs=1e-5)
    assert (learned["gain_low"], learned["gain_high"]) == (None, None)
