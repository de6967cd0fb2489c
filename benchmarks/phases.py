"""What the time of a grid goes to, phase by phase, as a command from start to end.

``python benchmarks/phases.py TOLD.json grid ...`` does what ``tllboost grid ...`` does,
and writes when each phase began: by the clock, and in CPU seconds of all processes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from importlib.machinery import PathFinder
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import cpu_seconds

START, LOADING, CELLS = "start and imports", "workers still loading", "cells"
PHASES = {
    "tllboost.grid.run": {
        "gather": "hashes and vectors",
        "_measure": LOADING,
        "_write_results": "tables",
        "save_bundles": "choosing",
    },
    "tllboost.grid.best": {"_save": "fits of the bundle"},
    "tllboost.report": {"write_report": "page", "make_thumbnails": "thumbnails"},
}
"""By module: functions that it calls, and the phase that each is."""

Seconds = dict[str, tuple[float, float]]
"""Of each phase, by the clock and of the CPU."""


def run(words: Sequence[str | Path], folder: Path) -> Seconds:
    """Return what each phase of a grid takes, in one run.

    Parameters
    ----------
    words : sequence of str or path
        What follows ``tllboost``; ``OUT`` and ``STORE`` stand for ``out`` and ``store``
        in the folder.
    folder : path
        A new one.
    """
    told = folder / "told.json"
    new: dict[Any, Path] = {w: folder / w.lower() for w in ("OUT", "STORE")}
    filled = [new.get(word, word) for word in words]
    marks: list[tuple[str, float, float]] = [(START, time.time(), 0.0)]
    command = [sys.executable, __file__, told, *filled]
    subprocess.run(command, check=True, capture_output=True)
    ended = time.time()
    marks += map(tuple, json.loads(told.read_text(encoding="utf-8")))
    marks.append(("", ended, marks[-1][2]))
    taken: Seconds = {}
    for (phase, wall, cpu), (_, next_wall, next_cpu) in pairwise(marks):
        before = taken.get(phase, (0.0, 0.0))
        taken[phase] = before[0] + next_wall - wall, before[1] + next_cpu - cpu
    return taken


def medians(runs: Sequence[Seconds]) -> Seconds:
    """Return what each phase takes, the medians of some runs.

    Examples
    --------
    >>> medians([{"page": (1.0, 1.0)}, {"page": (4.0, 3.0)}, {"page": (2.0, 5.0)}])
    {'page': (2.0, 3.0)}
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for taken in runs:
        for phase, seconds in taken.items():
            found.setdefault(phase, []).append(seconds)
    return {
        phase: (
            statistics.median(wall for wall, _ in some),
            statistics.median(cpu for _, cpu in some),
        )
        for phase, some in found.items()
    }


def phases(words: Sequence[str | Path], runs: int = 1) -> Seconds:
    """Return what each phase of a grid takes, the medians of some runs.

    `words` are those of :func:`run`, with new folders each time.
    """
    found = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as name:
            found.append(run(words, Path(name)))
    return medians(found)


def as_text(seconds: Seconds) -> str:
    """Return phases as text: what each takes.

    Examples
    --------
    >>> as_text({"cells": (1.25, 2.0)})
    'cells 1.25 s (CPU 2.00)'
    """
    return ", ".join(
        f"{phase} {wall:.2f} s (CPU {cpu:.2f})"
        for phase, (wall, cpu) in seconds.items()
    )


class _Marks:
    """Finds modules as usual, and marks when the functions of phases are called."""

    def __init__(self) -> None:
        self.marks: list[tuple[str, float, float]] = []
        self.within = [START]

    def mark(self, phase: str) -> None:
        self.marks.append((phase, time.time(), cpu_seconds()))

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in (*PHASES, "tllboost.processes"):
            return None
        spec: Any = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            for function, phase in PHASES.get(name, {}).items():
                setattr(module, function, self.marked(getattr(module, function), phase))
            if name == "tllboost.processes":
                self.watch(module.Worker)

        spec.loader.exec_module = exec_module
        return spec

    def marked(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            self.within.append(phase)
            self.mark(phase)
            try:
                return function(*given, **named)
            finally:
                self.within.pop()
                self.mark(self.within[-1])

        return call

    def watch(self, worker: Any) -> None:
        """Mark when the last of the workers has loaded what cells need."""
        ask = worker.ask

        def asked(self_: Any, *parts: bytes, **how: Any) -> bytes:
            is_first = self_.n_asked == 0
            answer: bytes = ask(self_, *parts, **how)
            if is_first and self.within[-1] in (LOADING, CELLS):
                self.within[-1] = CELLS
                # What was told before is of workers that others had to wait for.
                self.marks = [
                    (LOADING if phase == CELLS else phase, wall, cpu)
                    for phase, wall, cpu in self.marks
                ]
                self.mark(CELLS)
            return answer

        worker.ask = asked


def main() -> None:
    """Run the command, and write when its phases began."""
    path, *words = sys.argv[1:]
    sys.argv = ["tllboost", *words]
    # As for the command: no script's folder is looked through for modules.
    sys.path[0] = os.getcwd()
    marks = _Marks()
    sys.meta_path.insert(0, marks)  # type: ignore[arg-type]
    from tllboost.cli import main as command

    with suppress(SystemExit):
        command()
    Path(path).write_text(json.dumps(marks.marks), encoding="utf-8")


if __name__ == "__main__":
    main()
