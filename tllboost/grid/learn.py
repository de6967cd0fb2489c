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
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from tllboost.errors import TllboostError
from tllboost.files import whole_file, write_text
from tllboost.grid.cells import digest, parts_of, tuning_settings
from tllboost.grid.data import Grid
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
_FOLDER = "projections"


@dataclass(frozen=True, eq=False)
class Learned:
    """What became of a projection: of its fit, and of the fine-tuning below it.

    Attributes
    ----------
    files : tuple of Path
        What was fitted last, a file a fold; none where nothing was to be, or it failed.
    seconds : float
        Of all folds together.
    error : str
        Why it failed, or nothing.
    """

    files: tuple[Path, ...] = ()
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, eq=False)
class AllLearned:
    """What was fitted before the cells.

    Attributes
    ----------
    grid : Grid
    learned : dict of (vectorizer, projection, seed) to Learned
    tuned : dict of (vectorizer, fine-tuning, seed) to (list, list)
        Fine-tuned networks and their vectors, one a fold.
    """

    grid: Grid
    learned: dict[Key, Learned] = field(default_factory=dict)
    tuned: dict[Key, tuple[list[Any], list[Floats]]] = field(default_factory=dict)

    def bases(self, vectorizer: str, tuning: str, seed: int) -> list[Floats]:
        """Return the vectors that are mapped after a fine-tuning, an array a fold."""
        if tuning != NONE:
            return self.tuned[vectorizer, tuning, seed][1]
        data = self.grid.data
        return [data.vectors[vectorizer].vectors] * len(data.splits(seed))


def learn_all(grid: Grid) -> AllLearned:
    """Fit what no earlier run has fitted; a failure is told, never a lost run."""
    every, data, out = AllLearned(grid), grid.data, grid.out
    (out / _FOLDER).mkdir(exist_ok=True)
    # What to fit, and the fine-tuning that it stands on.
    first: dict[Key, str] = {}
    second: dict[Key, str] = {}
    for cell, seed in product(grid.plan.cells, grid.seeds):
        vectorizer, projection = cell.vectorizer, cell.projection
        tuning, rest = parts_of(projection)
        why = data.unavailable.get(vectorizer, "")
        every.learned[vectorizer, NONE, seed] = Learned(error=why)
        if tuning != NONE:
            first[vectorizer, tuning, seed] = NONE
        if rest != NONE:
            second[vectorizer, projection, seed] = tuning
    for stage in filter(None, (first, second)):
        jobs: dict[str, Job] = {}
        names: dict[Key, str] = {}
        for key, below in stage.items():
            vectorizer, projection, seed = key
            if every.learned[vectorizer, below, seed].error:
                continue
            kind = projection.removeprefix(f"{below}/")
            split, splits = data.split_digest(seed), data.splits(seed)
            stands_on = [] if below == NONE else [below]
            parts = (*known(data, vectorizer, split), kind, seed, *stands_on)
            # Vectorizers of two names may be the same: what is learned of them is, too.
            name = names[key] = digest(*parts)
            if name in jobs or not _outcome(out, name, len(splits)).error:
                continue
            _record(out, name).unlink(missing_ok=True)  # what failed is tried again
            bases, n_hard = every.bases(vectorizer, below, seed), data.protocol.n_hard
            network: tuple[Any, ...] = ()
            if stage is first:
                network = (grid.plan.made[vectorizer], data.table.paths)
            jobs[name] = Job(
                _learn,
                (name, kind, seed, grid.device, bases, splits, n_hard, *network),
                [_record(out, name)],
                names=[f"{vectorizer} × {projection}, seed {seed}"],
                fail=partial(_write_outcome, out, name),
            )
        grid.backend.run([*jobs.values()], out, "projections", grid.progress)
        for key, below in stage.items():
            vectorizer, _, seed = key
            learned = every.learned[vectorizer, below, seed]
            if key in names:
                own = _outcome(out, names[key], len(data.splits(seed)))
                learned = replace(own, seconds=own.seconds + learned.seconds)
            every.learned[key] = learned
            if stage is first and not learned.error:
                every.tuned[key] = _tuned(grid, vectorizer, learned.files)
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


def _record(out: Path, name: str) -> Path:
    return out / _FOLDER / f"{name}.json"


def _file(out: Path, name: str, fold: int) -> Path:
    return out / _FOLDER / f"{name}-{fold}.safetensors"


def _outcome(out: Path, name: str, n_folds: int) -> Learned:
    """Return what became of a fit, from the file that it wrote."""
    try:
        told = json.loads(_record(out, name).read_text(encoding="utf-8"))
        error, seconds = str(told["error"]), float(told["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return Learned(error="its process died (out of memory?)")
    files = [_file(out, name, fold) for fold in range(n_folds)]
    if not error and not all(file.is_file() for file in files):
        error = "its files are gone: run again"
    return Learned(() if error else tuple(files), seconds, error)


def _learn(
    out: Path,
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
            file = _file(out, name, fold)
            if network is None:
                made: Any = make_projection(
                    projection, seed=seed, device=device, n_threads=1
                )
                with one_thread():
                    made.fit(base, split.train, split.validation)
                with whole_file(file) as stream:
                    stream.write(save(made.to_tensors()))
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
    _write_outcome(out, name, 0, error, time.perf_counter() - started)


def _write_outcome(
    out: Path, name: str, _index: int, error: str, seconds: float = 0.0
) -> None:
    """Write what became of a fit, or why its process is gone."""
    write_text(_record(out, name), json.dumps({"error": error, "seconds": seconds}))


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


def spaces_of(
    bases: Sequence[Floats], projection: str = NONE, files: Sequence[Path] = ()
) -> list[Space]:
    """Return the vectors of each fold after a projection.

    Parameters
    ----------
    bases : sequence of ndarray of shape (n_images, n_dims), float32
        Before it, an array a fold: as the vectorizer gave them, or fine-tuned. These
        are what a bundle has, so no head may see what was before them.
    projection : str
        "none" where no vectors are mapped.
    files : sequence of Path
        What it was fitted to, a file a fold.
    """
    if projection == NONE:
        return [Space(base) for base in bases]
    spaces = []
    for file, base in zip(files, bases, strict=False):
        fitted = read_projection(projection, file)
        with one_thread():
            projected = fitted.transform(base)
        joined = getattr(fitted, "joined_", None) or None
        spaces.append(Space(projected, frozen=base, joined=joined))
    return spaces


def read_projection(projection: str, file: Path) -> Any:
    """Return a fitted projection from its file."""
    made: Any = make_projection(projection)
    return made.from_tensors(load_file(file))


def one_line(error: Exception) -> str:
    """Return an error as one line of at most 300 characters."""
    text = " ".join(str(error).split())[:300]
    return (
        text if isinstance(error, TllboostError) else f"{type(error).__name__}: {text}"
    )
