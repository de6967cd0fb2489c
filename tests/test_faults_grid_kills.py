"""A grid that is killed at any instruction, and goes on."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from killed_work import image_grid, make_pairs
from killing import N_MOMENTS, kill_at_moments
from reliability import count

from tllboost.store import VectorStore

COSTS = {"vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb"}
pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGKILL") or not hasattr(os, "fork"), reason="no kill -9 here"
)


def results_of(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in COSTS} for row in rows]


def verified(store: Path) -> int:
    """Return how many vectors a store holds, all of them sound."""
    with VectorStore(store) as opened:
        assert opened.verify() == []
        return sum(entry["n_rows"] for entry in opened.info())


def test_kill_9_at_any_moment_of_a_grid_loses_no_finished_cell(tmp_path: Path) -> None:
    # In one process, so that a moment may be in the midst of a worker's work.
    work = "killed_work:grid_in_one_process"
    told = kill_at_moments(work, tmp_path, n_moments=N_MOMENTS, seed=5)
    assert len(told) == N_MOMENTS
    pairs, whole = tmp_path / "pairs.csv", tmp_path / "whole" / "out"
    names = {path.name for path in whole.rglob("*")}
    n_finished, n_stored = [], []
    for moment in range(N_MOMENTS):
        folder = tmp_path / str(moment)
        out = folder / "out"
        n_stored.append(
            verified(folder / "store") if (folder / "store").exists() else 0
        )
        before = {path: path.stat().st_mtime_ns for path in out.glob("cells/*.json")}
        n_finished.append(len(before))
        result = image_grid(pairs, folder, resume=True)
        assert {path: path.stat().st_mtime_ns for path in before} == before, moment
        assert (result.exit_code, result.n_reused) == (0, len(before)), moment
        assert results_of(out) == results_of(whole), moment
        for name in ("matrix.csv", "splits.csv"):
            assert (out / name).read_bytes() == (whole / name).read_bytes(), moment
        assert {path.name for path in out.rglob("*")} == names, moment
        assert verified(folder / "store") == verified(tmp_path / "whole" / "store")
        count("kills survived")
        count("results compared", len(result.rows))
    assert min(n_finished) < max(n_finished)
    assert min(n_stored) < max(n_stored)


ENDLESS = """
import sys
from pathlib import Path
from killed_work import grid_of
grid_of(Path(sys.argv[1]), Path(sys.argv[2]), heads=["bad_heads:Sleeps"])
"""


def test_what_works_for_a_killed_grid_ends_with_it(tmp_path: Path) -> None:
    pairs, out = make_pairs(tmp_path), tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, pairs, out],
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parent,
        env=os.environ | {"STARTED": str(tmp_path / "started")},
    ) as process:
        assert process.stderr is not None
        # What a cell prints goes to the grid's standard error.
        assert process.stderr.readline() == b"asleep\n"
        process.kill()
        # The end of the pipe: nobody is left who could write to it.
        assert process.communicate(timeout=30)[1] == b""
    count("kills survived")
