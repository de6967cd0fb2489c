"""Arrays that other processes map from a file rather than get a copy of.

One other process to work in, that may be killed without harm to the rest.

How much is done, told while other processes do it.

Work in other processes: within limits, and one that dies takes no other with it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import shutil
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from tllboost.errors import UsageError
from tllboost.files import whole_file

__all__ = [
    "NO_LIMITS",
    "Call",
    "Limits",
    "ProcessDied",
    "Progress",
    "counting",
    "elsewhere",
    "release_memory",
    "run_parallel",
]

SHARED = ".shared"
_SMALL_BYTES = 2**20


@dataclass(frozen=True)
class _Kept:
    """Where an array lies."""

    path: Path


class Sharing:
    """Files of arrays, in a folder of the results, as long as the block lasts.

    Parameters
    ----------
    folder : Path
        The results; what a killed run left in it is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / SHARED
        self._kept: dict[int, tuple[Any, _Kept]] = {}

    def __enter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Windows removes no file that a process, idle and warm, still maps.
        shutil.rmtree(self._folder, ignore_errors=True)

    def share(self, value: Any) -> Any:
        """Return what stands for a value; large arrays, and lists of them, are kept."""
        if isinstance(value, list):
            return [self.share(item) for item in value]
        if not isinstance(value, np.ndarray) or value.nbytes < _SMALL_BYTES:
            return value
        if id(value) not in self._kept:
            path = self._folder / f"{len(self._kept)}.npy"
            with whole_file(path) as file:
                np.save(file, value, allow_pickle=False)
            # The array is held too, so that its id is not given to another.
            self._kept[id(value)] = (value, _Kept(path))
        return self._kept[id(value)][1]


def opened(value: Any) -> Any:
    """Return the value that something stands for, arrays mapped for reading."""
    if isinstance(value, list):
        return [opened(item) for item in value]
    if isinstance(value, _Kept):
        return np.load(value.path, mmap_mode="r", allow_pickle=False)
    return value


_IDLE_SECONDS = 300  # as joblib's own: the next grid of a notebook finds them warm
_LOOK_SECONDS = 0.05
_PARENT_SECONDS = 0.5
_WORTH_IT = 32 << 20  # bytes more than after the last cell that was cleaned up behind
# Cells run side by side: libraries that each took all cores would wait for each other.
_ONE_THREAD = dict.fromkeys(
    (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
        *("BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"),
        "NUMBA_NUM_THREADS",
    ),
    "1",
)
# Warm processes of earlier runs in this one; each ends by itself when it is idle.
_idle: list[Any] = []
# A fork can't use those of its parent, and must not end them either.
_of_the_parent: list[Any] = []
# Whether they end with this process, too, where it is itself one of multiprocessing's.
_end_with_this: list[bool] = []
# What this process held when it was last cleaned up.
_resident_before = 0


def _leave_to_the_parent() -> None:
    _of_the_parent.extend(_idle)
    _idle.clear()
    _end_with_this.clear()


def _end_idle() -> None:
    """End the idle processes: the end of this one would wait until they are tired."""
    while _idle:
        _idle.pop().shutdown(kill_workers=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)


class ProcessDied(Exception):
    """The process that worked is gone; the text says how."""


class OtherProcess:
    """One other process at a time, a new one after each that was killed or died.

    Attributes
    ----------
    is_fresh : bool
        Whether nothing has run in it yet.
    returned : object
        What the last function returned.
    """

    def __init__(self) -> None:
        self._executor: Any = None
        self.is_fresh = False
        self.returned: Any = None

    def run(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        look: Callable[[int], str],
    ) -> str:
        """Call a function there.

        Parameters
        ----------
        function : callable
        arguments : tuple
        look : callable
            Called with the process id again and again; what it returns, unless it is
            empty, ends the process.

        Returns
        -------
        str
            What `look` returned; empty where the function came to its end.

        Raises
        ------
        ProcessDied
            If the process ended, and not by `look`.
        Exception
            What the function raised.
        """
        from joblib.externals.loky import BrokenProcessPool

        if self._executor is None:
            self._start()
        try:
            process = self._executor.submit(_ready, function).result()
            future = self._executor.submit(_run, os.getcwd(), function, arguments)
            reason = _watched(future, lambda: look(process))
            if not reason:
                self.returned = future.result()
        except BrokenProcessPool as error:
            self.kill()
            raise ProcessDied(_how(error)) from error
        except BaseException:
            self.kill()
            raise
        if reason:
            self.kill()
        else:
            self.is_fresh = False
        return reason

    def kill(self) -> None:
        """End the process, whatever it does; the next call starts another."""
        if self._executor is not None:
            executor, self._executor = self._executor, None
            executor.shutdown(wait=True, kill_workers=True)

    def release(self) -> None:
        """Leave the process, still warm, to whoever needs one next."""
        if self._executor is not None:
            _idle.append(self._executor)
            self._executor = None
            if not _end_with_this:
                # Unlike atexit, this is called in multiprocessing's processes as well.
                Finalize(None, _end_idle, exitpriority=100)
                _end_with_this.append(True)

    def _start(self) -> None:
        from joblib.externals.loky import ProcessPoolExecutor

        self.is_fresh = not _idle
        self._executor = (
            _idle.pop()
            if _idle
            else ProcessPoolExecutor(
                1,
                timeout=_IDLE_SECONDS,
                env=_ONE_THREAD,
                initializer=_set_up,
                initargs=(os.getpid(),),
            )
        )


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in another process.

    Raises
    ------
    ProcessDied
        If the process ended.
    Exception
        What the function raised.
    """
    process = OtherProcess()
    process.run(function, arguments, lambda _: "")
    process.release()
    return process.returned


def release_memory() -> None:
    """Give back what is no longer used, so that the next cell does not add to it.

    XGBoost's iterators are in cycles, and hold features and bins; and the C library
    keeps what many small pieces were freed of. Where a cell left little, nothing is
    looked for: with all libraries loaded that takes longer than a small cell does.
    """
    global _resident_before
    import psutil

    process = psutil.Process()
    if process.memory_info().rss - _resident_before < _WORTH_IT:
        return
    gc.collect()
    trim = (
        getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    )
    if trim is not None:  # of glibc alone
        trim(0)
    _resident_before = process.memory_info().rss


def _watched(future: Future[Any], look: Callable[[], str]) -> str:
    while not wait([future], timeout=_LOOK_SECONDS).done:
        reason = look()
        if reason:
            return reason
    return ""


def _how(error: Exception) -> str:
    """Return how a process ended, from what the pool says of it."""
    found = re.search(r"exit codes of the workers are \{(.*?)\}", str(error))
    return f"{found[1]}; out of memory?" if found else "out of memory?"


def _set_up(parent: int) -> None:
    from joblib.externals.loky import process_executor

    # loky retires a process that has grown by 300 MB, which importing torch does: each
    # projection would start a process anew. Memory is watched by our own limits.
    process_executor._USE_PSUTIL = False
    # Ctrl-C goes to all processes of a terminal; the one that started these ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, whatever it is at.

    loky leaves them to a parent that was killed: they would compute on, and whoever
    reads the parent's output through a pipe would wait for them.
    """
    import psutil

    # A process without a parent gets another one; on Windows it keeps the number.
    while os.getppid() == parent and psutil.pid_exists(parent):
        time.sleep(_PARENT_SECONDS)
    os._exit(1)


def _ready(function: Callable[..., Any]) -> int:
    """Tell who this is.

    The module of the function is loaded when it arrives, so that the time of the call
    itself does not have that.
    """
    return os.getpid()


def _run(folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    # A warm process may stand where this one did when it was started.
    os.chdir(folder)
    return function(*(opened(argument) for argument in arguments))


Progress = Callable[[int, int, str], None]
"""Called with (done, total, what); what has a method ``running`` is also told the
names of what is being worked at."""


@contextmanager
def counting(
    files: Iterable[Path],
    progress: Progress | None,
    what: str,
    names: Callable[[], Sequence[str]] = tuple,
    every_s: float = 0.5,
) -> Iterator[None]:
    """Tell how many of the files are there, while they are written, and what runs."""
    wanted = list(files)
    if progress is None or not wanted:
        yield
        return
    stop = threading.Event()
    running = getattr(progress, "running", None)

    def tell() -> None:
        if running is not None:
            running(names())
        progress(sum(file.exists() for file in wanted), len(wanted), what)

    def watch() -> None:
        while not stop.wait(every_s):
            tell()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        tell()


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

    Raises
    ------
    Exception
        What a call raised.
    """
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
