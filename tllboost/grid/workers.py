"""Cells in worker processes: side by side, each written as it ends."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import TllboostError
from tllboost.grid.data import GridData
from tllboost.grid.measure import Bench, best_of_folds, measure
from tllboost.grid.plan import COSINE, Cell
from tllboost.grid.records import read_record, record_path, write_record
from tllboost.splits import Protocol, Split

__all__ = ["Task", "is_finished", "lost", "make_tasks", "run_tasks"]


@dataclass(frozen=True, eq=False)
class Task:
    """Cells that one worker runs on the same features."""

    vectorizer: str
    merge: str
    seed: int
    cells: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, eq=False)
class _Job:
    """What a worker needs beside its task; vectors arrive as a memory map."""

    out: Path
    protocol: Protocol
    vectorize_s: float


def is_finished(out: Path, cell_id: str) -> bool:
    """Tell whether a cell has a record of success; a failed one is tried again."""
    record = read_record(out, cell_id)
    return record is not None and record["status"] == "ok"


def make_tasks(missing: dict[tuple[Cell, int], str]) -> list[Task]:
    """Put cells together that share features; the boosted ones share a matrix."""
    groups: dict[tuple[Any, ...], list[tuple[str, Cell]]] = {}
    for (cell, seed), cell_id in missing.items():
        boosted = cell.head.startswith("xgboost")
        key = (seed, cell.vectorizer, cell.merge, boosted)
        groups.setdefault(key, []).append((cell_id, cell))
    return [
        Task(vectorizer, merge, seed, tuple(cells))
        for (seed, vectorizer, merge, _), cells in groups.items()
    ]


def run_tasks(
    tasks: list[Task], data: GridData, protocol: Protocol, out: Path, workers: int
) -> None:
    """Run the tasks in worker processes; a worker that dies costs its cells only."""
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    calls = [
        delayed(_run_task)(
            task,
            _Job(out, protocol, data.vectors[task.vectorizer].seconds),
            data.vectors[task.vectorizer].array,
            data.splits(protocol, task.seed),
        )
        for task in tasks
    ]
    with parallel_config("loky", inner_max_num_threads=1), warnings.catch_warnings():
        # loky replaces a worker whose memory has grown, and says so; no task is lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")
        try:
            Parallel(n_jobs=workers, batch_size=1)(calls)
        except TerminatedWorkerError:
            # Which cell it was is not known: what is left runs once more, one process
            # at a time; a cell that kills its process again is reported as lost.
            _run_alone(calls, tasks, out)


def _run_alone(calls: list[Any], tasks: list[Task], out: Path) -> None:
    from joblib import Parallel
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    for call, task in zip(calls, tasks, strict=True):
        if all(record_path(out, cell_id).exists() for cell_id, _ in task.cells):
            continue
        try:
            # Two jobs: one would run in this very process and take it down.
            Parallel(n_jobs=2, batch_size=1)([call])
        except TerminatedWorkerError:
            continue


def _run_task(
    task: Task, job: _Job, vectors: NDArray[np.float32], splits: list[Split]
) -> None:
    """Run the cells of one task, writing each as it ends."""
    merge = "dot" if task.merge == "none" else task.merge
    bench = Bench(vectors, splits, merge, task.seed)
    for cell_id, cell in task.cells:
        if is_finished(job.out, cell_id):
            continue
        record: dict[str, Any] = {
            "id": cell_id,
            "cell": asdict(cell),
            "seed": task.seed,
            "status": "ok",
            "error": "",
            "vectorize_s": job.vectorize_s,
        }
        try:
            record |= measure(bench, cell.head)
            if job.protocol.name == "holidays2017":
                record["best_of_folds"] = best_of_folds(bench, cell.head)
        except Exception as error:  # a cell that fails is a row, never a lost run
            record |= {"status": "failed", "error": _one_line(error)}
        if cell.head == COSINE:
            record["n_features"] = 1
        write_record(job.out, record)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return (
        text if isinstance(error, TllboostError) else f"{type(error).__name__}: {text}"
    )


def lost(cell: Cell, seed: int, cell_id: str) -> dict[str, Any]:
    """Return the record of a cell whose process died."""
    return {
        "id": cell_id,
        "cell": asdict(cell),
        "seed": seed,
        "status": "failed",
        "error": "its process died (out of memory?)",
    }
