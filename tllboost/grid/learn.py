"""Projections before cells: each is fitted once a seed and fold, for all its heads.

Networks are fine-tuned first, images are vectorized with them, then projections are
fitted on those vectors or on the frozen ones. What is fitted lies in the folder
``projections`` of the results, and a run that goes on finds it there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tllboost.errors import TllboostError
from tllboost.files import whole_file, write_text
from tllboost.grid.cells import Cell, digest, parts_of, tuning_settings
from tllboost.grid.data import Grid, GridData
from tllboost.grid.measure import Space, one_thread
from tllboost.grid.records import known
from tllboost.processes import Job
from tllboost.projections import NONE, make_projection
from tllboost.splits import Split
from tllboost.splits.negatives import harden
from tllboost.vectorizing import vectorize

__all__ = [
    "AllLearned",
    "Learned",
    "learn_all",
    "one_line",
    "prepared_splits",
    "read_projection",
    "spaces_of",
]

Floats = NDArray[np.float32]
Key = tuple[str, str, int]


@dataclass(frozen=True, eq=False)
class Learned:
    """What became of a fit.

    Attributes
    ----------
    files : tuple of Path
        What was learned, a file a fold; empty where it failed.
    projection : str
        What they are files of.
    seconds : float
        Of all folds together.
    error : str
        Why it failed, or nothing.
    """

    files: tuple[Path, ...] = ()
    projection: str = NONE
    seconds: float = float("nan")
    error: str = ""


@dataclass(frozen=True, eq=False)
class AllLearned:
    """What was fitted before the cells.

    Attributes
    ----------
    grid : Grid
    learned : dict of (vectorizer, projection, seed) to Learned
        Fine-tunings, and projections under their whole names.
    tuned : dict of (vectorizer, fine-tuning, seed) to (list, list)
        Fine-tuned networks and their vectors, one a fold.
    """

    grid: Grid
    learned: dict[Key, Learned] = field(default_factory=dict)
    tuned: dict[Key, tuple[list[Any], list[Floats]]] = field(default_factory=dict)

    def bases(self, vectorizer: str, projection: str, seed: int) -> list[Floats]:
        """Return the vectors that a projection maps, an array a fold."""
        tuning, _ = parts_of(projection)
        if tuning != NONE:
            return self.tuned[vectorizer, tuning, seed][1]
        data = self.grid.data
        return [data.vectors[vectorizer].vectors] * len(data.splits(seed))

    def of(self, vectorizer: str, projection: str, seed: int) -> Learned:
        """Return what maps those vectors, its time with that of the fine-tuning."""
        tuning, rest = parts_of(projection)
        below = self.learned.get((vectorizer, tuning, seed), Learned(seconds=0.0))
        if rest == NONE:
            return Learned(seconds=below.seconds if tuning != NONE else float("nan"))
        own = self.learned[vectorizer, projection, seed]
        return replace(own, seconds=own.seconds + below.seconds)

    def reason_against(self, cell: Cell, seed: int) -> str:
        """Return why a cell can't be run, or nothing."""
        if cell.vectorizer in self.grid.data.unavailable:
            return self.grid.data.unavailable[cell.vectorizer]
        for projection in (parts_of(cell.projection)[0], cell.projection):
            found = self.learned.get((cell.vectorizer, projection, seed))
            if found is not None and found.error:
                return found.error
        return ""


def learn_all(grid: Grid) -> AllLearned:
    """Fit what no earlier run has fitted; a failure is told, never a lost run."""
    every, data = AllLearned(grid), grid.data
    folder = grid.out / "projections"
    folder.mkdir(exist_ok=True)
    wanted: dict[tuple[str, str], None] = {}
    for cell in grid.plan.cells:
        tuning, rest = parts_of(cell.projection)
        if cell.vectorizer in data.vectors:
            if tuning != NONE:
                wanted[cell.vectorizer, tuning] = None
            if rest != NONE:
                wanted[cell.vectorizer, cell.projection] = None
    keys = [(*one, seed) for one in wanted for seed in grid.seeds]
    splits_of = {seed: data.split_digest(seed) for seed in grid.seeds if wanted}
    names = {key: _name(key, data, splits_of[key[2]]) for key in keys}

    def outcome(key: Key) -> Learned:
        n_folds = len(data.splits(key[2]))
        return _outcome(folder / f"{names[key]}.json", key[1], n_folds)

    def job(key: Key) -> Job:
        vectorizer, projection, seed = key
        tuning, rest = parts_of(projection)
        record = folder / f"{names[key]}.json"
        record.unlink(missing_ok=True)  # of a failure, which is tried again
        arguments = (folder, names[key], tuning if rest == NONE else rest, seed)
        network = (grid.plan.made[vectorizer], data.table.paths) if rest == NONE else ()
        bases = every.bases(vectorizer, NONE if network else projection, seed)
        splits = data.splits(seed)
        return Job(
            _learn,
            (*arguments, grid.device, bases, splits, data.protocol.n_hard, *network),
            [record],
            [f"{vectorizer} × {projection}, seed {seed}"],
            partial(_fail, record),
        )

    def fit(some: list[Key]) -> None:
        # Vectorizers of two names may be the same: what is learned of them is, too.
        distinct = {names[key]: key for key in some}.values()
        jobs = [job(key) for key in distinct if outcome(key).error]
        grid.backend.run(jobs, grid.out, "projections", grid.progress)
        every.learned.update({key: outcome(key) for key in some})

    tunings = [key for key in keys if parts_of(key[1])[1] == NONE]
    fit(tunings)
    for key in tunings:
        if not every.learned[key].error:
            every.tuned[key] = _tuned(grid, key[0], every.learned[key].files)
    stands_on = {key: (key[0], parts_of(key[1])[0], key[2]) for key in keys}
    fit(
        [
            key
            for key, below in stands_on.items()
            if key != below and (below[1] == NONE or below in every.tuned)
        ]
    )
    return every


def _tuned(
    grid: Grid, label: str, files: Sequence[Path]
) -> tuple[list[Any], list[Floats]]:
    """Return the fine-tuned vectorizer of each fold, and the vectors of all images."""
    from sklearn.base import clone

    table = grid.data.table
    how: dict[str, Any] = {
        "store": grid.store,
        "backend": grid.backend,
        "progress": grid.progress,
    }
    before = grid.plan.made[label]
    networks = [clone(before).set_params(file=str(file)) for file in files]
    found = [vectorize(one, table.paths, ids=table.ids, **how) for one in networks]
    return networks, [one.vectors for one in found]


def _name(key: Key, data: GridData, split: str) -> str:
    """Return the hash of all that a fit depends on."""
    vectorizer, projection, seed = key
    one, *below = [part for part in parts_of(projection)[::-1] if part != NONE]
    return digest(*known(data, vectorizer, split), one, seed, *below)


def _outcome(record: Path, projection: str, n_folds: int) -> Learned:
    """Return what became of a fit, from the file that it wrote."""
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
        error, seconds = str(told["error"]), float(told["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return Learned(error="its process died (out of memory?)")
    files = [_file(record.parent, record.stem, fold) for fold in range(n_folds)]
    if not error and not all(file.is_file() for file in files):
        error = "its files are gone: run again"
    tuning, rest = parts_of(projection)
    kind = tuning if rest == NONE else rest
    return Learned(() if error else tuple(files), kind, seconds, error)


def _file(folder: Path, name: str, fold: int) -> Path:
    return folder / f"{name}-{fold}.safetensors"


def _learn(
    folder: Path,
    name: str,
    projection: str,
    seed: int,
    device: str,
    bases: Sequence[Floats],
    splits: list[Split],
    n_hard: int,
    network: Any = None,
    paths: Any = None,
) -> None:
    """Fit one projection on every fold; then tell, in a file, what became of it."""
    started, error = time.perf_counter(), ""
    try:
        splits = prepared_splits(splits, bases, n_hard)
        for fold, (split, base) in enumerate(zip(splits, bases, strict=True)):
            file = _file(folder, name, fold)
            if network is None:
                made: Any = make_projection(
                    projection, seed=seed, device=device, n_threads=1
                )
                with one_thread():
                    made.fit(base, split.train, split.validation)
                with whole_file(file) as stream:
                    stream.write(made.to_members()["projection.safetensors"])
            else:
                from tllboost.finetune import finetune

                finetune(
                    network,
                    paths,
                    split.train,
                    split.validation,
                    file,
                    settings=tuning_settings(projection),
                    seed=seed,
                    device=device,
                    n_threads=1,
                )
    except Exception as failure:
        error = one_line(failure)
    _write_outcome(folder / f"{name}.json", error, time.perf_counter() - started)


def _fail(record: Path, index: int, reason: str) -> None:
    """Write the record of a fit whose process is gone."""
    _write_outcome(record, reason, 0.0)


def _write_outcome(record: Path, error: str, seconds: float) -> None:
    write_text(record, json.dumps({"error": error, "seconds": seconds}))


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
    if not n_hard:
        return list(splits)
    return [
        replace(split, train=harden(split.train, base, n_hard))
        for split, base in zip(splits, bases, strict=True)
    ]


def spaces_of(bases: Sequence[Floats], learned: Learned) -> list[Space]:
    """Return the vectors of each fold after a projection.

    Parameters
    ----------
    bases : sequence of ndarray of shape (n_images, n_dims), float32
        Before it, an array a fold: as the vectorizer gave them, or fine-tuned. These
        are what a bundle has, so no head may see what was before them.
    learned : Learned
        Its files are none where no vectors are mapped.
    """
    if not learned.files:
        return [Space(base) for base in bases]
    spaces = []
    for file, base in zip(learned.files, bases, strict=False):
        fitted = read_projection(learned.projection, file)
        with one_thread():
            projected = fitted.transform(base)
        joined = getattr(fitted, "joined_", None) or None
        spaces.append(Space(projected, frozen=base, joined=joined))
    return spaces


def read_projection(projection: str, file: Path) -> Any:
    """Return a fitted projection from its file."""
    made: Any = make_projection(projection)
    return made.from_members({"projection.safetensors": file.read_bytes()})


def one_line(error: Exception) -> str:
    """Return an error as one line of at most 300 characters."""
    text = " ".join(str(error).split())[:300]
    return (
        text if isinstance(error, TllboostError) else f"{type(error).__name__}: {text}"
    )
