"""The calls of a grid on a Dask cluster: files travel, no folder need be shared."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tllboost.cluster import Cluster, Died, Job
from tllboost.files import whole_file
from tllboost.processes import Progress, counting

if TYPE_CHECKING:
    from tllboost.processes import Call

__all__ = ["run_clustered"]

Files = dict[str, bytes]

_LARGE_BYTES = 2**20
PROJECTIONS = "projections"


def run_clustered(
    calls: Sequence[Call],
    cluster: Cluster,
    progress: Progress | None,
    what: str,
    *,
    out: Path,
) -> None:
    """Run calls on a cluster, as :func:`~tllboost.processes.run_parallel` here.

    A worker calls in a folder of its own, which holds what the call reads of `out`;
    what it writes there comes back, and is written to `out` from here alone. What
    took down each worker that tried it fails, and no other with it.

    Parameters
    ----------
    calls : sequence of Call
    cluster : Cluster
    progress : callable or None
        Called with (done, total, `what`).
    what : str
    out : Path
        The results.

    Raises
    ------
    ClusterError
        If the cluster is lost.
    Exception
        What a call raised.
    """
    files = [file for call in calls for file in call.files]
    jobs: deque[Job] = deque()
    handed: dict[Job, tuple[Call, list[int]]] = {}
    at: list[str] = []

    def hand_out(call: Call, wanted: list[int]) -> None:
        job = _job(call, wanted, cluster, out)
        handed[job] = call, wanted
        jobs.append(job)

    def running(names: Sequence[str]) -> None:
        at[:] = names

    for call in calls:
        hand_out(call, [*range(len(call.files))])
    with counting(files, progress, what, lambda: at):
        for job, outcome in cluster.each(jobs, running if progress else None):
            call, wanted = handed.pop(job)
            if not isinstance(outcome, Died):
                _write(out, outcome, last=call.files)
            elif len(wanted) == 1:
                call.fail(wanted[0], f"its process died ({outcome.reason})")
            else:  # which of them it was, each will tell
                for one in wanted:
                    hand_out(call, [one])


@dataclass(frozen=True)
class _InRun:
    """A path below the results, wherever they lie."""

    name: str


def _job(call: Call, wanted: list[int], cluster: Cluster, out: Path) -> Job:
    given: Files = {}
    packed = [_packed(one, out, given) for one in call.arguments]
    arguments = [_kept(one, cluster) for one in packed]
    names = [_name(file, out) for file in call.files]
    there = [name for index, name in enumerate(names) if index not in wanted]
    first = call.names[wanted[0]] if call.names else ""
    return Job(_call, (call.function, arguments, given, there), first)


def _call(
    function: Callable[..., None], arguments: list[Any], given: Files, there: list[str]
) -> Files:
    """Call a function here, on a worker; return the files that it wrote."""
    from distributed import get_worker

    with tempfile.TemporaryDirectory(dir=get_worker().local_directory) as name:
        folder = Path(name)
        # What exists counts as done, whatever it holds.
        for file, content in {**given, **dict.fromkeys(there, b"")}.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        function(*(_unpacked(one, folder) for one in arguments))
        written = {
            _name(file, folder): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
    return {
        name: content
        for name, content in written.items()
        if name not in given and name not in there
    }


def _write(out: Path, files: Files, *, last: Sequence[Path]) -> None:
    """Write what a call wrote elsewhere; at last the files that say that it is done."""
    final = [_name(file, out) for file in last]
    for name in sorted(files, key=lambda name: name in final):
        with whole_file(out / name) as file:
            file.write(files[name])


def _packed(value: Any, out: Path, given: Files) -> Any:
    """Return a value whose paths below the results lead there on any machine.

    The files that they name are added to `given`.
    """
    if isinstance(value, Path):
        if not (value == out or value.is_relative_to(out / PROJECTIONS)):
            return value
        if value.is_file():
            given[_name(value, out)] = value.read_bytes()
        return _InRun(_name(value, out))
    return _mapped(value, lambda item: _packed(item, out, given))


def _unpacked(value: Any, folder: Path) -> Any:
    if isinstance(value, _InRun):
        return folder / value.name
    return _mapped(value, lambda item: _unpacked(item, folder))


def _mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to what a list, a tuple or a dataclass holds."""
    if isinstance(value, list):
        return [function(item) for item in value]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(function(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        old = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
        new = {name: function(item) for name, item in old.items()}
        changed = {name: item for name, item in new.items() if item is not old[name]}
        return replace(value, **changed) if changed else value
    return value


def _kept(value: Any, cluster: Cluster) -> Any:
    """Return a value, or a list of values, of which the large ones travel once."""
    if isinstance(value, list):
        return [_kept(item, cluster) for item in value]
    return cluster.keep(value) if _n_bytes(value) >= _LARGE_BYTES else value


def _n_bytes(value: Any) -> int:
    """Return the size of the arrays that a value holds."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if is_dataclass(value):
        return sum(_n_bytes(getattr(value, one.name)) for one in fields(value))
    return 0


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()
