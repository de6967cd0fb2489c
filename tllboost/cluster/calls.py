"""The jobs of a grid on a Dask cluster: files travel, no folder need be shared."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tllboost.files import whole_file
from tllboost.processes import Job, ProcessDied, Progress, tell

if TYPE_CHECKING:
    from tllboost.cluster.cluster import Cluster

__all__ = ["run_jobs"]

Files = dict[str, bytes]

_LARGE_BYTES = 2**20


def run_jobs(
    cluster: Cluster,
    jobs: Sequence[Job],
    out: Path,
    what: str,
    progress: Progress | None,
) -> None:
    """Run jobs on a cluster, as :class:`~tllboost.processes.Processes` does here.

    A worker calls in a folder of its own, which holds what the job reads of `out`;
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

    def name(file: Path) -> str:
        return file.relative_to(out).as_posix()

    def hand_out(job: Job, wanted: list[int]) -> None:
        # What exists counts as done, whatever it holds.
        there = {name(file): b"" for i, file in enumerate(job.files) if i not in wanted}
        there |= {name(file): file.read_bytes() for file in job.reads}
        arguments = [_sent(one, cluster) for one in job.arguments]
        asked = [job.names[index] for index in wanted]
        one = Job(_call, (job.function, arguments, there), names=asked)
        handed[one] = job, wanted
        waiting.append(one)

    def told(names: Sequence[str]) -> None:
        tell(progress, jobs, what, names)

    for job in jobs:
        if not job.is_large:
            hand_out(job, [*range(len(job.files))])
    for one, outcome in cluster.each(waiting, told if progress else None):
        job, wanted = handed.pop(one)
        if not isinstance(outcome, ProcessDied):
            # At last the files that say that it is done.
            last = {name(file) for file in job.files}
            for file in sorted(outcome, key=lambda file: file in last):
                with whole_file(out / file) as stream:
                    stream.write(outcome[file])
        elif len(wanted) == 1:
            job.fail(wanted[0], f"its process died ({outcome})")
        else:  # which of them it was, each will tell
            for index in wanted:
                hand_out(job, [index])
    for job in jobs:
        if job.is_large:
            told(job.names[:1])
            cluster.call(job.function, out, *job.arguments, is_large=True)
    told([])


def _call(function: Callable[..., None], arguments: list[Any], there: Files) -> Files:
    """Call a function here, on a worker; return the files that it wrote."""
    from distributed import get_worker

    with tempfile.TemporaryDirectory(dir=get_worker().local_directory) as name:
        folder = Path(name)
        for file, content in there.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        function(folder, *arguments)
        files = {
            file.relative_to(folder).as_posix(): file
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        return {
            name: file.read_bytes() for name, file in files.items() if name not in there
        }


def _sent(value: Any, cluster: Cluster) -> Any:
    """Return a value, or a list of values, of which the large ones travel once."""
    if isinstance(value, list):
        return [_sent(item, cluster) for item in value]
    return cluster.keep(value) if _n_bytes(value) >= _LARGE_BYTES else value


def _n_bytes(value: Any) -> int:
    """Return the size of the arrays that a value holds."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if is_dataclass(value):
        return sum(_n_bytes(getattr(value, one.name)) for one in fields(value))
    return 0
