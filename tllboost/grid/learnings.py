"""What is to be fitted before the cells, and which cells can then be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.cluster import Cluster
from tllboost.grid.data import GridData
from tllboost.grid.identity import known
from tllboost.grid.plan import Cell, digest
from tllboost.grid.projecting import Learned, Learning, learn
from tllboost.grid.suits import parts_of
from tllboost.grid.tuning import tuned_vectors
from tllboost.projections import NONE
from tllboost.splits import Protocol

__all__ = ["AllLearned", "learn_all", "reason_against"]

Floats = NDArray[np.float32]
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
        The others of :func:`~tllboost.grid.projecting.learn`.
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


def _is_tuning(one: Learning) -> bool:
    return parts_of(one.projection)[0] != NONE


def _stands(one: Learning, tuned: Mapping[Any, Any]) -> bool:
    """Tell whether what a projection is fitted on is there."""
    return one.tuning == NONE or (one.vectorizer, one.tuning, one.seed) in tuned
