"""What a grid has done by workers: projections and fine-tuned networks, then cells.

Networks are fine-tuned first, images are vectorized with them, then projections are
fitted on those vectors or on the frozen ones, once a seed and fold for all heads. What
is fitted lies in the folder ``projections`` of the results, and a run that goes on
finds it there. Each cell is written as it ends.
"""

from __future__ import annotations

import json
import time
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from tllboost.conventions import noted
from tllboost.errors import TllboostError
from tllboost.files import write_bytes, write_json
from tllboost.grid.cells import (
    COSINE,
    Cell,
    digest,
    parts_of,
    trainable,
    tuning_settings,
)
from tllboost.grid.data import Grid, Key, Learned
from tllboost.grid.measure import Bench, best_of_folds, measure, one_thread
from tllboost.grid.records import known, record_path, write_record, write_scores
from tllboost.merges import SIMILARITY, Width
from tllboost.processes import Job, release_memory
from tllboost.projections import NONE, make_projection
from tllboost.scoring import similarity_names
from tllboost.splits import Protocol, Split
from tllboost.splits.negatives import harden
from tllboost.vectorizers import FusionVectorizer
from tllboost.vectorizing import space_of, vectorize

Floats = NDArray[np.float32]

_SLOW = ("mlp", "random-forest", "xgboost", "logistic", "linear-svm")


def learn_all(grid: Grid) -> None:
    """Fit what no earlier run has fitted; a failure is told, never a lost run."""
    data, out = grid.data, grid.out
    # What to fit, and the fine-tuning that it stands on.
    first: dict[Key, str] = {}
    second: dict[Key, str] = {}
    for cell, seed in product(grid.plan.cells, grid.seeds):
        vectorizer, projection = cell.vectorizer, cell.projection
        tuning, rest = parts_of(projection)
        why = data.unavailable.get(vectorizer, "")
        grid.learned[vectorizer, NONE, seed] = Learned(error=why)
        if tuning != NONE:
            first[vectorizer, tuning, seed] = NONE
        if rest != NONE:
            second[vectorizer, projection, seed] = tuning
    for stage in filter(None, (first, second)):
        jobs: dict[str, Job] = {}
        names: dict[Key, list[str]] = {}
        network: tuple[Any, ...]
        for key, below in stage.items():
            vectorizer, projection, seed = key
            if grid.learned[vectorizer, below, seed].error:
                continue
            kind = projection.removeprefix(f"{below}/")
            split, splits = data.split_digest(seed), data.splits(seed)
            stands_on = [] if below == NONE else [below]
            space, network = data.spaces[vectorizer], ()
            folds: list[list[int]] = [[]]
            if stage is first:
                space = _trained(grid, vectorizer)
                network = trainable(grid.plan.made[vectorizer]), data.table.paths
            elif n_folds := getattr(make_projection(kind), "folds", 0):
                # What is fitted a fold at a time is as many jobs, side by side.
                folds = [[fold] for fold in range(n_folds)]
            # Vectorizers of two names may be the same: what is learned of them is, too.
            parts = (*known(data, space, split), kind, seed, *stands_on)
            names[key] = [digest(*parts, *only) for only in folds]
            bases, n_hard = grid.bases(vectorizer, below, seed), data.protocol.n_hard
            widths = data.vectors[vectorizer].widths
            for number, (only, name) in enumerate(zip(folds, names[key], strict=True)):
                if name in jobs or not _outcome(out, name, len(splits)).error:
                    continue
                record, _ = _paths(out, name, len(splits))
                record.unlink(missing_ok=True)  # what failed is tried again
                said = None
                if grid.earlier:  # of the first split
                    of = grid.earlier[key].said
                    said = of[:: len(of) // len(folds)][number : number + 1]
                how = bases, splits, n_hard, widths, only, said
                told = f"{vectorizer} × {projection}, seed {seed}"
                jobs[name] = Job(
                    _learn,
                    (name, kind, seed, grid.device, *how, *network),
                    [record],
                    names=[told + "".join(f", fold {fold + 1}" for fold in only)],
                    fail=partial(_tell, record),
                )
        grid.backend.run([*jobs.values()], out, "projections", grid.progress)
        for key, below in stage.items():
            vectorizer, _, seed = key
            learned = grid.learned[vectorizer, below, seed]
            if key in names:
                n = len(data.splits(seed))
                fits = [_outcome(out, name, n) for name in names[key]]
                learned = Learned(
                    tuple(chain.from_iterable(one.files for one in fits)),
                    learned.seconds + sum(one.seconds for one in fits),
                    next((one.error for one in fits if one.error), ""),
                    [*chain.from_iterable(one.said for one in fits)],
                )
            grid.learned[key] = learned
            if stage is first and not learned.error:
                grid.tuned[key] = _tuned(grid, vectorizer, learned.files)


def _tuned(
    grid: Grid, label: str, files: Sequence[Path]
) -> tuple[list[Any], list[Floats]]:
    """Return the fine-tuned vectorizer of each fold, and the vectors of all images."""
    from sklearn.base import clone

    table = grid.data.table
    how = {name: getattr(grid, name) for name in ("store", "backend", "progress")}
    before = grid.plan.made[label]
    networks = [clone(trainable(before)).set_params(file=str(one)) for one in files]
    if parts := getattr(before, "parts", None):
        place = parts.index(trainable(before))
        networks = [
            FusionVectorizer([*parts[:place], one, *parts[place + 1 :]], before.weights)
            for one in networks
        ]
    found = [vectorize(one, table.paths, ids=table.ids, **how) for one in networks]
    return networks, [one.vectors for one in found]


def _trained(grid: Grid, label: str) -> str:
    """Return what the plain vectors of the network that is trained are stored under.

    Training depends on nothing else, neither on views nor on other parts of a fusion;
    only hard negatives are near by the whole vectors.
    """
    from tllboost.finetune.network import global_vectorizer

    if grid.data.protocol.n_hard:
        return grid.data.spaces[label]
    return space_of(global_vectorizer(trainable(grid.plan.made[label]), grid.device))


def _paths(out: Path, name: str, n_folds: int) -> tuple[Path, list[Path]]:
    """Return where a fit tells what became of it, and where the fits of its folds lie.

    Examples
    --------
    >>> record, files = _paths(Path(), "a1", 2)
    >>> record.name, [file.name for file in files]
    ('a1.json', ['a1-0.safetensors', 'a1-1.safetensors'])
    """
    stem = out / "projections" / name
    files = [Path(f"{stem}-{fold}.safetensors") for fold in range(n_folds)]
    return Path(f"{stem}.json"), files


def _tell(record: Path, _: int, error: str, seconds: float = 0, said: Any = ()) -> None:
    """Write what became of a fit, or why its process is gone."""
    write_json(record, {"error": error, "seconds": seconds, "validation": said})


def _outcome(out: Path, name: str, n_folds: int) -> Learned:
    """Return what became of a fit, from the file that it wrote."""
    record, files = _paths(out, name, n_folds)
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
        error, seconds = str(told["error"]), float(told["seconds"])
        said = [[np.inf if x is None else x for x in of] for of in told["validation"]]
    except (OSError, ValueError, KeyError, TypeError):
        return Learned(error="its process died (out of memory?)")
    if not error and not all(file.is_file() for file in files):
        error = "its files are gone: run again"
    return Learned(() if error else tuple(files), seconds, error, said)


def _learn(
    out: Path,
    name: str,
    projection: str,
    seed: int,
    device: str,
    bases: Sequence[Floats],
    splits: list[Split],
    n_hard: int,
    widths: Sequence[Sequence[Width]],
    only: Sequence[int],
    said: Sequence[list[float]] | None,
    network: Any = None,
    paths: Any = None,
) -> None:
    """Fit one projection on every split; then tell, in a file, what became of it.

    `only` says which of a cross-fitted one's folds, `said` what validation said in each
    split, where that is to be repeated.
    """
    started, error = time.perf_counter(), ""
    notes = said or [[] for _ in splits]
    record, files = _paths(out, name, len(splits))
    how: dict[str, Any] = {"seed": seed, "device": device, "n_threads": 1}
    try:
        splits = prepared_splits(splits, bases, n_hard)
        for split, base, file, own in zip(splits, bases, files, notes, strict=True):
            sets = split.train, split.validation
            with noted(own, repeat=bool(said)):
                if network is None:
                    how["widths"] = [sum(x.width for x in part) for part in widths]
                    made: Any = make_projection(projection, **how)
                    with one_thread():
                        made.fit(base, *sets, **({"only": only} if only else {}))
                    write_bytes(file, save(made.to_tensors()))
                else:
                    from tllboost.finetune import finetune

                    settings = tuning_settings(projection)
                    finetune(network, paths, *sets, file, settings=settings, **how)
    except Exception as failure:
        error = one_line(failure)
    _tell(record, 0, error, time.perf_counter() - started, notes)


def prepared_splits(
    splits: Sequence[Split], bases: Sequence[Floats], n_hard: int
) -> list[Split]:
    """Return splits whose training non-matches are hard, if that was asked.

    Parameters
    ----------
    splits : sequence of Split
    bases : sequence of ndarray of shape (n_images, n_dims), float32
        What "near" is told by, an array a fold.
    n_hard : int
    """
    return [
        replace(split, train=harden(split.train, base, n_hard))
        for split, base in zip(splits, bases, strict=True)
    ]


def read_projection(projection: str, files: Sequence[Path]) -> Any:
    """Return a fitted projection from its files, None for "none"."""
    if projection == NONE:
        return None
    made: Any = make_projection(projection)
    return made.from_tensors(dict(ChainMap(*map(load_file, files))))


def one_line(error: Exception) -> str:
    """Return an error as one line of at most 300 characters."""
    kind = "" if isinstance(error, TllboostError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())[:300]


def failed(cell: Cell, seed: int, cell_id: str, error: str) -> dict[str, Any]:
    """Return the record of a cell that came to nothing."""
    return {
        "id": cell_id,
        "cell": asdict(cell),
        "seed": seed,
        "status": "failed",
        "error": error,
    }


def cell_jobs(missing: Mapping[tuple[Cell, int], str], grid: Grid) -> list[Job]:
    """Return jobs, each of cells that share features; the boosted ones share a matrix.

    Heads that take long are jobs of their own and come first: what is left for the
    end then takes little, and no worker waits long for another.

    Parameters
    ----------
    missing : mapping of (Cell, int) to str
        The id of each cell and seed.
    grid : Grid
        What is learned before them is known.
    """
    data, out = grid.data, grid.out
    groups: dict[tuple[Any, ...], list[tuple[str, Cell]]] = {}
    for (cell, seed), cell_id in missing.items():
        slow = next((n for n, s in enumerate(_SLOW) if cell.head.startswith(s)), 9)
        shared = (seed, cell.vectorizer, cell.projection, cell.features)
        groups.setdefault((slow, *shared), []).append((cell_id, cell))
    jobs = []
    for key in sorted(groups, key=lambda key: key[0]):
        _, seed, vectorizer, projection, kind = key
        cells = groups[key]
        files = [record_path(out, cell_id) for cell_id, _ in cells]
        for file in files:  # of a failure: a file says that its cell is done
            file.unlink(missing_ok=True)
        tuning, rest = parts_of(projection)
        learned = grid.learned[vectorizer, projection, seed]
        costs = {"vectorize_s": data.vectors[vectorizer].seconds}
        costs["project_s"] = learned.seconds or float("nan")
        maps = [str(file.relative_to(out)) for file in learned.files]
        splits, protocol = data.splits(seed), data.protocol
        shape: tuple[Any, ...] = data.vectors[vectorizer].widths, ()
        if kind == SIMILARITY:
            names = similarity_names(grid.plan.made[vectorizer], rest)
            shape = shape[0], names
        bases = grid.bases(vectorizer, tuning, seed)
        jobs.append(
            Job(
                _run_cells,
                (cells, seed, protocol, rest, maps, costs, splits, bases, *shape),
                files,
                reads=learned.files,
                names=[f"{cell.name}, seed {seed}" for _, cell in cells],
                fail=partial(_fail, out, cells, seed),
            )
        )
    return jobs


def _fail(
    out: Path, cells: list[tuple[str, Cell]], seed: int, index: int, reason: str
) -> None:
    """Write the record of a cell whose process is gone."""
    cell_id, cell = cells[index]
    write_record(out, failed(cell, seed, cell_id, reason))


def _run_cells(
    out: Path,
    cells: list[tuple[str, Cell]],
    seed: int,
    protocol: Protocol,
    projection: str,
    maps: list[str],
    costs: dict[str, float],
    splits: list[Split],
    bases: list[Any],
    widths: Sequence[Sequence[Width]],
    names: Sequence[str],
) -> None:
    """Run cells of the same features, writing each as it ends."""
    reason, benches = "", list[Bench]()
    try:
        splits = prepared_splits(splits, bases, protocol.n_hard)
        first = cells[0][1]
        how = first.features, seed, widths
        is_fresh = parts_of(first.projection)[0] == NONE and not protocol.n_hard
        for at, (base, split) in enumerate(zip(bases, splits, strict=True)):
            # One file a fold; where several were fitted, one after the other for all.
            files = [out / file for file in maps[at :: len(bases)]]
            made = read_projection(projection, files)
            benches.append(Bench(base, split, *how, made, is_fresh))
    except Exception as error:
        reason, benches = one_line(error), []
    for cell_id, cell in cells:
        if record_path(out, cell_id).exists():  # before the process was killed
            continue
        record = failed(cell, seed, cell_id, reason)
        if benches:
            try:
                figures, (test, validation) = measure(benches, cell.head, names)
                # A fold of the training set is not held out from its own projection.
                if protocol.name == "holidays2017" and cell.projection == NONE:
                    figures["best_of_folds"] = best_of_folds(benches[0], cell.head)
                write_scores(out, cell_id, test, validation)
                record |= {"status": "ok", **costs, **figures}
            except Exception as error:  # a cell that fails is a row, never a lost run
                record["error"] = one_line(error)
        if cell.head == COSINE:
            record["n_features"] = 1
        write_record(out, record)
        release_memory()
