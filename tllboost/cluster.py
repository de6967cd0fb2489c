"""The backend that works on a Dask cluster, somebody's or one of this machine alone.

Jobs of a grid travel with the files that they read, so no folder need be shared. Images
are vectorized where they lie, by shards, and who asked for the vectors stores them.
"""

from __future__ import annotations

import os
import platform
import secrets
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, nullcontext
from dataclasses import KW_ONLY, dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from tllboost.conventions import environment, usable_cores
from tllboost.errors import ClusterError, UsageError, need, retold
from tllboost.files import write_bytes
from tllboost.processes import Job, ProcessDied, Processes, Progress, end_idle, tell

# Figures depend on these; the fingerprint of a vectorizer speaks for its own library.
_LIBRARIES = ("tllboost", "numpy", "scikit-learn", "xgboost")
# A worker with many threads is given many jobs. Numerical libraries count the threads
# of the whole process, and so would its peak of memory be of them all.
_ALONE = threading.Lock()
_PIXELS = "TLLBOOST_MAX_PIXELS"
_OWN_PIXELS = os.environ.get(_PIXELS, "")


def versions() -> dict[str, str]:
    """Return the versions of what makes figures what they are.

    Examples
    --------
    >>> sorted(versions())
    ['numpy', 'python', 'scikit-learn', 'tllboost', 'xgboost']
    """
    python, known = platform.python_version_tuple(), environment()["versions"]
    found = {name: known.get(name, "(none)") for name in _LIBRARIES}
    return {"python": ".".join(python[:2]), **found}


def perform(
    wanted: Mapping[str, str],
    folder: str,
    function: Callable[..., Any],
    arguments: list[Any],
    most_pixels: str = "",
) -> Any:
    """Call a function here, on a worker.

    Parameters
    ----------
    wanted : mapping of str to str
        The versions where the job comes from.
    folder : str
        What relative paths are relative to, if it exists here.
    function : callable
    arguments : list
    most_pixels : str, default=""
        What ``TLLBOOST_MAX_PIXELS`` is for the call; "" leaves what it is here.

    Raises
    ------
    UsageError
        If other versions are installed here.
    """
    here = versions()
    for name, one in wanted.items():
        if here[name] != one:
            msg = (
                f"the Dask worker on {platform.node()} has {name} {here[name]}, this "
                f"machine has {one}: install the same version on all machines"
            )
            raise UsageError(msg)
    with _ALONE, chdir(folder) if os.path.isdir(folder) else nullcontext():
        if os.environ.get(_PIXELS, "") != (most_pixels or _OWN_PIXELS):
            os.environ[_PIXELS] = most_pixels or _OWN_PIXELS
            end_idle()  # decoders whose memory is that for other images
        return function(*arguments)


_LOOK_SECONDS = 0.5
_MOST_SECONDS = 10.0
_LARGE_BYTES = 2**20
# Batches of a shard: the most that the loss of a worker, or of this process, costs.
_LARGEST = 8
# A worker is so many times given a shard, at least, so that none waits for another.
_SHARES = 4
# The vectorizer of the last shard here, its network loaded.
_LAST: dict[str, Any] = {}
# So many jobs a worker lie with the scheduler: enough that no worker waits.
_AHEAD = 4


@dataclass(eq=False)
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
    patience : float, default=60
        Seconds to wait for a scheduler, at most 10, and for a worker where there is
        none.

    Examples
    --------
    >>> Cluster("tcp://10.0.0.1:8786").scheduler
    'tcp://10.0.0.1:8786'
    """

    scheduler: str | None = None
    _: KW_ONLY
    n_workers: int | None = None
    patience: float = 60.0

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
        need("distributed", "--backend dask")
        import dask
        import distributed  # noqa: F401 (its defaults first: else they go with ours)

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

    def batches(
        self,
        make: Callable[..., Any],
        vectorizer: Any,
        images: Sequence[tuple[str, str | os.PathLike[str]]],
        *,
        batch_size: int,
    ) -> Generator[dict[str, Any], None, None]:
        """Yield the vector of each image, or why it has none, a shard at a time.

        Images and weights must lie under the same paths for all workers. An image that
        takes down each worker that looks at it fails alone.

        Parameters
        ----------
        make : callable
            :func:`~tllboost.vectorizing.vector_batches`, which the workers call.
        vectorizer : Vectorizer
        images : sequence of (str, path-like), length n_images
            Content hash of each image, all different, and its file.
        batch_size : int
            Images a forward pass.

        Yields
        ------
        dict of str to (ndarray of shape (n_dims,), float32, or str)
            Vector or reason, by content hash.

        Raises
        ------
        UsageError
            If a worker would make other vectors.
        """
        token = secrets.token_hex(8)
        print_ = vectorizer.fingerprint if images else ""

        def job(shard: Sequence[tuple[str, str | os.PathLike[str]]]) -> Job:
            files = [(key, os.path.abspath(path)) for key, path in shard]
            return Job(_vectorize, (token, vectorizer, print_, files, make, batch_size))

        share = len(images) // (batch_size * _SHARES * max(1, self.size))
        size = batch_size * min(_LARGEST, max(1, share))
        jobs = deque(
            job(images[first : first + size]) for first in range(0, len(images), size)
        )
        for done, outcome in self.each(jobs):
            shard = done.arguments[3]
            if not isinstance(outcome, ProcessDied):
                yield outcome
            elif len(shard) == 1:
                yield {shard[0][0]: f"can't be vectorized ({outcome})"}
            else:
                middle = len(shard) // 2
                jobs.extend([job(shard[:middle]), job(shard[middle:])])

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function returns in another process of this machine."""
        return Processes().call(function, *arguments)

    def run(
        self, jobs: Sequence[Job], out: Path, what: str, progress: Progress | None
    ) -> None:
        """Run jobs on the workers, as :class:`~tllboost.processes.Processes` does here.

        A worker calls in a folder of its own, which holds what the job reads of `out`;
        what it writes there comes back, and is written to `out` from here alone. What
        takes down each worker that tries it, also alone and after all others, fails,
        and no other with it.

        Parameters
        ----------
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

        def handed_out(job: Job, wanted: list[int]) -> Job:
            # What exists counts as done, whatever it holds.
            there = {
                name(file): b"" for i, file in enumerate(job.files) if i not in wanted
            }
            there |= {name(file): file.read_bytes() for file in job.reads}
            arguments = [self._sent(one) for one in job.arguments]
            asked = [job.names[index] for index in wanted]
            one = Job(_call, (job.function, arguments, there), names=asked)
            handed[one] = job, wanted
            return one

        told = partial(tell, progress, jobs, what)

        def finish(one: Job, outcome: Any, is_alone: bool) -> None:
            job, wanted = handed.pop(one)
            if not isinstance(outcome, ProcessDied):
                # At last the files that say that it is done.
                last = {name(file) for file in job.files}
                for file in sorted(outcome, key=lambda file: file in last):
                    write_bytes(out / file, outcome[file])
            elif is_alone:
                job.fail(wanted[0], f"its process died ({outcome})")
            else:  # Dask blames all that waited on those workers: each will tell, alone
                waiting.extend(handed_out(job, [index]) for index in wanted)

        first = deque(handed_out(job, [*range(len(job.files))]) for job in jobs)
        for one, outcome in self.each(first, told):
            finish(one, outcome, is_alone=False)
        while waiting:
            for one, outcome in self.each(deque([waiting.popleft()]), told):
                finish(one, outcome, is_alone=True)
        told([])

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
                    most = os.environ.get(_PIXELS, "")
                    out[self._submit(perform, *call, most)] = job
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

    def _sent(self, value: Any) -> Any:
        """Return what stands for a value, or a list of values, in arguments of jobs.

        A large one travels once. The scheduler holds it, and gives it to another worker
        where one that had it is lost.
        """
        if isinstance(value, list):
            return [self._sent(item) for item in value]
        if _n_bytes(value) < _LARGE_BYTES:
            return value
        if id(value) not in self._kept:
            # Held here too, so that its id is not given to another.
            self._kept[id(value)] = (value, self._submit(lambda same: same, value))
        return self._kept[id(value)][1]

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
                f"no worker has joined {self._where()} for {self.patience:g} s: "
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
        from distributed import Client, LocalCluster, Security
        from distributed.comm import connect
        from distributed.utils import LoopRunner

        async def greet(seconds: float) -> None:
            certificates = Security().get_connection_args("client")
            (await connect(address, timeout=seconds, **certificates)).abort()

        address: Any = self.scheduler
        if address is None:
            if not os.environ.get("PYTHONSAFEPATH"):
                # Nothing that is started here imports from the working folder.
                os.environ["PYTHONSAFEPATH"] = "1"
                stack.callback(os.environ.pop, "PYTHONSAFEPATH", None)
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
        text = (
            f"no Dask scheduler answers at {self.scheduler!r}: give the address that "
            "'dask scheduler' prints, as tcp://10.0.0.1:8786"
        )
        with retold(text, UsageError):  # what answers there may be anything
            if self.scheduler is not None:
                # A client that found none would hold the process for two minutes.
                seconds = min(self.patience, _MOST_SECONDS)
                LoopRunner(asynchronous=False).run_sync(greet, seconds)
            return Client(
                address,
                timeout=self.patience,
                set_as_default=False,
                name="tllboost",
            )


def _call(
    function: Callable[..., None], arguments: list[Any], there: dict[str, bytes]
) -> dict[str, bytes]:
    """Call a function here, on a worker; return the files that it wrote."""
    from distributed import get_worker

    with tempfile.TemporaryDirectory(dir=get_worker().local_directory) as own:
        folder = Path(own)
        for file, content in there.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        function(folder, *arguments)
        return {
            name: path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and (name := path.relative_to(folder).as_posix()) not in there
        }


def _n_bytes(value: Any) -> int:
    """Return the size of the arrays that a value holds."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if is_dataclass(value):
        return sum(_n_bytes(getattr(value, one.name)) for one in fields(value))
    return 0


def _vectorize(
    token: str,
    vectorizer: Any,
    fingerprint: str,
    images: list[tuple[str, str]],
    make: Callable[..., Any],
    batch_size: int,
) -> dict[str, np.ndarray | str]:
    """Vectorize a shard here, on a worker."""
    from distributed import get_worker

    if token not in _LAST:
        _LAST.clear()
        _refuse_other(vectorizer, fingerprint)
        if hasattr(vectorizer, "keep_networks_in"):
            # What a network is exported to lies in the worker's own folder.
            folder = get_worker().local_directory
            vectorizer.keep_networks_in(os.path.join(folder, "networks"))
        _LAST[token] = vectorizer
    vectors: dict[str, np.ndarray | str] = {}
    for batch in make(_LAST[token], images, batch_size=batch_size):
        vectors |= batch
    return vectors


def _refuse_other(vectorizer: Any, fingerprint: str) -> None:
    """Refuse to make vectors that would be stored as those of another network."""
    if vectorizer.fingerprint != fingerprint:
        msg = (
            f"{vectorizer.label} has the fingerprint {vectorizer.fingerprint!r} on the "
            f"Dask worker of {platform.node()}, and here {fingerprint!r}: give all "
            "machines the same weights and the same versions"
        )
        raise UsageError(msg)
