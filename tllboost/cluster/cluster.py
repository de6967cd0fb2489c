"""The backend that works on a Dask cluster, somebody's or one of this machine alone."""

from __future__ import annotations

import os
import platform
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, nullcontext
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tllboost.errors import ClusterError, MissingLibraryError, UsageError
from tllboost.processes import Job, ProcessDied, Processes, Progress

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
    return {"python": python, **{name: _version(name) for name in _LIBRARIES}}


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


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(none)"


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
        self._kept: dict[int, tuple[Any, Any]] = {}
        with ExitStack() as stack:
            self.client = stack.enter_context(self._connected(stack))
            self._wait_for_a_worker()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
            self._kept[id(value)] = (value, self._submit(_as_it_is, value))
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
        out: dict[Any, Job] = {}
        looked, n_workers = -1.0, 0
        try:
            while jobs or out:
                if time.monotonic() - looked > _LOOK_SECONDS:
                    looked, n_workers = time.monotonic(), self.size
                    if running is not None:
                        running(self._names(out))
                for _ in range(min(len(jobs), _AHEAD * n_workers - len(out))):
                    job = jobs.popleft()
                    out[self._send(job)] = job
                for future in self._ended(list(out)):
                    yield out.pop(future), self._outcome(future)
        finally:
            # Those of a generator that nobody asks for more, too.
            if out and self.client.status == "running":
                self.client.cancel(list(out), force=True)

    def _send(self, job: Job) -> Any:
        arguments = (versions(), os.getcwd(), job.function, [*job.arguments])
        return self._submit(perform, *arguments)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        import dask

        key = f"tllboost-{secrets.token_hex(8)}"
        # What is large is sent once, and on purpose.
        with dask.config.set(
            {"distributed.admin.large-graph-warning-threshold": "1PB"}
        ):
            return self.client.submit(function, *arguments, key=key, pure=False)

    def _ended(self, futures: list[Any]) -> list[Any]:
        """Return which have ended, after waiting for one, though not for long."""
        from distributed import TimeoutError, wait

        if not futures:
            self._wait_for_a_worker()
            return []
        try:
            with self.client.as_current():
                done = wait(
                    futures, timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED"
                ).done
            return list(done)
        except TimeoutError:
            if self.client.status != "running":
                raise ClusterError(self._lost()) from None
            self._wait_for_a_worker()
            return []

    def _outcome(self, future: Any) -> Any:
        from distributed import CancelledError, KilledWorker

        try:
            return future.result()
        except KilledWorker:
            return ProcessDied("each worker that tried it died; out of memory?")
        except CancelledError as error:
            raise ClusterError(self._lost()) from error

    def _names(self, out: dict[Any, Job]) -> list[str]:
        """Return the names of what workers are at."""
        at = {key for keys in self.client.processing().values() for key in keys}
        return [job.names[0] for one, job in out.items() if one.key in at]

    def _wait_for_a_worker(self) -> None:
        until = time.monotonic() + self.patience
        while not self._size_or_none():
            if time.monotonic() > until:
                msg = (
                    f"no worker has come to {self._where()} for {self.patience:g} s: "
                    "start some with 'dask worker ADDRESS'; what is done is kept"
                )
                raise ClusterError(msg)
            time.sleep(_LOOK_SECONDS)

    def _size_or_none(self) -> int:
        try:
            return self.size
        except (OSError, TimeoutError, RuntimeError) as error:
            raise ClusterError(self._lost()) from error

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
                    env={"TLLBOOST_CORES": str(max(1, _n_cores() // n_workers))},
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


def _as_it_is(value: Any) -> Any:
    return value


def _n_cores() -> int:
    from tllboost.vectorizers.base import usable_cores

    return usable_cores()
