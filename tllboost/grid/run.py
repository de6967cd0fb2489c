"""run_grid: the product of names on one table, resumable, a record a cell."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tllboost import __version__
from tllboost.errors import UsageError
from tllboost.grid.best import Packing, save_best, save_ensemble
from tllboost.grid.counting import Progress
from tllboost.grid.data import GridData, gather
from tllboost.grid.ensembles import add_ensemble, ensemble_cell
from tllboost.grid.files import write_outputs, write_splits, write_summary
from tllboost.grid.leaks import leak_notes, leak_report, tuning_notes
from tllboost.grid.lock import locked
from tllboost.grid.outputs import environment
from tllboost.grid.parallel import Limits
from tllboost.grid.plan import DEFAULT_HEADS, DEFAULT_MERGES, Cell, digest, plan_cells
from tllboost.grid.projecting import Learned, Learning, learn
from tllboost.grid.records import read_record, write_record
from tllboost.grid.result import GridResult
from tllboost.grid.settings import claim_folder, refuse_taken
from tllboost.grid.sides import write_sides
from tllboost.grid.suits import parts_of, suits
from tllboost.grid.summary import summarise
from tllboost.grid.tuning import tuned_vectors
from tllboost.grid.workers import failed, is_finished, make_tasks, run_tasks
from tllboost.metrics import METRICS
from tllboost.pair_table import PairTable
from tllboost.projections import NONE
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
    projections: Sequence[str] = (NONE,),
    *,
    named: Sequence[Mapping[str, str]] = (),
    aliases: Mapping[str, str] | None = None,
    ensemble: int = 0,
    out: str | os.PathLike[str],
    protocol: Protocol | None = None,
    seeds: Sequence[int] = (0,),
    metric: str | None = None,
    store: VectorStore | str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    device: str = "auto",
    offline: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    cell_timeout: float | None = None,
    cell_memory: float | None = None,
    strict: bool = False,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
    message: Message | None = None,
) -> GridResult:
    """Measure every (vectorizer, projection, merge, head) on a pair table.

    Each finished cell is written at once; a run that was stopped goes on where it was
    when it is started again with the same `out` and `resume`.

    Parameters
    ----------
    table : PairTable
        From :func:`~tllboost.read_pairs` or :func:`~tllboost.read_groups`.
    vectorizers : sequence of str or Vectorizer, default=("classic",)
    merges : sequence of str, default=all symmetric ones
    heads : sequence of str, default=all
        The cosine is always measured.
    projections : sequence of str, default=("none",)
        Learned maps, fitted inside each training side: see
        :func:`~tllboost.projections.make_projection`; or ``finetune``.
    named : sequence of mapping, default=()
        More cells, each with a name: "name", "vectorizer", "head", and "projection"
        and "merge" unless they are "none".
    aliases : mapping of str to str, or None
        Short names of vectorizers, that all tables show them under.
    ensemble : int, default=0
        Average the log-odds of that many cells, each seed's best on its own
        validation side, as one more row and one more bundle.
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
    resume : bool, default=False
        Go on with the run in `out`, if there is one; more cells or seeds may be asked.
    overwrite : bool, default=False
        Replace the run in `out`.
    cell_timeout : float or None, default=None
        Seconds that a cell of one seed, or a projection's fit, may take. One over it
        is a failed row, and the rest goes on.
    cell_memory : float or None, default=None
        Megabytes of resident memory that the process of a cell may have, libraries
        and mapped vectors included.
    strict : bool, default=False
        Stop at the first picture that fails, before anything is measured.
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
    ImageError
        If a picture fails and `strict` is set.
    UsageError
        If a name is wrong, or `out` holds a run and neither `resume` nor `overwrite`
        is given, or holds another run, or another grid writes into it just now.
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
    called = _Called(aliases or {}, device=device, offline=offline)
    labels = [called.label(choice) for choice in vectorizers]
    names = _names(called, named)
    made = called.made
    cells = plan_cells(
        labels,
        list(merges),
        list(heads),
        list(projections),
        suits=lambda label, projection: suits(made[label], projection),
        named=names,
    )
    if not 0 <= ensemble <= len(cells):
        msg = f"ensemble={ensemble} must be from 0 to {len(cells)}, the number of cells"
        raise UsageError(msg)
    out = Path(out)
    limits = Limits(cell_timeout, cell_memory)
    with locked(out):
        refuse_taken(out, resume=resume, overwrite=overwrite)
        data = gather(
            table,
            made,
            store=default_store() if store is None else store,
            progress=progress,
            strict=strict,
        )
        for vectors in data.vectors.values():
            say(
                f"{vectors.label}: {vectors.n_computed} vectors computed, "
                f"{vectors.n_reused} reused, {vectors.seconds:.1f} s"
            )
        for label, reason in data.unavailable.items():
            say(f"{label}: left out: {reason}")
        claim_folder(
            out,
            data=data.digest,
            protocol=asdict(protocol),
            settings={
                **(settings or {}),
                "vectorizer": [
                    v if isinstance(v, str) else v.spec for v in vectorizers
                ],
                "projection": list(projections),
                "merge": list(merges),
                "head": list(heads),
                "metric": metric,
            },
            overwrite=overwrite,
        )
        write_splits(out, data, protocol, seeds)
        write_sides(out, data, protocol, seeds)
        splits = {seed: data.split_digest(protocol, seed) for seed in seeds}
        ids = {
            (cell, seed): _cell_id(cell, seed, data, protocol, splits[seed])
            for cell in cells
            for seed in seeds
        }
        finished = {key for key, cell_id in ids.items() if is_finished(out, cell_id)}
        if finished:
            say(f"{len(finished)} of {len(ids)} cells are finished already")
        workers = n_jobs or os.cpu_count() or 1
        learner = partial(
            learn,
            data=data,
            protocol=protocol,
            out=out,
            made=made,
            workers=workers,
            device=device,
            progress=progress,
            limits=limits,
        )
        wanted = _learnings(cells, seeds, data, protocol, splits)
        learned = learner([one for one in wanted if _is_tuning(one)], tuned={})
        tuned = {
            key: tuned_vectors(
                made[key[0]], one.files, data, store=store, progress=progress
            )
            for key, one in learned.items()
            if not one.error
        }
        vectors_tuned = {key: arrays for key, (_, arrays) in tuned.items()}
        able = [one for one in wanted if not _is_tuning(one) and _stands(one, tuned)]
        learned |= learner(able, tuned=vectors_tuned)
        missing = {}
        for (cell, seed), cell_id in ids.items():
            reason = _reason(cell, seed, data, learned)
            if reason:
                write_record(out, failed(cell, seed, cell_id, reason))
            elif (cell, seed) not in finished:
                missing[cell, seed] = cell_id
        run_tasks(
            make_tasks(missing),
            data,
            protocol,
            out,
            learned=learned,
            tuned=vectors_tuned,
            workers=workers,
            progress=progress,
            limits=limits,
        )
        records = [
            read_record(out, cell_id)
            or failed(cell, seed, cell_id, "its process died (out of memory?)")
            for (cell, seed), cell_id in ids.items()
        ]
        if ensemble:
            cells = [*cells, ensemble_cell(ensemble)]
            records += add_ensemble(records, ensemble, metric, data, protocol, out)
        rows = summarise(
            cells, records, metric=metric, protocol=protocol.name, names=names
        )
        result = GridResult(
            out,
            rows,
            metric,
            failures={
                _where(table, i): why for i, why in sorted(data.failures.items())
            },
            n_run=len(missing),
            n_reused=len(finished),
            data=data.sizes(),
            leaks=leak_report(data, protocol, seeds),
        )
        write_outputs(result, records)
        result.notes += leak_notes(data.splits(protocol, seeds[0]), protocol)
        result.notes += tuning_notes(made, data, protocol, seeds)
        packing = Packing(data, made, protocol, seeds[0], learned, tuned)
        save_best(result, records, packing, metric=metric)
        save_ensemble(result, records, packing)
        write_summary(result, records)
        return result


def _metric(metric: str | None, protocol: Protocol) -> str:
    if metric is None:
        return "accuracy" if protocol.name == "holidays2017" else "top2"
    if metric not in METRICS:
        msg = f"unknown metric {metric!r}: known: {', '.join(METRICS)}"
        raise UsageError(msg)
    return metric


class _Called:
    """Vectorizers by the label that cells know them under, each made once."""

    def __init__(
        self, aliases: Mapping[str, str], *, device: str, offline: bool
    ) -> None:
        self.aliases = aliases
        self.options: dict[str, Any] = {"device": device, "offline": offline}
        self.made: dict[str, Any] = {}
        self._asked: dict[Any, str] = {}

    def label(self, choice: Any) -> str:
        """Return the label of a vectorizer: its alias, else its own."""
        known = choice if isinstance(choice, str) else id(choice)
        if known in self._asked:
            return self._asked[known]
        spec = self.aliases.get(choice, choice) if isinstance(choice, str) else choice
        vectorizer = make_vectorizer(spec, **self.options)
        label = choice if known in self.aliases else vectorizer.label
        if label in self.made:
            msg = f"two vectorizers are both called {label!r}: give one, or an alias"
            raise UsageError(msg)
        self.made[label] = vectorizer
        self._asked[known] = label
        return label

    def cell(self, named: Mapping[str, str]) -> Cell:
        """Return the cell that a named one stands for."""
        return Cell(
            self.label(named["vectorizer"]),
            named.get("projection", NONE),
            named.get("merge", NONE),
            named["head"],
        )


def _names(called: _Called, named: Sequence[Mapping[str, str]]) -> dict[Cell, str]:
    """Return the cells that have a name, and their names."""
    names: dict[Cell, str] = {}
    for one in named:
        cell = called.cell(one)
        if cell in names:
            msg = f"cells {names[cell]!r} and {one['name']!r} are one: {cell.name}"
            raise UsageError(msg)
        names[cell] = one["name"]
    return names


def _learnings(
    cells: Sequence[Cell],
    seeds: Sequence[int],
    data: GridData,
    protocol: Protocol,
    splits: Mapping[int, str],
) -> list[Learning]:
    """Return what is to be fitted, each once for all that stands on top of it."""
    wanted: dict[tuple[str, str, str], None] = {}
    for cell in cells:
        tuning, rest = parts_of(cell.projection)
        if cell.vectorizer in data.vectors:
            if tuning != NONE:
                wanted[cell.vectorizer, NONE, tuning] = None
            if rest != NONE:
                wanted[cell.vectorizer, tuning, rest] = None
    return [
        Learning(
            *one,
            seed,
            digest(
                *_known(data, one[0], protocol, splits[seed]),
                one[2],
                seed,
                *([] if one[1] == NONE else [one[1]]),
            ),
        )
        for one in wanted
        for seed in seeds
    ]


def _is_tuning(one: Learning) -> bool:
    return parts_of(one.projection)[0] != NONE


def _stands(one: Learning, tuned: Mapping[Any, Any]) -> bool:
    """Tell whether what a projection is fitted on is there."""
    return one.tuning == NONE or (one.vectorizer, one.tuning, one.seed) in tuned


def _reason(
    cell: Cell, seed: int, data: GridData, learned: Mapping[Any, Learned]
) -> str:
    """Return why a cell can't be run, or nothing."""
    if cell.vectorizer in data.unavailable:
        return data.unavailable[cell.vectorizer]
    for projection in (parts_of(cell.projection)[0], cell.projection):
        found = learned.get((cell.vectorizer, projection, seed))
        if found is not None and found.error:
            return found.error
    return ""


def _cell_id(
    cell: Cell, seed: int, data: GridData, protocol: Protocol, split: str
) -> str:
    """Hash all that could change a cell's figures."""
    if cell.vectorizer in data.unavailable:
        return digest(asdict(cell), asdict(protocol), seed, data.digest, split)
    return digest(*_known(data, cell.vectorizer, protocol, split), asdict(cell), seed)


def _known(
    data: GridData, vectorizer: str, protocol: Protocol, split: str
) -> tuple[Any, ...]:
    """Return what all cells of a vectorizer hang on."""
    versions = environment()["versions"]
    used = ("numpy", "scikit-learn", "xgboost", "torch")
    return (
        __version__,
        {name: versions.get(name) for name in used},
        asdict(protocol),
        data.vectors[vectorizer].space,
        data.digest,
        split,
    )


def _where(table: PairTable, index: int) -> str:
    return str(table.paths[index] or table.ids[index])
