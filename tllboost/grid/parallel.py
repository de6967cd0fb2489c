"""Work in other processes; one that dies takes no other work with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tllboost.grid.counting import counting

__all__ = ["run_parallel"]


def run_parallel(
    calls: Sequence[Any],
    files: Sequence[Path | Sequence[Path]],
    workers: int,
    progress: Callable[[int, int, str], None] | None,
    what: str,
) -> None:
    """Run joblib's delayed calls, each of which writes its own files at its end.

    Parameters
    ----------
    calls : sequence of joblib's delayed calls
        Each handles its own errors; only the death of its process is handled here.
    files : sequence of Path, or of sequences of Path
        What each call writes: progress, and what tells a finished call.
    workers : int
    progress : callable or None
        Called with (done, total, `what`).
    """
    from joblib import Parallel, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    of_call = [[one] if isinstance(one, Path) else list(one) for one in files]
    every = [file for some in of_call for file in some]
    with (
        counting(every, progress, what),
        parallel_config("loky", inner_max_num_threads=1),
        warnings.catch_warnings(),
    ):
        # loky replaces a worker whose memory has grown, and says so; no task is lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")
        try:
            Parallel(n_jobs=workers, batch_size=1)(calls)
        except TerminatedWorkerError:
            # Which call it was is not known: what is left runs once more, one process
            # at a time; a call that kills its process again stays without its files.
            _run_alone(calls, of_call)


def _run_alone(calls: Sequence[Any], files: Sequence[Sequence[Path]]) -> None:
    from joblib import Parallel
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    for call, written in zip(calls, files, strict=True):
        if all(file.exists() for file in written):
            continue
        try:
            # Two jobs: one would run in this very process and take it down.
            Parallel(n_jobs=2, batch_size=1)([call])
        except TerminatedWorkerError:
            continue
