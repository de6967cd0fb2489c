"""run_grid: the product of names on one table, resumable, a record a cell."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost import __version__
from tllboost.errors import TllboostError, UsageError
from tllboost.grid.best import save_best
from tllboost.grid.data import GridData, gather
from tllboost.grid.matrix import write_matrix
from tllboost.grid.measure import Bench, best_of_folds, measure
from tllboost.grid.outputs import environment, write_csv, write_json, write_results
from tllboost.grid.plan import (
    COSINE,
    DEFAULT_HEADS,
    DEFAULT_MERGES,
    Cell,
    digest,
    plan_cells,
)
from tllboost.grid.records import read_record, record_path, write_record
from tllboost.grid.settings import claim_folder
from tllboost.grid.summary import summarise
from tllboost.metrics import METRICS
from tllboost.pair_table import PairTable
from tllboost.splits import Protocol, Split
from tllboost.store import VectorStore, default_store
from tllboost.vectorizers import make_vectorizer

__all__ = ["GridResult", "run_grid"]

Progress = Callable[[int, int, str], None]
Message = Callable[[str], None]


@dataclass(eq=False)
class GridResult:
    """What a grid came to.

    Attributes
    ----------
    out : Path
        Folder of all files.
    rows : list of dict
        A row a cell, the columns of ``results.csv``.
    metric : str
        What the matrix shows.
    chosen : dict or None
        The row that validation chose and ``best.tllb`` holds.
    failures : dict of str to str
        Pictures left out, and why.
    n_run, n_reused : int
        Cells and seeds fitted now, and found finished.
    notes : list of str
        What the user should know.
    """

    out: Path
    rows: list[dict[str, Any]]
    metric: str
    chosen: dict[str, Any] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    n_run: int = 0
    n_reused: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """4 where a picture or a cell failed, else 0."""
        failed = any(row["status"] != "ok" for row in self.rows)
        return 4 if failed or self.failures else 0


@dataclass(frozen=True, eq=False)
class _Task:
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


def run_grid(
    table: PairTable,
    vectorizers: Sequence[Any] = ("classic",),
    merges: Sequence[str] = DEFAULT_MERGES,
    heads: Sequence[str] = DEFAULT_HEADS,
    *,
    out: str | os.PathLike[str],
    protocol: Protocol | None = None,
    seeds: Sequence[int] = (0,),
    metric: str | None = None,
    store: VectorStore | str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    device: str = "auto",
    offline: bool = False,
    overwrite: bool = False,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
    message: Message | None = None,
) -> GridResult:
    """Measure every (vectorizer, merge, head) on a pair table.

    Each finished cell is written at once; a run that was stopped goes on where it was
    when it is started again with the same `out`.

    Parameters
    ----------
    table : PairTable
        From :func:`~tllboost.read_pairs` or :func:`~tllboost.read_groups`.
    vectorizers : sequence of str or Vectorizer, default=("classic",)
    merges : sequence of str, default=all symmetric ones
    heads : sequence of str, default=all
        The cosine is always measured.
    out : path-like
        Folder for the results.
    protocol : Protocol or None, default=None
        None takes the table's own split where it has one, else the hold-out protocol.
    seeds : sequence of int, default=(0,)
        Each seed is another split; rows average them.
    metric : str or None, default=None
        What the matrix shows and validation chooses by; None takes "top2" ("accuracy"
        under "holidays2017", which has no ranking).
    store : VectorStore, path-like or None, default=None
        None takes :func:`~tllboost.store.default_store`.
    n_jobs : int or None, default=None
        Worker processes; None takes one a core.
    device : str, default="auto"
    offline : bool, default=False
        Never ask a hub for weights.
    overwrite : bool, default=False
        Replace another run's results in `out`.
    settings : dict or None, default=None
        What ``run.toml`` shall hold beside the above.
    progress : callable or None
        Called with (done, total, what).
    message : callable or None
        Called with one line at a time.

    Returns
    -------
    GridResult

    Raises
    ------
    UsageError
        If a name is wrong, or `out` holds another run.
    DataError
        If the table has too little to split.

    Examples
    --------
    >>> import tempfile
    >>> from tllboost.pairs import read_pairs
    >>> from tllboost.scenes import make_scenes
    >>> folder = Path(tempfile.mkdtemp())
    >>> pairs = make_scenes(folder / "pictures", n_scenes=40, n_views=2)
    >>> table = read_pairs(pairs, images=pairs.parent)
    >>> result = run_grid(
    ...     table, heads=["cosine"], out=folder / "out", store=folder / "store"
    ... )
    >>> [(row["head"], row["status"]) for row in result.rows]
    [('cosine', 'ok')]
    """
    say = message or (lambda _line: None)
    protocol = protocol or Protocol("holdout" if table.split is None else "given")
    metric = _metric(metric, protocol)
    made = [make_vectorizer(v, device=device, offline=offline) for v in vectorizers]
    cells = plan_cells([v.label for v in made], list(merges), list(heads))
    out = Path(out)
    data = gather(
        table,
        made,
        store=default_store() if store is None else store,
        progress=progress,
    )
    for vectors in data.vectors.values():
        say(
            f"{vectors.label}: {vectors.n_computed} vectors computed, "
            f"{vectors.n_reused} reused, {vectors.seconds:.1f} s"
        )
    claim_folder(
        out,
        data=data.digest,
        protocol=asdict(protocol),
        settings={
            **(settings or {}),
            "vectorizer": [v if isinstance(v, str) else v.spec for v in vectorizers],
            "merge": list(merges),
            "head": list(heads),
            "metric": metric,
        },
        overwrite=overwrite,
    )
    splits = {seed: data.split_digest(protocol, seed) for seed in seeds}
    ids = {
        (cell, seed): _cell_id(cell, seed, data, protocol, splits[seed])
        for cell in cells
        for seed in seeds
    }
    _write_splits(out, data, protocol, seeds)
    finished = {key for key, cell_id in ids.items() if _is_finished(out, cell_id)}
    if finished:
        say(f"{len(finished)} of {len(ids)} cells are finished already")
    missing = {key: cell_id for key, cell_id in ids.items() if key not in finished}
    workers = n_jobs or os.cpu_count() or 1
    with _counting(out, missing.values(), progress):
        _run_tasks(_tasks(missing), data, protocol, out, workers)
    records = [
        read_record(out, cell_id) or _lost(cell, seed, cell_id)
        for (cell, seed), cell_id in ids.items()
    ]
    rows = summarise(cells, records, metric=metric, protocol=protocol.name)
    result = GridResult(
        out,
        rows,
        metric,
        failures={_where(table, i): why for i, why in sorted(data.failures.items())},
        n_run=len(missing),
        n_reused=len(finished),
    )
    _write_outputs(result, records)
    result.notes += _leak_notes(data.splits(protocol, seeds[0]), protocol)
    save_best(result, data, made, protocol, seeds[0], metric=metric)
    _write_summary(result, records)
    return result


def _metric(metric: str | None, protocol: Protocol) -> str:
    if metric is None:
        return "accuracy" if protocol.name == "holidays2017" else "top2"
    if metric not in METRICS:
        msg = f"unknown metric {metric!r}: known: {', '.join(METRICS)}"
        raise UsageError(msg)
    return metric


def _cell_id(
    cell: Cell, seed: int, data: GridData, protocol: Protocol, split: str
) -> str:
    """Hash all that could change a cell's figures."""
    versions = environment()["versions"]
    used = {name: versions.get(name) for name in ("numpy", "scikit-learn", "xgboost")}
    space = data.vectors[cell.vectorizer].space
    known = (__version__, used, asdict(cell), asdict(protocol), seed)
    return digest(*known, space, data.digest, split)


def _is_finished(out: Path, cell_id: str) -> bool:
    record = read_record(out, cell_id)
    return record is not None and record["status"] == "ok"


def _tasks(missing: dict[tuple[Cell, int], str]) -> list[_Task]:
    """Put cells together that share features; the boosted ones share a matrix."""
    groups: dict[tuple[Any, ...], list[tuple[str, Cell]]] = {}
    for (cell, seed), cell_id in missing.items():
        boosted = cell.head.startswith("xgboost")
        key = (seed, cell.vectorizer, cell.merge, boosted)
        groups.setdefault(key, []).append((cell_id, cell))
    return [
        _Task(vectorizer, merge, seed, tuple(cells))
        for (seed, vectorizer, merge, _), cells in groups.items()
    ]


def _run_tasks(
    tasks: list[_Task], data: GridData, protocol: Protocol, out: Path, workers: int
) -> None:
    """Run the tasks in worker processes; a worker that dies costs its cells only."""
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    job = _Job(out, protocol, 0.0)
    calls = [
        delayed(_run_task)(
            task,
            replace(job, vectorize_s=data.vectors[task.vectorizer].seconds),
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


def _run_alone(calls: list[Any], tasks: list[_Task], out: Path) -> None:
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
    task: _Task, job: _Job, vectors: NDArray[np.float32], splits: list[Split]
) -> None:
    """Run the cells of one task, writing each as it ends."""
    merge = "dot" if task.merge == "none" else task.merge
    bench = Bench(vectors, splits, merge, task.seed)
    for cell_id, cell in task.cells:
        if _is_finished(job.out, cell_id):
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


def _lost(cell: Cell, seed: int, cell_id: str) -> dict[str, Any]:
    """Return the record of a cell whose process died."""
    return {
        "id": cell_id,
        "cell": asdict(cell),
        "seed": seed,
        "status": "failed",
        "error": "its process died (out of memory?)",
    }


@contextmanager
def _counting(
    out: Path, cell_ids: Any, progress: Progress | None, every_s: float = 0.5
) -> Iterator[None]:
    """Tell how many of the cells have a record, while they run."""
    ids = list(cell_ids)
    if progress is None or not ids:
        yield
        return
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every_s):
            progress(sum(_is_there(out, i) for i in ids), len(ids), "cells")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        progress(sum(_is_there(out, i) for i in ids), len(ids), "cells")


def _is_there(out: Path, cell_id: str) -> bool:
    return record_path(out, cell_id).exists()


def _leak_notes(splits: list[Split], protocol: Protocol) -> list[str]:
    """Say how much of a test side training has seen; ours never has."""
    seen = total = 0
    for split in splits:
        known = np.union1d(split.train.left, split.train.right)
        left, right = np.isin(split.test.left, known), np.isin(split.test.right, known)
        seen += int(np.count_nonzero(left | right))
        total += len(split.test)
    if not seen:
        return []
    return [
        f"protocol {protocol.name} leaks: {100 * seen / total:.1f} % of its test pairs "
        "share an image with training; don't compare its figures with other protocols'"
    ]


def _where(table: PairTable, index: int) -> str:
    return str(table.paths[index] or table.ids[index])


def _write_splits(
    out: Path, data: GridData, protocol: Protocol, seeds: Sequence[int]
) -> None:
    """Write where each pair went, as a pair table that protocol "given" reads."""
    table = data.table
    rows = [
        (table.ids[a], table.ids[b], int(label), side, seed, fold)
        for seed in seeds
        for fold, split in enumerate(data.splits(protocol, seed))
        for a, b, label, side in zip(
            table.left, table.right, table.label, split.side, strict=True
        )
    ]
    header = ("left", "right", "label", "split", "seed", "fold")
    write_csv(out / "splits.csv", header, rows)


def _write_outputs(result: GridResult, records: list[dict[str, Any]]) -> None:
    out = result.out
    write_results(out / "results.csv", result.rows)
    write_matrix(out / "matrix.csv", result.rows, result.metric)
    write_json(out / "environment.json", environment())
    cells = [
        ("cell", Cell(**r["cell"]).name + f", seed {r['seed']}", r["error"])
        for r in records
        if r["status"] != "ok"
    ]
    pictures = [("picture", path, why) for path, why in result.failures.items()]
    write_csv(out / "failures.csv", ("what", "where", "why"), [*pictures, *cells])


def _write_summary(result: GridResult, records: list[dict[str, Any]]) -> None:
    from tllboost.grid.headline import headline

    result.notes += headline(result.rows, records, result.chosen, result.metric)
    write_json(
        result.out / "summary.json",
        {
            "metric": result.metric,
            "protocol": result.rows[0]["protocol"],
            "chosen_on_validation": result.chosen,
            "lines": result.notes,
            "cells": [record["id"] for record in records],
        },
    )
