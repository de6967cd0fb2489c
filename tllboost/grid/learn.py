"""Projections before cells: each is fitted once a seed and fold, for all its heads.

What is to be fitted before the cells, and which cells can then be run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.cluster import Cluster
from tllboost.cluster.calls import run_clustered
from tllboost.errors import TllboostError
from tllboost.files import whole_file, write_text
from tllboost.grid.cells import Cell, digest, parts_of, tuning_settings
from tllboost.grid.data import GridData, tuned_vectors
from tllboost.grid.measure import Space, one_thread
from tllboost.grid.records import known
from tllboost.processes import NO_LIMITS, Call, Limits, run_parallel
from tllboost.projections import NONE, make_projection
from tllboost.splits import Protocol, Split
from tllboost.splits.negatives import harden

__all__ = [
    "Learned",
    "learn_all",
    "one_line",
    "prepared_splits",
    "read_projection",
    "reason_against",
    "spaces_of",
]

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Learning:
    """A projection to be fitted: of which vectors, on which split, under what name.

    ``projection`` is one of vectors or the fine-tuning of a network; ``tuning`` is the
    fine-tuning that a projection of vectors stands on, or "none".
    """

    vectorizer: str
    tuning: str
    projection: str
    seed: int
    id: str

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is found under: vectorizer, whole projection, seed."""
        both = (self.tuning, self.projection)
        return self.vectorizer, "/".join(p for p in both if p != NONE), self.seed


@dataclass(frozen=True, eq=False)
class Learned:
    """What became of it.

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


def learn(
    wanted: Iterable[Learning],
    data: GridData,
    protocol: Protocol,
    out: Path,
    *,
    made: Mapping[str, Any],
    tuned: Mapping[tuple[str, str, int], list[Floats]],
    workers: int,
    device: str,
    progress: Callable[[int, int, str], None] | None,
    limits: Limits = NO_LIMITS,
    cluster: Cluster | None = None,
) -> dict[tuple[str, str, int], Learned]:
    """Fit what no earlier run has fitted; a failure is told, never a lost run.

    Parameters
    ----------
    wanted : iterable of Learning
    data : GridData
    protocol : Protocol
    out : Path
        Its folder ``projections`` keeps what was learned.
    made : dict of str to Vectorizer
        By label; fine-tuning starts from them.
    tuned : dict of (vectorizer, fine-tuning, seed) to list of ndarray
        Vectors of fine-tuned networks that projections stand on, an array a fold.
    workers : int
        Processes.
    device : str
    progress : callable or None
    limits : Limits
        Of each fit, all folds together.
    cluster : Cluster or None, default=None
        Whose workers work, in place of processes here.
    """
    wanted = list(wanted)
    (out / "projections").mkdir(exist_ok=True)
    # Vectorizers of two names may be the same: what is learned of them is, too.
    distinct = {one.id: one for one in wanted}.values()
    missing = [one for one in distinct if not _is_there(out, one, data, protocol)]
    paths = data.table.paths
    calls = []
    for one in missing:
        arguments = (
            one,
            out,
            _bases(one, data, protocol, tuned),
            data.splits(protocol, one.seed),
            protocol.n_hard,
            (made[one.vectorizer], paths) if _is_tuning(one) else None,
            device,
        )
        file = _record_path(out, one)
        file.unlink(missing_ok=True)
        name = f"{one.vectorizer} × {one.key[1]}, seed {one.seed}"
        fail = partial(_fail, one, out)
        calls.append(Call(_learn_one, arguments, [file], fail, [name]))
    if cluster is not None:
        run_clustered(calls, cluster, progress, "projections", out=out)
    else:
        run_parallel(calls, workers, progress, "projections", out=out, limits=limits)
    return {one.key: _outcome(out, one, data, protocol) for one in wanted}


def _is_tuning(one: Learning) -> bool:
    return parts_of(one.projection)[0] != NONE


def _bases(
    one: Learning,
    data: GridData,
    protocol: Protocol,
    tuned: Mapping[tuple[str, str, int], list[Floats]],
) -> list[Floats]:
    """Return the vectors that a projection is fitted on, an array a fold."""
    if one.tuning != NONE:
        return tuned[one.vectorizer, one.tuning, one.seed]
    n_folds = len(data.splits(protocol, one.seed))
    return [data.vectors[one.vectorizer].array] * n_folds


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
    spaces = []
    for fold, base in enumerate(bases):
        if not learned.files:
            spaces.append(Space(base))
            continue
        fitted = read_projection(learned.projection, learned.files[fold])
        with one_thread():
            projected = fitted.transform(base)
        joined = getattr(fitted, "joined_", None) or None
        spaces.append(Space(projected, frozen=base, joined=joined))
    return spaces


def read_projection(projection: str, file: Path) -> Any:
    """Return a fitted projection from its file."""
    members = {"projection.safetensors": file.read_bytes()}
    made: Any = make_projection(projection)
    return made.from_members(members)


def _learn_one(
    one: Learning,
    out: Path,
    bases: Sequence[Floats],
    splits: list[Split],
    n_hard: int,
    network: tuple[Any, Any] | None,
    device: str,
) -> None:
    """Fit one projection on every fold; then tell, in a file, what became of it."""
    started = time.perf_counter()
    record: dict[str, Any] = {"id": one.id, "projection": one.projection, "error": ""}
    try:
        prepared = prepared_splits(splits, bases, n_hard)
        for fold, (split, base) in enumerate(zip(prepared, bases, strict=True)):
            file = _file(out, one, fold)
            if network is not None:
                _fine_tune(one, split, file, network, device)
                continue
            made: Any = make_projection(
                one.projection, seed=one.seed, device=device, n_threads=1
            )
            with one_thread():
                made.fit(base, split.train, split.validation)
            with whole_file(file) as stream:
                stream.write(made.to_members()["projection.safetensors"])
    except Exception as error:
        record["error"] = one_line(error)
    record["seconds"] = time.perf_counter() - started
    write_text(_record_path(out, one), json.dumps(record))


def _fail(one: Learning, out: Path, index: int, reason: str) -> None:
    """Write the record of a fit whose process is gone."""
    record = {"id": one.id, "projection": one.projection, "error": reason}
    write_text(_record_path(out, one), json.dumps(record | {"seconds": 0.0}))


def _fine_tune(
    one: Learning, split: Split, file: Path, network: tuple[Any, Any], device: str
) -> None:
    from tllboost.finetune import finetune

    vectorizer, paths = network
    finetune(
        vectorizer,
        paths,
        split.train,
        split.validation,
        file,
        settings=tuning_settings(one.projection),
        seed=one.seed,
        device=device,
        n_threads=1,
    )


def one_line(error: Exception) -> str:
    """Return an error as one line of at most 300 characters."""
    text = " ".join(str(error).split())[:300]
    return (
        text if isinstance(error, TllboostError) else f"{type(error).__name__}: {text}"
    )


def _file(out: Path, one: Learning, fold: int) -> Path:
    return out / "projections" / f"{one.id}-{fold}.safetensors"


def _record_path(out: Path, one: Learning) -> Path:
    return out / "projections" / f"{one.id}.json"


def _files(
    out: Path, one: Learning, data: GridData, protocol: Protocol
) -> tuple[Path, ...]:
    n_folds = len(data.splits(protocol, one.seed))
    return tuple(_file(out, one, fold) for fold in range(n_folds))


def _is_there(out: Path, one: Learning, data: GridData, protocol: Protocol) -> bool:
    """Tell whether an earlier run fitted it; a failed one is tried again."""
    return not _outcome(out, one, data, protocol).error


def _outcome(out: Path, one: Learning, data: GridData, protocol: Protocol) -> Learned:
    try:
        record = json.loads(_record_path(out, one).read_text(encoding="utf-8"))
        error, seconds = str(record["error"]), float(record["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return Learned(error="its process died (out of memory?)")
    files = _files(out, one, data, protocol)
    if not error and not all(file.is_file() for file in files):
        error = "its files are gone: run again"
    return Learned(() if error else files, one.projection, seconds, error)


Key = tuple[str, str, int]


class AllLearned(NamedTuple):
    """What was fitted before the cells.

    Attributes
    ----------
    learned : dict of (vectorizer, projection, seed) to Learned
    tuned : dict of (vectorizer, fine-tuning, seed) to (list, list)
        Fine-tuned networks and their vectors, one a fold.
    """

    learned: dict[Key, Learned]
    tuned: dict[Key, tuple[list[Any], list[Floats]]]

    @property
    def vectors(self) -> dict[Key, list[Floats]]:
        """The vectors of fine-tuned networks."""
        return {key: vectors for key, (_, vectors) in self.tuned.items()}


def learn_all(
    cells: Sequence[Cell],
    seeds: Sequence[int],
    data: GridData,
    protocol: Protocol,
    *,
    made: Mapping[str, Any],
    store: Any,
    progress: Callable[[int, int, str], None] | None,
    cluster: Cluster | None = None,
    **settings: Any,
) -> AllLearned:
    """Fine-tune networks, vectorize with them, then fit the projections of vectors.

    Parameters
    ----------
    cells : sequence of Cell
    seeds : sequence of int
    data : GridData
    protocol : Protocol
    made : dict of str to Vectorizer
        By label.
    store : VectorStore, path-like or None
    progress : callable or None
    cluster : Cluster or None, default=None
    **settings
        The others of :func:`~tllboost.grid.learn.learn`.
    """

    def fit(
        some: list[Learning], tuned: Mapping[Key, list[Floats]]
    ) -> dict[Key, Learned]:
        return learn(
            some,
            data,
            protocol,
            made=made,
            tuned=tuned,
            progress=progress,
            cluster=cluster,
            **settings,
        )

    wanted = _learnings(cells, seeds, data, protocol)
    learned = fit([one for one in wanted if _is_tuning(one)], {})
    tuned = {
        key: tuned_vectors(
            made[key[0]],
            one.files,
            data,
            store=store,
            progress=progress,
            cluster=cluster,
        )
        for key, one in learned.items()
        if not one.error
    }
    every = AllLearned(learned, tuned)
    able = [one for one in wanted if not _is_tuning(one) and _stands(one, tuned)]
    learned |= fit(able, every.vectors)
    return every


def reason_against(
    cell: Cell, seed: int, data: GridData, learned: Mapping[Key, Learned]
) -> str:
    """Return why a cell can't be run, or nothing."""
    if cell.vectorizer in data.unavailable:
        return data.unavailable[cell.vectorizer]
    for projection in (parts_of(cell.projection)[0], cell.projection):
        found = learned.get((cell.vectorizer, projection, seed))
        if found is not None and found.error:
            return found.error
    return ""


def _learnings(
    cells: Sequence[Cell],
    seeds: Sequence[int],
    data: GridData,
    protocol: Protocol,
) -> list[Learning]:
    """Return what is to be fitted, each once for all that stands on top of it."""
    splits = {seed: data.split_digest(protocol, seed) for seed in seeds}
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
                *known(data, one[0], protocol, splits[seed]),
                one[2],
                seed,
                *([] if one[1] == NONE else [one[1]]),
            ),
        )
        for one in wanted
        for seed in seeds
    ]


def _stands(one: Learning, tuned: Mapping[Any, Any]) -> bool:
    """Tell whether what a projection is fitted on is there."""
    return one.tuning == NONE or (one.vectorizer, one.tuning, one.seed) in tuned
