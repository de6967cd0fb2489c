"""Cells of very many pairs: each trained by all workers of a cluster together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tllboost.cluster import Cluster
from tllboost.grid.counting import Progress, counting
from tllboost.grid.data import GridData
from tllboost.splits import Protocol

if TYPE_CHECKING:
    from tllboost.grid.parallel import Call
    from tllboost.grid.workers import Task

__all__ = ["is_large", "run_large", "set_apart", "together"]


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
    from tllboost.heads.growing import grown_by

    return grown_by(ClusterGrower(cluster))
