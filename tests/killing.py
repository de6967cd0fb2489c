"""Kill a piece of work at many seeded moments, quickly.

    python killing.py WORK FOLDER N_MOMENTS SEED

A warm process forks one child a moment, which works in ``FOLDER/<moment>`` and is
killed: every other one by the clock, anywhere, the rest by itself at one of the lines
of the package that it runs. What is told is a line of JSON a moment.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PACKAGE = os.sep + "tllboost" + os.sep
# Of a grid, and of vectorizing; docs/reliability.md counts more of them.
N_MOMENTS = int(os.environ.get("TLLBOOST_KILLS", "12"))
# Far more than the work takes: who is not done by then hangs, and says where.
DEADLINE_SECONDS = 60
Work = Callable[[Path], None]


def kill_at_moments(
    work: str, folder: Path, *, n_moments: int, seed: int
) -> list[dict[str, Any]]:
    """Run this file in a fresh process and return what it tells.

    Parameters
    ----------
    work : str
        "module:function" of something that takes the folder to work in; the module
        lies beside this one.
    """
    done = subprocess.run(
        [sys.executable, __file__, work, folder, str(n_moments), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def main(work: str, folder: str, n_moments: str, seed: str) -> None:
    module, name = work.split(":")
    function: Work = getattr(importlib.import_module(module), name)
    rng = random.Random(int(seed))
    root = Path(folder)
    if hasattr(function, "warm_up"):  # what it loads, children then need not
        (root / "warm").mkdir()
        function.warm_up(root / "warm")
    n_lines = _count_lines(function, root / "traced")
    started = time.perf_counter()
    assert os.waitstatus_to_exitcode(_wait(_fork(function, root / "whole", None))) == 0
    seconds = time.perf_counter() - started
    for moment in range(int(n_moments)):
        at = rng.random()
        by_clock = moment % 2 == 0
        while not _kill(
            function, root / str(moment), int(n_lines * at), seconds * at, by_clock
        ):
            at *= 0.8  # it was done before
            assert at > 0.01, "it ends by itself whenever it is killed"
        told = {"moment": moment, "by_clock": by_clock, "at": at}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def _kill(
    function: Work, folder: Path, line: int, seconds: float, by_clock: bool
) -> bool:
    """Tell whether the child was killed, and had not ended."""
    if folder.exists():
        shutil.rmtree(folder)
    child = _fork(function, folder, None if by_clock else line)
    if by_clock:
        time.sleep(seconds)
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(_wait(child)) == -signal.SIGKILL


def _wait(child: int) -> int:
    """Return how a child ended; one that hangs tells where all its threads are."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGUSR1)
            time.sleep(1)
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            msg = f"process {child} was not done after {DEADLINE_SECONDS} s"
            raise TimeoutError(msg)
        time.sleep(0.002)
        ended, status = os.waitpid(child, os.WNOHANG)
    return status


def _fork(function: Work, folder: Path, line: int | None) -> int:
    folder.mkdir(parents=True)
    child = os.fork()
    if child:
        # Here as well as there: whoever comes first, it is done before the kill.
        with suppress(OSError):
            os.setpgid(child, child)
        return child
    try:
        os.setpgid(0, 0)
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        sys.stdout = sys.stderr
        if line is not None:
            _after_lines(line, lambda: os.killpg(0, signal.SIGKILL))
        function(folder)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _count_lines(function: Work, folder: Path) -> int:
    """Return how many lines of the package the work runs."""
    folder.mkdir(parents=True)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        counted = _after_lines(None, lambda: None)
        try:
            function(folder)
            os.write(writer, str(counted[0]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    _wait(child)
    return int(os.read(reader, 100))


def _after_lines(line: int | None, then: Callable[[], None]) -> list[int]:
    """Count the lines of the package that run, and act at one of them."""
    counted = [0]

    def on_event(frame: Any, event: str, _: Any) -> Any:
        if PACKAGE not in frame.f_code.co_filename:
            return None
        if event == "line":
            if counted[0] == line:
                then()
            counted[0] += 1
        return on_event

    threading.settrace(on_event)
    sys.settrace(on_event)
    return counted


if __name__ == "__main__":
    main(*sys.argv[1:])
