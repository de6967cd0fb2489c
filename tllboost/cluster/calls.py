"""The jobs of a grid on a Dask cluster: files travel, no folder need be shared."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tllboost.files import whole_file
from tllboost.processes import Job, ProcessDied, Progress, counting

if TYPE_CHECKING:
    from tllboost.cluster.cluster import Cluster

__all__ = ["run_jobs"]

Files = dict[str, bytes]

_LARGE_BYTES = 2**20
_PROJECTIONS = "projections"


def run_jobs(
    cluster: Cluster,
    jobs: Sequence[Job],
    out: Path,
    what: str,
    progress: Progress | None,
) -> None:
    """Run jobs on a cluster, as :class:`~tllboost.processes.Processes` does here.

    A worker calls in a folder of its own, which holds what the call reads of `out`;
    what it writes there comes back, and is written to `out` from here alone. What
    took down each worker that tried it fails, and no other with it. Large jobs are
    called here, one after the other, their trees grown by all workers.

    Parameters
    ----------
    cluster : Cluster
    jobs : sequence of Job
    out : Path
        The results.
    what : str
    progress : callable or None
        Called with (done, total, `what`).

    Raises
    ------
    ClusterError
        If the cluster is lost.
    Exception
        What a job raised.
    """
    waiting: deque[Job] = deque()
    handed: dict[Job, tuple[Job, list[int]]] = {}
    at: list[str] = []

    def hand_out(job: Job, wanted: list[int]) -> None:
        given: Files = {}
        arguments = [_sent(one, out, given, cluster) for one in job.arguments]
        names = [_name(file, out) for file in job.files]
        there = [name for index, name in enumerate(names) if index not in wanted]
        asked = [job.names[index] for index in wanted]
        one = Job(_call, (job.function, arguments, given, there), names=asked)
        handed[one] = job, wanted
        waiting.append(one)

    def running(names: list[str]) -> None:
        at[:] = names

    for job in jobs:
        if not job.is_large:
            hand_out(job, [*range(len(job.files))])
    with counting(jobs, progress, what, lambda: at):
        for one, outcome in cluster.each(waiting, running if progress else None):
            job, wanted = handed.pop(one)
            if not isinstance(outcome, ProcessDied):
                # At last the files that say that it is done.
                last = [_name(file, out) for file in job.files]
                for name in sorted(outcome, key=lambda name: name in last):
                    with whole_file(out / name) as file:
                        file.write(outcome[name])
            elif len(wanted) == 1:
                job.fail(wanted[0], f"its process died ({outcome})")
            else:  # which of them it was, each will tell
                for index in wanted:
                    hand_out(job, [index])
        for job in jobs:
            if job.is_large:
                running([*job.names[:1]])
                cluster.call(job.function, *job.arguments, is_large=True)


def _call(
    function: Callable[..., None], arguments: list[Any], given: Files, there: list[str]
) -> Files:
    """Call a function here, on a worker; return the files that it wrote."""
    from distributed import get_worker

    with tempfile.TemporaryDirectory(dir=get_worker().local_directory) as name:
        folder = Path(name)
        # What exists counts as done, whatever it holds.
        known = {**given, **dict.fromkeys(there, b"")}
        for file, content in known.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        function(*(_unpacked(one, folder) for one in arguments))
        return {
            _name(file, folder): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file() and _name(file, folder) not in known
        }


@dataclass(frozen=True)
class _InRun:
    """A path below the results, wherever they lie."""

    name: str


def _sent(value: Any, out: Path, given: Files, cluster: Cluster) -> Any:
    """Return a value to send: large arrays travel once, paths lead into the results.

    The files of projections that paths name are added to `given`.
    """
    if isinstance(value, Path):
        if not (value == out or value.is_relative_to(out / _PROJECTIONS)):
            return value
        if value.is_file():
            given[_name(value, out)] = value.read_bytes()
        return _InRun(_name(value, out))
    if _n_bytes(value) >= _LARGE_BYTES:
        return cluster.keep(value)
    return _mapped(value, lambda item: _sent(item, out, given, cluster))


def _unpacked(value: Any, folder: Path) -> Any:
    if isinstance(value, _InRun):
        return folder / value.name
    return _mapped(value, lambda item: _unpacked(item, folder))


def _mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to what a list, a tuple or a dataclass holds."""
    if type(value) in (list, tuple):
        return type(value)(map(function, value))
    if is_dataclass(value) and not isinstance(value, type):
        old = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
        new = {name: function(item) for name, item in old.items()}
        changed = {name: item for name, item in new.items() if item is not old[name]}
        return replace(value, **changed) if changed else value
    return value


def _n_bytes(value: Any) -> int:
    """Return the size of the arrays that a value holds."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if is_dataclass(value):
        return sum(_n_bytes(getattr(value, one.name)) for one in fields(value))
    return 0


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()
