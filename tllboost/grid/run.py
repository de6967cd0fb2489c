"""run_grid: the product of names on one table, resumable, a record a cell."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tllboost import __version__
from tllboost.errors import UsageError
from tllboost.grid.best import save_best
from tllboost.grid.counting import Progress, counting
from tllboost.grid.data import GridData, gather
from tllboost.grid.files import leak_notes, write_outputs, write_splits, write_summary
from tllboost.grid.outputs import environment
from tllboost.grid.plan import DEFAULT_HEADS, DEFAULT_MERGES, Cell, digest, plan_cells
from tllboost.grid.records import read_record
from tllboost.grid.result import GridResult
from tllboost.grid.settings import claim_folder
from tllboost.grid.summary import summarise
from tllboost.grid.workers import is_finished, lost, make_tasks, run_tasks
from tllboost.metrics import METRICS
from tllboost.pair_table import PairTable
from tllboost.splits import Protocol
from tllboost.store import VectorStore, default_store
from tllboost.vectorizers import make_vectorizer

__all__ = ["GridResult", "run_grid"]

Message = Callable[[str], None]


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
    if not seeds:
        msg = "seeds is empty: a grid needs at least one"
        raise UsageError(msg)
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
    write_splits(out, data, protocol, seeds)
    finished = {key for key, cell_id in ids.items() if is_finished(out, cell_id)}
    if finished:
        say(f"{len(finished)} of {len(ids)} cells are finished already")
    missing = {key: cell_id for key, cell_id in ids.items() if key not in finished}
    workers = n_jobs or os.cpu_count() or 1
    with counting(out, missing.values(), progress):
        run_tasks(make_tasks(missing), data, protocol, out, workers)
    records = [
        read_record(out, cell_id) or lost(cell, seed, cell_id)
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
    write_outputs(result, records)
    result.notes += leak_notes(data.splits(protocol, seeds[0]), protocol)
    save_best(result, data, made, protocol, seeds[0], metric=metric)
    write_summary(result, records)
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


def _where(table: PairTable, index: int) -> str:
    return str(table.paths[index] or table.ids[index])
