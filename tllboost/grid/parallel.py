"""Work in other processes: within limits, and one that dies takes no other with it."""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tllboost.errors import UsageError
from tllboost.grid.counting import Progress, counting
from tllboost.grid.processes import OtherProcess, ProcessDied
from tllboost.grid.sharing import Sharing

if TYPE_CHECKING:
    from tllboost.cluster import Cluster

__all__ = ["NO_LIMITS", "Call", "Limits", "run_parallel"]

_STOPPED = "stopped"


@dataclass(frozen=True)
class Limits:
    """What a cell, or the fit of a projection, may take; more makes it a failed one.

    Parameters
    ----------
    seconds : float or None, default=None
        Wall time; that of loading xgboost or torch in a new process counts.
    megabytes : float or None, default=None
        Resident memory of the process, libraries and mapped vectors included; looked
        at twenty times a second.

    Raises
    ------
    UsageError
        If one is not above zero.
    """

    seconds: float | None = None
    megabytes: float | None = None

    def __post_init__(self) -> None:
        for what, value in (("timeout", self.seconds), ("memory", self.megabytes)):
            if value is not None and not value > 0:
                msg = f"the {what} of a cell must be above 0, not {value!r}"
                raise UsageError(msg)


NO_LIMITS = Limits()


@dataclass(frozen=True, eq=False)
class Call:
    """A function to call in another process.

    Attributes
    ----------
    function : callable
        Writes its files one after the other, and passes over those that are there. It
        handles its own errors; one that it raises ends the run.
    arguments : tuple
    files : sequence of Path
        What tells what is finished.
    fail : callable
        Called with the index of a file and the reason why it was not written; writes
        it instead.
    names : sequence of str, default=()
        What each file stands for, for people.
    """

    function: Callable[..., None]
    arguments: tuple[Any, ...]
    files: Sequence[Path]
    fail: Callable[[int, str], None]
    names: Sequence[str] = ()

    @property
    def n_done(self) -> int:
        """How many files are there."""
        return sum(file.exists() for file in self.files)

    @property
    def current(self) -> str:
        """The name of what is being worked at, or nothing."""
        n_done = self.n_done
        return self.names[n_done] if n_done < len(self.names) else ""


def run_parallel(
    calls: Sequence[Call],
    workers: int,
    progress: Progress | None,
    what: str,
    *,
    out: Path,
    limits: Limits = NO_LIMITS,
    cluster: Cluster | None = None,
) -> None:
    """Run calls in other processes, side by side.

    What is over a limit fails. What a process was at when it died is tried once more
    when all else is done, alone, and fails if that dies as well.

    Parameters
    ----------
    calls : sequence of Call
    workers : int
        Processes.
    progress : callable or None
        Called with (done, total, `what`).
    what : str
    out : Path
        The results; large arrays among the arguments lie there meanwhile.
    limits : Limits
    cluster : Cluster or None, default=None
        Whose workers work, in place of processes here.

    Raises
    ------
    Exception
        What a call raised.
    """
    if cluster is not None:
        from tllboost.grid.clustered import run_clustered

        run_clustered(calls, cluster, progress, what, out=out)
        return
    files = [file for call in calls for file in call.files]
    stop = threading.Event()
    died: deque[Call] = deque()
    running: list[Call] = []
    with (
        Sharing(out) as sharing,
        counting(files, progress, what, lambda: _names(running)),
        warnings.catch_warnings(),
    ):
        # loky replaces a process whose memory has grown, and says so; nothing is lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")
        shared = [
            replace(call, arguments=tuple(sharing.share([*call.arguments])))
            for call in calls
        ]
        serve = partial(_serve, running=running, limits=limits, stop=stop)
        _run_threads(
            partial(serve, deque(shared), died), min(workers, len(calls)), stop
        )
        _run_threads(partial(serve, deque(died), None), min(1, len(died)), stop)


def _names(running: list[Call]) -> list[str]:
    """Return what other threads are waiting for just now."""
    return [name for name in (call.current for call in [*running]) if name]


def _run_threads(serve: Callable[[], None], n: int, stop: threading.Event) -> None:
    """Run a function on `n` threads; an error or Ctrl-C stops all of them."""
    if n == 0:
        return
    with ThreadPoolExecutor(n) as pool:
        try:
            pending = {pool.submit(serve) for _ in range(n)}
            while pending:
                # With a timeout: else Windows leaves Ctrl-C until the end.
                done, pending = wait(pending, timeout=0.2)
                for future in done:
                    future.result()
        except BaseException:
            stop.set()
            raise


def _serve(
    calls: deque[Call],
    died: deque[Call] | None,
    running: list[Call],
    limits: Limits,
    stop: threading.Event,
) -> None:
    """Work off calls, in one other process at a time, until there are none left."""
    process = OtherProcess()
    try:
        while calls and not stop.is_set():
            try:
                call = calls.popleft()
            except IndexError:  # another thread took the last
                break
            running.append(call)
            _finish(call, process, died, limits, stop)
            running.remove(call)
    except BaseException:
        process.kill()
        raise
    process.release()


def _finish(
    call: Call,
    process: OtherProcess,
    died: deque[Call] | None,
    limits: Limits,
    stop: threading.Event,
) -> None:
    while call.n_done < len(call.files) and not stop.is_set():
        watch = _Watch(call, limits, stop)
        try:
            reason = process.run(call.function, tuple(call.arguments), watch)
        except ProcessDied as error:
            if died is not None:
                died.append(call)
                return
            reason = f"its process died ({error})"
        if reason in ("", _STOPPED):
            return
        # Memory may be what cells before it left behind: it gets a process of its own.
        if watch.is_memory and not (
            process.is_fresh and watch.n_done == watch.n_before
        ):
            continue
        _fail_next(call, reason)


def _fail_next(call: Call, reason: str) -> None:
    for index, file in enumerate(call.files):
        if not file.exists():
            call.fail(index, reason)
            return


class _Watch:
    """What a call takes since its last file, held against the limits."""

    def __init__(self, call: Call, limits: Limits, stop: threading.Event) -> None:
        self.call, self.limits, self.stop = call, limits, stop
        self.n_before = self.n_done = call.n_done
        self.since = time.monotonic()
        self.is_memory = False

    def __call__(self, process: int) -> str:
        """Return why the process must end, or nothing."""
        if self.stop.is_set():
            return _STOPPED
        if self.limits == NO_LIMITS:
            return ""
        n_done = self.call.n_done
        if n_done > self.n_done:
            self.n_done, self.since = n_done, time.monotonic()
        seconds, megabytes = self.limits.seconds, self.limits.megabytes
        if seconds is not None and time.monotonic() - self.since > seconds:
            return f"it took more than {seconds:g} s, the limit of a cell"
        if megabytes is not None and _resident(process) > megabytes * 2**20:
            self.is_memory = True
            return f"it took more than {megabytes:g} MB, the limit of a cell"
        return ""


def _resident(process: int) -> int:
    import psutil

    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:  # it has just ended
        return 0
