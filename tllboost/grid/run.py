"""run_grid: the product of names on one table, resumable, a record a cell."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from tllboost.conventions import environment
from tllboost.errors import MissingLibraryError, UsageError
from tllboost.files import write_json, write_text
from tllboost.grid.best import add_ensemble, ensemble_cell, save_bundles
from tllboost.grid.cells import DEFAULT_HEADS, DEFAULT_MERGES, RECIPES, make_plan
from tllboost.grid.data import Grid, gather, leak_report, notes_on
from tllboost.grid.matrix import FORMATS, matrix_text
from tllboost.grid.outputs import (
    RESULT_COLUMNS,
    GridResult,
    claim_folder,
    locked,
    refuse_taken,
    write_csv,
)
from tllboost.grid.records import (
    cell_ids,
    read_record,
    read_scores,
    write_record,
    write_splits,
)
from tllboost.grid.summary import headline, summarise
from tllboost.grid.work import cell_jobs, failed, learn_all
from tllboost.heads import HEADS
from tllboost.merges import MERGES
from tllboost.metrics import check_metric
from tllboost.pairs import PairTable, read_pairs
from tllboost.processes import Backend, Processes, Progress, sharing
from tllboost.projections import NONE, PROJECTIONS, make_projection
from tllboost.registry import spread_sets
from tllboost.splits import Protocol
from tllboost.store import VectorStore
from tllboost.vectorizers import DEFAULT_VECTORIZERS, VECTORIZERS

__all__ = ["GridResult", "run_grid"]

Message = Callable[[str], None]
Record = dict[str, Any]


def run_grid(
    table: PairTable | Any,
    vectorizers: Sequence[Any] = DEFAULT_VECTORIZERS,
    merges: Sequence[Any] = DEFAULT_MERGES,
    heads: Sequence[Any] = DEFAULT_HEADS,
    projections: Sequence[Any] = (NONE,),
    *,
    named: Sequence[Mapping[str, str]] = (),
    aliases: Mapping[str, str] | None = None,
    ensemble: int = 0,
    refit: bool = True,
    out: str | os.PathLike[str],
    protocol: Protocol | str | None = None,
    seeds: Sequence[int] = (0,),
    metric: str | None = None,
    store: VectorStore | str | os.PathLike[str] | None = None,
    backend: Backend | None = None,
    device: str = "auto",
    offline: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
    message: Message | None = None,
) -> GridResult:
    """Measure every combination of vectorizer, projection, merge and head on pairs.

    Each finished cell is written at once. To go on with a run that was stopped, call it
    again with the same `out` and `resume`.

    Parameters
    ----------
    table : PairTable or pandas.DataFrame
        From :func:`~tllboost.read_pairs` or :func:`~tllboost.read_groups`; or a frame
        with the columns of a pair table, whose `left` and `right` are paths of images.
    vectorizers : sequence of str or Vectorizer, default=("classic", "pocket")
        In a name of a vectorizer, head or projection, a set in braces stands for one
        name with each of its values: ``"xgboost?max_depth={2,4}"``.
    merges : sequence of str or function, default=all symmetric ones
    heads : sequence of str or estimator, default=all
        The cosine is always measured. Default heads whose libraries are not installed
        are left out, with one message. An estimator such as
        ``XGBClassifier(max_depth=3)`` is written to ``run.toml`` as the path of its
        class, with its arguments as options, and made from that in other processes. A
        pipeline, or an estimator with arguments other than numbers and text, must be in
        a module: ``package.module:name``. ``random_state`` is the seed of the grid.
    projections : sequence of str or Projection, default=("none",)
        Learned maps, fitted inside each training set: see
        :func:`~tllboost.projections.make_projection`; or ``finetune``.
    named : sequence of mapping, default=()
        More cells, each with a name: "name", "vectorizer", "head", and "projection"
        and "merge" unless they are "none".
    aliases : mapping of str to str, or None
        Short names of vectorizers for all tables.
    ensemble : int, default=0
        Add a row and a bundle with the mean log-odds of up to that many cells, those
        that are best together on each seed's own validation set: see
        :func:`~tllboost.grid.best.select_members`.
    refit : bool, default=True
        Fit the cells of bundles again on all pairs, those for validation and test too,
        with what validation chose. All figures come from the models before that.
    out : path-like
        Folder for the results.
    protocol : str or Protocol or None, default=None
        A name such as "kfold" (see :data:`~tllboost.protocols.PROTOCOLS`), or a
        `Protocol`. None takes the table's own split if it has one, else "holdout".
    seeds : sequence of int, default=(0,)
        Each 0 or more. Each seed gives another split; rows have the means.
    metric : str or None, default=None
        The metric of the matrix, of gains and of ties. None takes "top2" ("accuracy"
        for "holidays2017", which has no ranking). Validation always chooses by the
        mean reciprocal rank.
    store : VectorStore, path-like or None, default=None
        None takes :func:`~tllboost.store.default_store` as a cache: if it can't be
        used, a warning says so, and vectors are not kept.
    backend : Processes or Cluster or None, default=None
        What runs the work: :class:`~tllboost.processes.Processes` of this machine, or
        a :class:`~tllboost.cluster.Cluster` of Dask workers. Processes can limit the
        time and memory of each cell; a cell over a limit fails, and the others go on.
        None takes one process for each core.
    device : str, default="auto"
    offline : bool, default=False
        Never ask a hub for weights.
    resume : bool, default=False
        Go on with the run in `out`, if there is one; more cells or seeds may be added.
    overwrite : bool, default=False
        Replace the run in `out`.
    strict : bool, default=False
        Stop at the first image that fails, before anything is measured.
    settings : dict or None, default=None
        More entries for ``run.toml``.
    progress : callable or None
        Called with (done, total, what).
    message : callable or None
        Called with one line at a time.

    Returns
    -------
    GridResult
        Shown as its matrix in a notebook; `to_frame` gives all rows.

    Raises
    ------
    ImageError
        If an image fails and `strict` is set.
    MissingLibraryError
        If a name, other than by default, needs a library that is not installed.
    UsageError
        If a name is wrong; if `out` holds a run and neither `resume` nor `overwrite` is
        given; if it holds another run; or if another grid is writing into it.
    DataError
        If the table has too little to split.

    Examples
    --------
    >>> import tempfile
    >>> from tllboost.pairs import read_pairs
    >>> from tllboost.demo import make_scenes
    >>> folder = Path(tempfile.mkdtemp())
    >>> pairs = make_scenes(folder / "images", n_scenes=40, n_views=2)
    >>> table = read_pairs(pairs, images=pairs.parent)
    >>> result = run_grid(
    ...     table, heads=["cosine"], out=folder / "out", store=folder / "store"
    ... )
    >>> [(row["head"], row["status"]) for row in result.rows]
    [('cosine', 'ok'), ('cosine', 'ok')]
    """
    say = message or (lambda _line: None)
    if not isinstance(table, PairTable):
        is_own = hasattr(table, "to_csv")  # a file may be a stranger's
        table = read_pairs(table, images=".", anywhere=is_own)
    protocol = protocol or ("holdout" if table.split is None else "given")
    if isinstance(protocol, str):
        protocol = Protocol(protocol)
    metric = metric or ("accuracy" if protocol.name == "holidays2017" else "top2")
    check_metric(metric)
    seeds = [int(seed) for seed in seeds]
    if min(seeds, default=-1) < 0:
        msg = f"seeds={seeds} must be one or more whole numbers of 0 or more"
        raise UsageError(msg)
    merges = list(map(MERGES.name_of, merges))
    heads = spread_sets(map(HEADS.name_of, heads))
    projections = spread_sets(
        one if isinstance(one, str) else getattr(make_projection(one), "spec", NONE)
        for one in projections
    )
    vectorizers = spread_sets(vectorizers)
    # What is taken because nobody named any need not be there.
    lacking: dict[Any, str] = {}
    for names, kind, default, known in (
        (vectorizers, "vectorizer", DEFAULT_VECTORIZERS, VECTORIZERS),
        (projections, "projection", (NONE,), PROJECTIONS),
        (heads, "head", DEFAULT_HEADS, HEADS),
    ):
        usual = [default, *(tuple(one[kind]) for one in RECIPES.values())]
        for name in names if tuple(names) in usual else ():
            try:
                for part in name.split("+") if name != NONE else ():
                    known.resolve(part)
            except MissingLibraryError as error:
                lacking[name] = str(error)
    if lacking:
        say(f"left out: {'; '.join(dict.fromkeys(lacking.values()))}")
        vectorizers, projections, heads = (
            [one for one in names if one not in lacking]
            for names in (vectorizers, projections, heads)
        )
    plan = make_plan(
        *(vectorizers, merges, heads, projections),
        named=named,
        aliases=aliases or {},
        device=device,
        offline=offline,
    )
    if not 0 <= ensemble <= len(plan.cells):
        msg = (
            f"ensemble={ensemble} must be from 0 to {len(plan.cells)}, the number of "
            "cells"
        )
        raise UsageError(msg)
    asked = {
        "vectorizer": [v if isinstance(v, str) else v.spec for v in vectorizers],
        "projection": projections,
        "merge": merges,
        "head": heads,
        "metric": metric,
    }
    out = Path(out)
    store = VectorStore() if store is None else store
    backend = backend or Processes()
    who: dict[str, Any] = {"store": store, "backend": backend, "progress": progress}
    with locked(out), sharing(out, hold=True) as hold:
        refuse_taken(out, resume=resume, overwrite=overwrite)
        data = gather(table, plan.made, protocol, strict=strict, **who)
        for label, one in data.vectors.items():
            if isinstance(backend, Processes):  # a cluster sends them
                one.vectors = hold(one.vectors)
            say(
                f"{label}: {one.n_computed} vectors computed, {one.n_reused} reused, "
                f"{one.seconds:.1f} s"
            )
        for label, reason in data.unavailable.items():
            say(f"{label}: left out: {reason}")
        own = {"data": data.digest, "protocol": asdict(protocol)}
        claim_folder(out, (settings or {}) | asked, overwrite=overwrite, **own)
        grid = Grid(out, plan, seeds, metric, data, device=device, refit=refit, **who)
        write_splits(grid)
        records, counts = _measure(grid, say)
        if ensemble:
            plan.cells.append(ensemble_cell(ensemble))
            records += add_ensemble(records, ensemble, grid)
        return _write_results(grid, records, counts)


def _measure(grid: Grid, say: Message) -> tuple[list[Record], tuple[int, int]]:
    """Run the cells that no earlier run has finished.

    Returns the records of all, and how many were run and found finished.
    """
    out, ids = grid.out, cell_ids(grid)
    # A failed cell is tried again. One that an earlier version measured without some
    # other metric is kept: its figures hold, and what it lacks shows as missing.
    finished = {}
    for key, cell_id in ids.items():
        record = read_record(out, cell_id)
        is_ok = record is not None and grid.metric in record.get("figures", ())
        if is_ok and read_scores(out, cell_id) is not None:
            finished[key] = record
    if finished:
        say(f"{len(finished)} of {len(ids)} cells are finished already")
    learn_all(grid)
    missing = {}
    for (cell, seed), cell_id in ids.items():
        reason = grid.learned[cell.vectorizer, cell.projection, seed].error
        if reason:
            write_record(out, failed(cell, seed, cell_id, reason))
        elif (cell, seed) not in finished:
            missing[cell, seed] = cell_id
    grid.backend.run(cell_jobs(missing, grid), out, "cells", grid.progress)
    records = [
        read_record(out, cell_id)
        or failed(cell, seed, cell_id, "its process died (out of memory?)")
        for (cell, seed), cell_id in ids.items()
    ]
    return records, (len(missing), len(finished))


def _write_results(
    grid: Grid, records: list[Record], counts: tuple[int, int]
) -> GridResult:
    """Write what records come to: tables, bundles, and what people should know."""
    out, data, table, metric = grid.out, grid.data, grid.data.table, grid.metric
    rows = summarise(
        grid.plan.cells,
        records,
        metric=metric,
        protocol=data.protocol.name,
        names=grid.plan.names,
    )
    failures = {
        str(table.paths[i] or table.ids[i]): why
        for i, why in sorted(data.failures.items())
    }
    columns = [[row.get(name) for name in RESULT_COLUMNS] for row in rows]
    write_csv(out / "results.csv", RESULT_COLUMNS, columns)
    for form in FORMATS:
        write_text(out / f"matrix.{form}", matrix_text(rows, metric, form))
    today = {"date": date.today().isoformat()}
    write_json(out / "environment.json", today | environment(), indent=2)
    cells = [
        ("cell", " × ".join(r["cell"].values()) + f", seed {r['seed']}", r["error"])
        for r in records
        if r["status"] != "ok"
    ]
    images = [("image", path, why) for path, why in failures.items()]
    write_csv(out / "failures.csv", ("what", "where", "why"), [*images, *cells])
    used = np.union1d(table.left, table.right)
    chosen, gave, lost = save_bundles(rows, records, grid)
    result = GridResult(
        out,
        rows,
        metric,
        chosen,
        gave,
        failures,
        *counts,
        notes=[
            *notes_on(grid, records),
            *lost,
            *headline(rows, records, chosen, gave, metric),
        ],
        data={
            "pairs": table.n_pairs,
            "matches": int(np.count_nonzero(table.label == 1)),
            "images": len(used),
            "components": len(np.unique(data.component[used])),
            "pairs left out": data.n_dropped,
        },
        leaks=leak_report(grid),
        exit_code=4 if images or any(row["status"] != "ok" for row in rows) else 0,
    )
    write_json(
        out / "summary.json",
        {
            "metric": metric,
            "protocol": data.protocol.name,
            "choosing_gave": gave,
            "chosen_on_validation": chosen,
            "lines": result.notes,
            "data": result.data,
            "leaks": result.leaks,
            "cells": [record["id"] for record in records],
        },
        indent=2,
    )
    return result
