"""The backend that works on a Dask cluster, somebody's or one of this machine alone."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, nullcontext
from functools import cache
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from tllboost.errors import ClusterError, MissingLibraryError, UsageError
from tllboost.processes import Job, ProcessDied, Processes, Progress
from tllboost.vectorizers.base import usable_cores

__all__ = ["Cluster", "perform", "versions"]

# Figures depend on these; the fingerprint of a vectorizer speaks for its own library.
_LIBRARIES = ("tllboost", "numpy", "scikit-learn", "xgboost")
# A worker with many threads is given many jobs. Numerical libraries count the threads
# of the whole process, and so would its peak of memory be of them all.
_ALONE = threading.Lock()


@cache
def versions() -> dict[str, str]:
    """Return the versions of what makes figures what they are.

    Examples
    --------
    >>> sorted(versions())
    ['numpy', 'python', 'scikit-learn', 'tllboost', 'xgboost']
    """
    python = ".".join(platform.python_version_tuple()[:2])
    found = {name: [*distributions(name=name)] for name in _LIBRARIES}
    installed = {name: one[0].version for name, one in found.items() if one}
    return {"python": python, **dict.fromkeys(_LIBRARIES, "(none)"), **installed}


def perform(
    wanted: Mapping[str, str],
    folder: str,
    function: Callable[..., Any],
    arguments: list[Any],
) -> Any:
    """Call a function here, on a worker.

    Parameters
    ----------
    wanted : mapping of str to str
        The versions where the job comes from.
    folder : str
        What relative paths are relative to, where it is to be had here.
    function : callable
    arguments : list

    Raises
    ------
    UsageError
        If other versions are installed here.
    """
    here = versions()
    for name, one in wanted.items():
        if here[name] != one:
            msg = (
                f"the Dask worker on {platform.node()} has {name} {here[name]}, and "
                f"{one} is here: install the same on all machines"
            )
            raise UsageError(msg)
    with _ALONE, chdir(folder) if os.path.isdir(folder) else nullcontext():
        return function(*arguments)


_LOOK_SECONDS = 0.5
# So many jobs a worker lie with the scheduler: enough that no worker waits.
_AHEAD = 4
_MISSING = "--backend dask needs Dask, not installed: pip install 'tllboost[dask]'"


class Cluster:
    """Workers of a Dask cluster, as long as the block lasts.

    What is sent is pickled, as all that Dask sends: whoever reaches the scheduler of a
    cluster can run what they like on it, so it belongs into a network of your own.

    Parameters
    ----------
    scheduler : str or None, default=None
        Address, as ``tcp://10.0.0.1:8786``. None starts workers on this machine, which
        end with the block.
    n_workers : int or None, default=None
        How many of those; None takes one a core.
    large : int or None, default=None
        Training pairs from which an ``xgboost`` cell of a grid is trained by all
        workers together; None leaves each cell to one.
    patience : float, default=60
        Seconds to wait for a scheduler, and for a worker where there is none.

    Examples
    --------
    >>> Cluster("tcp://10.0.0.1:8786").scheduler
    'tcp://10.0.0.1:8786'
    """

    def __init__(
        self,
        scheduler: str | None = None,
        *,
        n_workers: int | None = None,
        large: int | None = None,
        patience: float = 60.0,
    ) -> None:
        self.scheduler = scheduler
        self.n_workers = n_workers
        self.large = large
        self.patience = patience

    def __enter__(self) -> Self:
        """Connect, and start workers if there is no scheduler.

        Raises
        ------
        MissingLibraryError
            If Dask is not installed.
        UsageError
            If no scheduler answers at the address.
        ClusterError
            If no worker comes.
        """
        if find_spec("distributed") is None:
            raise MissingLibraryError(_MISSING)
        import dask

        self._kept: dict[int, tuple[Any, Any]] = {}
        # What is large is sent once, and on purpose.
        quiet = {"distributed.admin.large-graph-warning-threshold": "1PB"}
        with ExitStack() as stack:
            stack.enter_context(dask.config.set(quiet))
            self.client = stack.enter_context(self._connected(stack))
            self._wait_for_a_worker()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._kept.clear()
        self._stack.close()

    @property
    def size(self) -> int:
        """How many workers there are just now."""
        return len(self.client.nthreads())

    def keep(self, value: Any) -> Any:
        """Return what stands for a large value in the arguments of jobs.

        It travels once. The scheduler holds it, and gives it to another worker where
        one that had it is lost.
        """
        if id(value) not in self._kept:
            # Held here too, so that its id is not given to another.
            self._kept[id(value)] = (value, self._submit(lambda same: same, value))
        return self._kept[id(value)][1]

    def is_large(self, head: str, n_pairs: int) -> bool:
        """Tell whether a cell is one for all workers together.

        The lists of a ranking can't be cut: those heads are for one worker.
        """
        return self.large is not None and head == "xgboost" and n_pairs >= self.large

    def batches(
        self, make: Callable[..., Any], vectorizer: Any, images: Any, **settings: Any
    ) -> Generator[dict[str, Any], None, None]:
        """Yield the vectors of images as workers make them: see `cluster.shards`."""
        from tllboost.cluster.shards import shard_batches

        return shard_batches(self, make, vectorizer, images, settings["batch_size"])

    def call(
        self, function: Callable[..., Any], *arguments: Any, is_large: bool = False
    ) -> Any:
        """Return what a function returns, all trees in it grown on the cluster.

        What is not large is called in another process of this machine.
        """
        if not is_large:
            return Processes().call(function, *arguments)
        from tllboost.cluster.boosting import ClusterGrower
        from tllboost.heads.boosting import grown_by

        with grown_by(ClusterGrower(self)):
            return function(*arguments)

    def run(
        self, jobs: Sequence[Job], out: Path, what: str, progress: Progress | None
    ) -> None:
        """Run jobs on the workers: see `cluster.calls`."""
        from tllboost.cluster.calls import run_jobs

        run_jobs(self, jobs, out, what, progress)

    def each(
        self,
        jobs: deque[Job],
        running: Callable[[list[str]], None] | None = None,
    ) -> Iterator[tuple[Job, Any]]:
        """Yield every job with its outcome, as they end.

        Where a worker is lost, its jobs go to others. A job may be appended while the
        others run.

        Parameters
        ----------
        jobs : deque of Job
            Emptied from the left.
        running : callable or None
            Called with the names of the jobs that are being done, now and then.

        Yields
        ------
        (Job, object)
            What the function returned; a :class:`~tllboost.processes.ProcessDied`
            where four workers were lost over one job, the number that Dask allows
            unless it is told another.

        Raises
        ------
        ClusterError
            If the scheduler is lost, or all workers are and none comes.
        Exception
            What a function raised.
        """
        from distributed import CancelledError, KilledWorker, TimeoutError, wait

        out: dict[Any, Job] = {}
        looked = -1.0
        try:
            while jobs or out:
                if time.monotonic() - looked > _LOOK_SECONDS:
                    n_workers, looked = self._wait_for_a_worker(), time.monotonic()
                    if running is not None:
                        tasks = self.client.processing().values()
                        at = {key for keys in tasks for key in keys}
                        running([j.names[0] for one, j in out.items() if one.key in at])
                for _ in range(min(len(jobs), _AHEAD * n_workers - len(out))):
                    job = jobs.popleft()
                    call = (versions(), os.getcwd(), job.function, [*job.arguments])
                    out[self._submit(perform, *call)] = job
                try:
                    with self.client.as_current():
                        ended = wait([*out], _LOOK_SECONDS, "FIRST_COMPLETED").done
                except TimeoutError:
                    continue
                for future in ended:
                    try:
                        outcome = future.result()
                    except KilledWorker:
                        how = "each worker that tried it died; out of memory?"
                        outcome = ProcessDied(how)
                    except CancelledError as error:
                        raise ClusterError(self._lost()) from error
                    yield out.pop(future), outcome
        finally:
            # Those of a generator that nobody asks for more, too.
            if out and self.client.status == "running":
                self.client.cancel(list(out), force=True)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.client.submit(function, *arguments, pure=False)

    def _wait_for_a_worker(self) -> int:
        """Return how many there are, when there is one."""
        try:
            if self.client.status == "running":
                self.client.wait_for_workers(1, timeout=self.patience)
                return self.size
        except TimeoutError:
            msg = (
                f"no worker has come to {self._where()} for {self.patience:g} s: "
                "start some with 'dask worker ADDRESS'; what is done is kept"
            )
            raise ClusterError(msg) from None
        except (OSError, RuntimeError) as error:
            raise ClusterError(self._lost()) from error
        raise ClusterError(self._lost())

    def _lost(self) -> str:
        return (
            f"the scheduler of {self._where()} is gone: start it, and the same command "
            "goes on where it was"
        )

    def _where(self) -> str:
        return repr(self.scheduler) if self.scheduler else "this machine's own cluster"

    def _connected(self, stack: ExitStack) -> Any:
        from distributed import Client, LocalCluster

        address: Any = self.scheduler
        if address is None:
            n_workers = self.n_workers or os.cpu_count() or 1
            address = stack.enter_context(
                LocalCluster(
                    n_workers=n_workers,
                    threads_per_worker=1,
                    memory_limit=0,  # one that is over Dask's limit just waits
                    dashboard_address="127.0.0.1:0",  # any port, for this machine alone
                    silence_logs="CRITICAL",
                    env={"TLLBOOST_CORES": str(max(1, usable_cores() // n_workers))},
                )
            )
        try:
            return Client(
                address,
                timeout=self.patience,
                set_as_default=False,
                name="tllboost",
            )
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            msg = (
                f"no Dask scheduler answers at {self.scheduler!r}: give the address "
                "that 'dask scheduler' names, as tcp://10.0.0.1:8786"
            )
            raise UsageError(msg) from error
