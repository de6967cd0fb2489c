"""One other process to work in, that may be killed without harm to the rest."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from multiprocessing.util import Finalize
from typing import Any

from tllboost.grid.sharing import opened

__all__ = ["OtherProcess", "ProcessDied", "elsewhere", "release_memory"]

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
_resident = 0


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
            process = self._executor.submit(_ready).result()
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
    global _resident
    import psutil

    process = psutil.Process()
    if process.memory_info().rss - _resident < _WORTH_IT:
        return
    gc.collect()
    trim = (
        getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    )
    if trim is not None:  # of glibc alone
        trim(0)
    _resident = process.memory_info().rss


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


def _ready() -> int:
    """Load what every cell needs, so that no cell's time has it, and tell who it is."""
    import tllboost.grid.workers  # noqa: F401

    return os.getpid()


def _run(folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    # A warm process may stand where this one did when it was started.
    os.chdir(folder)
    return function(*(opened(argument) for argument in arguments))
