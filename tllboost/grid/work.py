"""Cells of very many pairs: each trained by all workers of a cluster together.

Cells in worker processes: side by side, each written as it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tllboost.cluster import Cluster
from tllboost.cluster.calls import run_clustered
from tllboost.grid.cells import COSINE, Cell, parts_of
from tllboost.grid.data import GridData
from tllboost.grid.learn import Learned, one_line, prepared_splits, spaces_of
from tllboost.grid.measure import Bench, best_of_folds, measure
from tllboost.grid.records import record_path, write_record, write_scores
from tllboost.processes import (
    NO_LIMITS,
    Call,
    Limits,
    Progress,
    counting,
    release_memory,
    run_parallel,
)
from tllboost.projections import NONE
from tllboost.splits import Protocol, Split

if TYPE_CHECKING:
    from tllboost.processes import Call

__all__ = ["failed", "is_large", "make_tasks", "run_tasks", "together"]


def is_large(cluster: Cluster | None, head: str, n_pairs: int) -> bool:
    """Tell whether a cell is one for all workers: lists of a ranking can't be cut."""
    if cluster is None or cluster.large is None or head != "xgboost":
        return False
    return n_pairs >= cluster.large


def set_apart(
    tasks: Sequence[Task], data: GridData, protocol: Protocol, cluster: Cluster | None
) -> tuple[list[Task], list[Task]]:
    """Return the tasks for one worker each, and those for all of them together."""
    alone: list[Task] = []
    for_all: list[Task] = []
    for task in tasks:
        n_pairs = len(data.splits(protocol, task.seed)[0].train)
        large = [one for one in task.cells if is_large(cluster, one[1].head, n_pairs)]
        small = [one for one in task.cells if one not in large]
        for cells, to in ((small, alone), (large, for_all)):
            if cells:
                to.append(replace(task, cells=tuple(cells)))
    return alone, for_all


def run_large(
    calls: Sequence[Call], cluster: Cluster | None, progress: Progress | None
) -> None:
    """Run calls here, one after the other, their trees grown on the cluster."""
    if cluster is None or not calls:
        return
    at: list[str] = []
    files: list[Path] = [file for call in calls for file in call.files]
    with counting(files, progress, "large cells", lambda: at), together(cluster):
        for call in calls:
            at[:] = call.names[:1]
            call.function(*call.arguments)


def together(cluster: Cluster) -> AbstractContextManager[None]:
    """Let trees be grown by all workers in the block."""
    from tllboost.cluster.boosting import ClusterGrower
    from tllboost.heads.boosting import grown_by

    return grown_by(ClusterGrower(cluster))


_SLOW = ("mlp", "random-forest", "xgboost")


@dataclass(frozen=True, eq=False)
class Task:
    """Cells that one worker runs on the same features."""

    vectorizer: str
    projection: str
    features: str
    seed: int
    cells: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, eq=False)
class _Job:
    """What a worker needs beside its task; vectors arrive as a memory map."""

    out: Path
    protocol: Protocol
    learned: Learned
    vectorize_s: float


def make_tasks(missing: dict[tuple[Cell, int], str]) -> list[Task]:
    """Put cells together that share features; the boosted ones share a matrix.

    Heads that take long are tasks of their own and come first: what is left for the
    end then takes little, and no worker waits long for another.
    """
    groups: dict[tuple[Any, ...], list[tuple[str, Cell]]] = {}
    for (cell, seed), cell_id in missing.items():
        slow = next((n for n, s in enumerate(_SLOW) if cell.head.startswith(s)), 9)
        key = (slow, seed, cell.vectorizer, cell.projection, cell.features)
        groups.setdefault(key, []).append((cell_id, cell))
    return [
        Task(vectorizer, projection, features, seed, tuple(groups[key]))
        for key in sorted(groups, key=lambda key: key[0])
        for _, seed, vectorizer, projection, features in [key]
    ]


def run_tasks(
    tasks: list[Task],
    data: GridData,
    protocol: Protocol,
    out: Path,
    *,
    learned: dict[tuple[str, str, int], Learned],
    tuned: dict[tuple[str, str, int], list[NDArray[np.float32]]],
    workers: int,
    progress: Callable[[int, int, str], None] | None,
    limits: Limits = NO_LIMITS,
    cluster: Cluster | None = None,
) -> None:
    """Run the tasks in worker processes; a worker that dies costs its cell only.

    Parameters
    ----------
    tasks : list of Task
    data : GridData
    protocol : Protocol
    out : Path
    learned : dict of (vectorizer, projection, seed) to Learned
    tuned : dict of (vectorizer, fine-tuning, seed) to list of ndarray
        Vectors of fine-tuned networks, an array a fold.
    workers : int
    progress : callable or None
    limits : Limits
        Of each cell.
    cluster : Cluster or None, default=None
        Whose workers work, in place of processes here.
    """
    alone, for_all = set_apart(tasks, data, protocol, cluster)
    calls = []
    for task in [*alone, *for_all]:
        vectors = data.vectors[task.vectorizer]
        found = _found(task, learned)
        job = _Job(out, protocol, found, vectors.seconds)
        splits = data.splits(protocol, task.seed)
        tuning = (task.vectorizer, parts_of(task.projection)[0], task.seed)
        bases = tuned.get(tuning, [vectors.array] * len(splits))
        files = [record_path(out, cell_id) for cell_id, _ in task.cells]
        for file in files:  # of a failure: a file says that its cell is done
            file.unlink(missing_ok=True)
        arguments = (task, job, splits, bases)
        names = [_name(cell, task.seed) for _, cell in task.cells]
        fail = partial(_fail, task, out)
        calls.append(Call(_run_task, arguments, files, fail, names))
    few, large = calls[: len(alone)], calls[len(alone) :]
    if cluster is not None:
        run_clustered(few, cluster, progress, "cells", out=out)
    else:
        run_parallel(few, workers, progress, "cells", out=out, limits=limits)
    run_large(large, cluster, progress)


def _run_task(
    task: Task,
    job: _Job,
    splits: list[Split],
    bases: list[NDArray[np.float32]],
) -> None:
    """Run the cells of one task, writing each as it ends."""
    try:
        bench = _bench(task, job, splits, bases)
    except Exception as error:
        for cell_id, cell in task.cells:
            if not record_path(job.out, cell_id).exists():
                write_record(job.out, failed(cell, task.seed, cell_id, one_line(error)))
        return
    for cell_id, cell in task.cells:
        if record_path(job.out, cell_id).exists():  # before the process was killed
            continue
        record: dict[str, Any] = {
            "id": cell_id,
            "cell": asdict(cell),
            "seed": task.seed,
            "status": "ok",
            "error": "",
            "vectorize_s": job.vectorize_s,
            "project_s": job.learned.seconds,
        }
        try:
            figures, (test, validation) = measure(bench, cell.head)
            record |= figures
            # A fold of the training set is not held out from its own projection.
            if job.protocol.name == "holidays2017" and cell.projection == NONE:
                record["best_of_folds"] = best_of_folds(bench, cell.head)
            write_scores(job.out, cell_id, test, validation)
        except Exception as error:  # a cell that fails is a row, never a lost run
            record = failed(cell, task.seed, cell_id, one_line(error))
        if cell.head == COSINE:
            record["n_features"] = 1
        write_record(job.out, record)
        release_memory()


def _name(cell: Cell, seed: int) -> str:
    return f"{cell.name}, seed {seed}"


def _fail(task: Task, out: Path, index: int, reason: str) -> None:
    """Write the record of a cell whose process is gone."""
    cell_id, cell = task.cells[index]
    write_record(out, failed(cell, task.seed, cell_id, reason))


def _bench(
    task: Task,
    job: _Job,
    splits: list[Split],
    bases: list[NDArray[np.float32]],
) -> Bench:
    splits = prepared_splits(splits, bases, job.protocol.n_hard)
    spaces = spaces_of(bases, job.learned)
    return Bench(spaces, splits, task.features, task.seed)


def _found(task: Task, learned: dict[tuple[str, str, int], Learned]) -> Learned:
    """Return what maps the vectors, its time with that of what it stands on."""
    tuning, rest = parts_of(task.projection)
    below = learned.get((task.vectorizer, tuning, task.seed), Learned(seconds=0.0))
    if rest == NONE:
        return Learned(seconds=below.seconds if tuning != NONE else float("nan"))
    own = learned[task.vectorizer, task.projection, task.seed]
    return replace(own, seconds=own.seconds + below.seconds)


def failed(cell: Cell, seed: int, cell_id: str, error: str) -> dict[str, Any]:
    """Return the record of a cell that came to nothing."""
    return {
        "id": cell_id,
        "cell": asdict(cell),
        "seed": seed,
        "status": "failed",
        "error": error,
    }
