"""A planted pair table, and grids of projections on it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.grid.run import GridResult, run_grid
from tllboost.pairs import PairTable
from tllboost.processes import Processes
from tllboost.splits import Protocol

N_PAIRS, N_DIMS = 100, 20
QUICK = "components=6&epochs=4"
INFONCE = "infonce?epochs=30&components=20&rate=0.01"
TRIPLET, CONTRASTIVE = f"triplet?{QUICK}", f"contrastive?{QUICK}"
TUNING = "finetune?stages=1&epochs=1&views=1&batch=8"
COSTS = {"vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb"}
SMALL = Protocol(n_distractors=7)


def write_planted(folder: Path) -> Path:
    """Write pairs that agree in their first dimensions only, and their vectors."""
    rng = np.random.default_rng(0)
    left = rng.normal(size=(N_PAIRS, N_DIMS))
    right = rng.normal(size=(N_PAIRS, N_DIMS))
    right[:, :5] = left[:, :5] + 0.5 * right[:, :5]
    ids = [f"{side}{i:03d}" for side in "ab" for i in range(N_PAIRS)]
    vectors = np.vstack([left, right]).astype(np.float32)
    np.savez(folder / "planted.npz", ids=np.array(ids), vectors=vectors)
    np.savez(folder / "other.npz", ids=np.array(ids), vectors=vectors[:, ::-1] * 2)
    rows = [f"{a},{b}" for a, b in zip(ids[:N_PAIRS], ids[N_PAIRS:], strict=True)]
    (folder / "pairs.csv").write_text("\n".join(["left,right", *rows]) + "\n")
    return folder


def grid(table: PairTable, out: Path, **given: Any) -> GridResult:
    """Run a small grid, or go on with it."""
    small = {
        "merges": ["dot"],
        "heads": ["cosine"],
        "protocol": SMALL,
        "refit": False,
        "backend": Processes(1),
    }
    store = out.parent / "store"
    return run_grid(table, out=out, store=store, resume=True, **small | given)


def row_of(result: GridResult, **wanted: str) -> dict[str, Any]:
    (row,) = (
        row
        for row in result.rows
        if all(row[name] == value for name, value in wanted.items())
    )
    return row


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_costs(path: Path) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name not in COSTS}
        for row in read_csv(path)
    ]


def stamps(out: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob(pattern)}


# --- ensembles


def records_of(out: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in out.glob("cells/*.json")]
    return sorted(found, key=lambda record: record["id"])
