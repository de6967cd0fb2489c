"""Work in other processes: killable, under limits, safe from the working folder.

A `Worker` is one process that answers what it is asked, in plain bytes, until it is
killed, dies, or its parent ends. Images are decoded in such processes, and `Processes`
runs the cells of a grid in them, side by side: one that dies costs its cell only.

A worker never imports from the working folder, which may hold a stranger's code.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import pickle
import queue
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.machinery import PathFinder
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from tllboost.conventions import n_threads_of, usable_cores
from tllboost.errors import WHY, DataError, UsageError, retold

if TYPE_CHECKING:
    from tllboost.cluster import Cluster


Backend: TypeAlias = "Processes | Cluster"
"""What runs the work. Both have the same methods, so callers need not know which."""
Progress = Callable[[int, int, str], None]
"""Called with (done, total, what); what has a method ``running`` is also told the
names of what is being worked at."""
Look = Callable[["Worker"], str]
"""Called with a worker that is at work, twenty times a second; what it returns, unless
it is empty, is the reason to kill it."""

_SHARED, _HELD = ".shared", ".shared-held"
_SHARED_FROM_BYTES = 2**20
_IDLE_SECONDS = 300  # the next grid of a notebook finds its workers warm
_START_SECONDS = 60
_TICK = 0.05
_TELL_SECONDS = 0.5
_PIPE_BYTES = 2**20
_WORTH_IT = 32 << 20  # bytes more than after the last cell that was cleaned up behind


# The two ends of the pipe: a message is its length and its bytes.

_LENGTH = struct.Struct("<Q")


def _send(pipe: BinaryIO, *parts: bytes) -> None:
    pipe.write(_LENGTH.pack(sum(map(len, parts))))
    for part in parts:
        pipe.write(part)
    pipe.flush()


def _listen(
    pipe: BinaryIO, put: Callable[[bytes | None], None], most: Callable[[], int]
) -> None:
    """Pass on each message; at last None: the other end is gone, or talks nonsense."""
    with pipe:
        while len(head := pipe.read(_LENGTH.size)) == _LENGTH.size:
            (n_bytes,) = _LENGTH.unpack(head)
            message = pipe.read(n_bytes) if n_bytes <= most() else b""
            if len(message) != n_bytes:
                break
            put(message)
    put(None)


# In the worker

# All that this needs is Python's own: nothing is imported from elsewhere before the
# path is that of the parent, less the working folder.
_START = """
import json, sys
from importlib.util import module_from_spec, spec_from_file_location
package, told = sys.argv[1], json.loads(sys.argv[2])
sys.path[:] = told["path"]
spec = spec_from_file_location("tllboost", package)
sys.modules["tllboost"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["tllboost"])
from tllboost.processes import serve
serve(**told)
"""


class _Loaded:
    """Finds in the working folder what the parent had from there, and nothing else."""

    folder = ""
    names: Sequence[str] = ()

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        return PathFinder.find_spec(name, [cls.folder]) if name in cls.names else None


def _importable() -> dict[str, Any]:
    """Return what a worker may import: the path, and modules of the working folder.

    The working folder is on the path only if PYTHONPATH names it. Of the modules that
    lie there a worker finds those that are loaded here, as the plug-ins of a script.
    """
    folder = os.getcwd()
    named = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    path = [os.path.abspath(one) for one in sys.path if one]
    if folder not in map(os.path.realpath, named):
        path = [one for one in path if os.path.realpath(one) != folder]
    names = []
    for name, module in sys.modules.copy().items():  # other threads may import
        spec = getattr(module, "__spec__", None)
        places = getattr(spec, "submodule_search_locations", None)
        for place in places or [getattr(spec, "origin", None) or ""]:
            if "." not in name and os.path.dirname(place) == folder:
                names.append(name)
    return {"path": path, "folder": folder, "names": names}


def _import_only(path: list[str], folder: str, names: list[str]) -> None:
    sys.path[:], _Loaded.folder, _Loaded.names = path, folder, names
    if _Loaded not in sys.meta_path:
        sys.meta_path.append(_Loaded)  # type: ignore[arg-type]


def serve(answer: str, argument: str, **importable: Any) -> None:
    """Answer, in a process of its own, until nobody asks any more.

    Parameters
    ----------
    answer : str
        "module:function" of what takes `argument` and returns a function: from the
        bytes of a request to the parts of its answer.
    argument : str
    **importable
        As :func:`_importable` gave it.
    """
    # Ctrl-C goes to all processes of a terminal; the one that started this ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The pipes are out of reach of what reads or prints here.
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    _import_only(**importable)
    module, _, name = answer.partition(":")
    work = getattr(import_module(module), name)(argument)
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def put(request: bytes | None) -> None:
        if request is None:
            os._exit(0)  # the parent is gone, whatever this is at
        waiting.put(request)

    arguments = (requests, put, lambda: sys.maxsize)
    threading.Thread(target=_listen, args=arguments, daemon=True).start()
    with suppress(queue.Empty, OSError):
        # Its own id: that of Popen may be of a launcher (Windows' environments).
        _send(replies, str(os.getpid()).encode())
        while True:
            _send(replies, *work(waiting.get(timeout=_IDLE_SECONDS)))
    os._exit(0)


# In the parent


class ProcessDied(Exception):
    """The process that worked is gone; the text says how.

    ``verdict`` is the reason for which it was killed from here, or empty.
    """

    def __init__(self, how: str, verdict: str = "") -> None:
        super().__init__(how)
        self.verdict = verdict


class Worker:
    """One process that answers what it is asked; one thread at a time may ask.

    Parameters
    ----------
    answer, argument : str
        What it answers with: see :func:`serve`.
    options : sequence of str
        Of Python.
    stderr : int or None
        As that of a subprocess.
    environment : mapping of str to str, optional
        Variables that it has beside those of this process.

    Attributes
    ----------
    n_asked : int
        How many requests it was sent.
    pid : int
        Its process, once it was asked.
    is_sound : bool
        Whether it waits for a request.
    since : float
        When it was last asked, by the monotonic clock.

    Raises
    ------
    DataError
        If it can't be started; also by :meth:`ask`.
    """

    def __init__(
        self,
        answer: str,
        argument: str = "",
        options: Sequence[str] = (),
        stderr: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.n_asked, self.is_sound = 0, True
        self._most = 20  # digits of the process id, which it tells unasked
        package = sys.modules["tllboost"].__file__
        path = os.environ.get("PYTHONPATH", "")
        asked = {"answer": answer, "argument": argument, **_importable()}
        told = json.dumps(asked, allow_nan=False)
        command = [sys.executable, *options, "-c", _START, str(package), told]
        try:
            if getattr(sys, "frozen", False):  # it would start itself again
                msg = "this program is frozen"
                raise OSError(msg)
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                # What it starts itself looks into no working folder either.
                env={
                    **os.environ,
                    "PYTHONSAFEPATH": "1",
                    # An empty part of it would be the working folder.
                    "PYTHONPATH": os.pathsep.join(filter(None, path.split(os.pathsep))),
                    **(environment or {}),
                },
            )
        except (OSError, ValueError) as error:
            raise _no_start(str(error)) from error
        pipes: list[Any] = [self.process.stdin, self.process.stdout]
        # A usual image fits whole: fewer turns between two processes.
        with suppress(AttributeError, ImportError, OSError):  # Linux alone allows it
            import fcntl

            for pipe in pipes:
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._requests, replies = pipes
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        arguments = (replies, self._answers.put, lambda: self._most)
        threading.Thread(target=_listen, args=arguments, daemon=True).start()

    def ask(
        self, *parts: bytes, look: Look = lambda _: "", most: int = sys.maxsize
    ) -> bytes:
        """Return the answer to a request, in parts.

        Parameters
        ----------
        *parts : bytes
        look : callable
        most : int
            Bytes that the answer may have.

        Raises
        ------
        ProcessDied
            If it ended, or was ended for what `look` said.
        """
        # Until the answer is there whole, whatever comes between leaves half of one.
        self.is_sound, self._most = False, most
        self.since = time.monotonic()
        try:
            if not self.n_asked:
                self.pid = int(self._answer(_started))
        except ProcessDied as error:
            raise _no_start(error.verdict or str(error)) from error
        self.n_asked, self.since = self.n_asked + 1, time.monotonic()
        with suppress(OSError):
            _send(self._requests, *parts)
        answer = self._answer(look)
        self.is_sound = True
        return answer

    def _answer(self, look: Look) -> bytes:
        answer, verdict = None, ""
        while not verdict:
            try:
                answer = self._answers.get(timeout=_TICK)
                break
            except queue.Empty:
                verdict = look(self)
        if answer is None:
            self.process.kill()
            code = self.process.wait()
            how = f"exit code {code}" + ("; out of memory?" if code == -9 else "")
            raise ProcessDied(how, verdict)
        return answer

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        with suppress(OSError):
            self._requests.close()
        self.process.wait()


def _started(worker: Worker) -> str:
    late = time.monotonic() - worker.since > _START_SECONDS
    return f"it took more than {_START_SECONDS} s" if late else ""


def _no_start(why: str) -> DataError:
    msg = (
        f"can't start {sys.executable!r} to work beside this process ({why}): it must "
        "be a Python that may start processes"
    )
    return DataError(msg)


class Pool:
    """Workers of one kind, started when needed; those that are idle are used again.

    Parameters
    ----------
    start : callable
        Returns a new worker.
    most : int
        How many may work at once; who asks for more waits.
    """

    def __init__(self, start: Callable[[], Worker], most: int = 2**20) -> None:
        self._start, self._most = start, most
        self._idle: list[Worker] = []
        self._turns = threading.Semaphore(most)
        _pools.add(self)

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """Lend a worker; it is kept if it is sound at the end."""
        with self._turns:
            while True:
                try:
                    worker = self._idle.pop()
                except IndexError:
                    worker = self._start()
                    break
                if worker.process.poll() is None:
                    break
                worker.end()  # it has tired of waiting
            try:
                yield worker
            finally:
                if worker.is_sound:
                    self._idle.append(worker)
                else:
                    worker.end()

    def start(self, n: int) -> None:
        """Start workers before they are asked, up to `n` with those that are idle."""
        self._idle += [self._start() for _ in range(n - len(self._idle))]

    def close(self) -> None:
        """End the idle workers; what is asked later starts new ones."""
        while self._idle:
            self._idle.pop().end()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_of_the_parent: list[Worker] = []


def _start_anew() -> None:
    """Leave the workers to the parent of this fork, which must not end them.

    Two can't share an answer.
    """
    for pool in _pools:
        _of_the_parent.extend(pool._idle)
        pool._idle, pool._turns = [], threading.Semaphore(pool._most)


@atexit.register
def end_idle() -> None:
    """End the workers that wait for work; what is asked later starts new ones."""
    for pool in _pools:
        pool.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


# Jobs, many side by side


@dataclass(frozen=True, eq=False)
class Job:
    """A function to call in another process, and the files that it writes.

    Attributes
    ----------
    function : callable
        Of a module; called with the folder of the results, then the arguments. It
        writes its files one after the other, and skips those that exist:
        what it does may be done twice. It handles its own errors; one that it raises
        ends the run.
    arguments : tuple
    files : sequence of Path
        What tells what is finished.
    reads : sequence of Path
        What it reads in the folder of the results.
    names : sequence of str
        What each file stands for, for people.
    fail : callable
        Called with the index of a file and the reason why it was not written; writes
        it instead.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    files: Sequence[Path] = ()
    reads: Sequence[Path] = ()
    names: Sequence[str] = ()
    fail: Callable[[int, str], None] = lambda index, reason: None

    @property
    def n_done(self) -> int:
        """How many files are there."""
        return sum(file.exists() for file in self.files)


def tell(
    progress: Progress | None, jobs: Sequence[Job], what: str, names: Sequence[str]
) -> None:
    """Tell how many files of the jobs are there, and what is being worked at."""
    if progress is not None:
        getattr(progress, "running", lambda _: None)(names)
        n_files = sum(len(job.files) for job in jobs)
        progress(sum(job.n_done for job in jobs), n_files, what)


class Processes:
    """The backend that works on this machine, a process a job.

    Parameters
    ----------
    n_jobs : int or None, default=None
        Processes side by side; None and -1 take one a core.
    seconds : float or None, default=None
        Wall time that a cell of a grid, or the fit of a projection, may take; that of
        loading xgboost or torch in a new process counts. More makes it a failed one.
    megabytes : float or None, default=None
        Resident memory that its process may have, libraries and mapped vectors
        included.

    Raises
    ------
    UsageError
        If a limit is not above zero.
    """

    def __init__(
        self,
        n_jobs: int | None = None,
        *,
        seconds: float | None = None,
        megabytes: float | None = None,
    ) -> None:
        for what, value in (("timeout", seconds), ("memory", megabytes)):
            if value is not None and not value > 0:
                msg = f"the {what} of a cell must be above 0, not {value!r}"
                raise UsageError(msg)
        self.n_jobs = n_threads_of(n_jobs) or usable_cores()
        self.seconds, self.megabytes = seconds, megabytes

    def warm(self) -> None:
        """Start the processes: they load what heads need while other work is done."""
        with suppress(DataError):  # whoever asks them something will be told
            _callers.start(self.n_jobs)

    def batches(
        self, make: Callable[..., Any], vectorizer: Any, images: Any, *, batch_size: int
    ) -> Generator[dict[str, Any], None, None]:
        """Yield the vectors of images, made in this process.

        Parameters
        ----------
        make : callable
            :func:`~tllboost.vectorizing.vector_batches`.
        vectorizer, images, batch_size
            What it takes.
        """
        return make(vectorizer, images, batch_size=batch_size)

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        look: Look = lambda _: "",
    ) -> Any:
        """Return what a function returns in another process.

        Parameters
        ----------
        function : callable
        *arguments
        look : callable
            Looks after the worker once it has loaded what the function needs.

        Raises
        ------
        ProcessDied
            If the process ended.
        UsageError
            If an argument can't be pickled.
        Exception
            What the function raised.
        """
        from cloudpickle import dumps  # takes what __main__ defines

        told = pickle.dumps(_importable())
        text = f"can't go to another process: {WHY}"
        with retold(text, UsageError, (TypeError, pickle.PicklingError)):
            request = dumps((function, arguments))
        with _callers.worker() as worker:
            worker.ask(told, dumps((function, None)))
            answer = worker.ask(told, request, look=look)
        worked, result = pickle.loads(answer)
        if worked:
            return result
        raise result

    def run(
        self, jobs: Sequence[Job], out: Path, what: str, progress: Progress | None
    ) -> None:
        """Run jobs side by side.

        What is over a limit fails. What a process was at when it died is tried once
        more when all else is done, alone, and fails if that dies as well.

        Parameters
        ----------
        jobs : sequence of Job
        out : Path
            The results; large arrays among the arguments lie there meanwhile.
        what : str
            What the jobs are, for `progress`.
        progress : callable or None

        Raises
        ------
        Exception
            What a job raised.
        """
        from concurrent.futures import ThreadPoolExecutor, wait

        died: list[Job] = []
        running: list[Job] = []
        stop = threading.Event()

        def finish(job: Job, again: list[Job] | None) -> None:
            """Call until all files are there, in a new process after a death."""
            running.append(job)
            while not stop.is_set() and (n_before := job.n_done) < len(job.files):
                watch = _Watch(self, job, stop)
                try:
                    self.call(job.function, out, *job.arguments, look=watch)
                    break
                except ProcessDied as error:
                    reason = error.verdict or f"its process died ({error})"
                    if not error.verdict and again is not None:
                        again.append(job)
                        break
                # Memory may be what cells before it left: it gets a process of its own.
                is_first = watch.is_fresh and watch.n_done == n_before
                if not stop.is_set() and (is_first or not watch.is_memory):
                    there = [file.exists() for file in job.files]
                    if False in there:
                        job.fail(there.index(False), reason)
            running.remove(job)

        with sharing(out) as share:
            ready = [replace(one, arguments=share(one.arguments)) for one in jobs]
            for n, some, again in ((self.n_jobs, ready, died), (1, died, None)):
                with ThreadPoolExecutor(n) as threads:
                    try:
                        pending = {threads.submit(finish, job, again) for job in some}
                        while pending:
                            # With a timeout: else Windows leaves Ctrl-C until the end.
                            done, pending = wait(pending, timeout=_TELL_SECONDS)
                            at = [(job, job.n_done) for job in [*running]]
                            names = [o.names[n] for o, n in at if n < len(o.names)]
                            tell(progress, jobs, what, names)
                            for future in done:
                                future.result()
                    except BaseException:  # an error, or Ctrl-C: stop all of them
                        stop.set()
                        raise


class _Watch:
    """What a job takes since its last file, held against the limits."""

    def __init__(self, limits: Processes, job: Job, stop: threading.Event) -> None:
        self.limits, self.job, self.stop = limits, job, stop
        self.is_memory = self.is_fresh = False
        self.n_done, self.since = -1, 0.0

    def __call__(self, worker: Worker) -> str:
        """Return why the worker must end, or nothing."""
        if self.stop.is_set():
            return "stopped"
        seconds, megabytes = self.limits.seconds, self.limits.megabytes
        if seconds is None and megabytes is None:
            return ""
        if (n_done := self.job.n_done) > self.n_done:
            self.n_done, self.since = n_done, time.monotonic()
        if seconds is not None and time.monotonic() - self.since > seconds:
            return f"it took more than {seconds:g} s, the limit of a cell"
        if megabytes is not None and resident(worker.pid) > megabytes * 2**20:
            self.is_memory, self.is_fresh = True, worker.n_asked == 2
            return f"it took more than {megabytes:g} MB, the limit of a cell"
        return ""


# Cells run side by side: libraries that each took all cores would wait for each other.
ONE_THREAD = {
    f"{library}_NUM_THREADS": "1"
    for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA")
} | {"VECLIB_MAXIMUM_THREADS": "1"}
_callers = Pool(
    lambda: Worker("tllboost.processes:_answer_calls", environment=ONE_THREAD)
)


def _answer_calls(_: str) -> Callable[[bytes], list[bytes]]:
    """Return what calls, in a worker, the functions that it is sent."""
    from cloudpickle import dumps

    # Nothing of a library is garbage: looked through once a cell, it took 0.05 s each.
    gc.disable()
    # scikit-learn looks for pandas, and has no use for it here: 0.2 s, and 25 MB.
    sys.modules["pandas"] = None  # type: ignore[assignment]
    with suppress(ImportError):
        import_module("sklearn.base")
    del sys.modules["pandas"]
    gc.freeze()
    gc.enable()

    def answer(request: bytes) -> list[bytes]:
        import io

        stream = io.BytesIO(request)
        importable = pickle.load(stream)
        _import_only(**importable)
        # A warm process may stand where its parent did when it was started.
        os.chdir(importable["folder"])
        try:
            # What the function needs is loaded here, before it is called.
            function, arguments = pickle.load(stream)
            result = None if arguments is None else function(*arguments)
            return [dumps((True, result))]
        except Exception as error:
            return [dumps((False, error))]

    return answer


@dataclass(frozen=True)
class _Kept:
    """An array that lies in a file: who unpickles it gets it mapped for reading."""

    path: Path

    def __reduce__(self) -> tuple[Any, ...]:
        import numpy as np

        return partial(np.load, mmap_mode="r", allow_pickle=False), (self.path,)


@contextmanager
def sharing(out: Path, *, hold: bool = False) -> Iterator[Callable[[Any], Any]]:
    """Give what puts large arrays, also in lists and tuples, into files to be mapped.

    They lie in a folder of the results, as long as the block lasts; what a killed run
    left there is removed.

    Parameters
    ----------
    out : Path
    hold : bool, default=False
        Whether it gives arrays that this process maps too, so that it can let go of
        those in memory; else what goes to other processes.
    """
    import numpy as np

    folder = out / (_HELD if hold else _SHARED)
    kept: dict[int, tuple[Any, _Kept]] = {}
    numbers = count()

    def share(value: Any) -> Any:
        if type(value) in (list, tuple):
            return type(value)(map(share, value))
        if not isinstance(value, np.ndarray) or value.nbytes < _SHARED_FROM_BYTES:
            return value
        file = Path(str(getattr(value, "filename", "")))
        if file.parent.name == _HELD and not isinstance(value.base, np.ndarray):
            return _Kept(file)
        if id(value) in kept:
            return kept[id(value)][1]
        told = _Kept(folder / f"{next(numbers)}.npy")
        # Not synced to the disk: what a killed run left there is not read.
        with retold(f"{told.path}: can't be written ({WHY})", DataError, OSError):
            folder.mkdir(parents=True, exist_ok=True)
            np.save(told.path, value, allow_pickle=False)
        if hold:
            return np.load(told.path, mmap_mode="r", allow_pickle=False)
        # The array is held too, so that its id is not given to another.
        kept[id(value)] = value, told
        return told

    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield share
    finally:
        # Windows removes no file that a process, idle and warm, still maps.
        shutil.rmtree(folder, ignore_errors=True)


# What this process held when it was last cleaned up.
_resident_before = 0


def resident(process: int) -> int:
    """Return the bytes of memory that a process has, 0 where it has just ended."""
    import psutil

    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return 0


def beyond_memory(n_bytes: int) -> str:
    """Tell that so many bytes are more than is free; nothing where they are not.

    Examples
    --------
    >>> beyond_memory(10**18)
    '1,000,000,000,000,000,000 bytes, more than is free (... bytes may be used)'
    """
    import psutil

    room = psutil.virtual_memory().available * 3 // 4
    told = f"{n_bytes:,} bytes, more than is free ({room:,} bytes may be used)"
    return told if n_bytes > room else ""


def release_memory() -> None:
    """Give back what is no longer used, so that the next cell does not add to it.

    XGBoost's iterators are in cycles, and hold features and bins; and the C library
    keeps what many small pieces were freed of. Where a cell left little, nothing is
    looked for: with all libraries loaded that takes longer than a small cell does.
    """
    global _resident_before
    if resident(os.getpid()) - _resident_before < _WORTH_IT:
        return
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    _resident_before = resident(os.getpid())
