"""Measure two ways of doing the same work, side by side; what every bench_*.py uses.

Both ways run in turn, the order swapped from pair to pair, so that what else the
machine does meets both. Nothing is recorded before both have given the same result.
What can't be faster than the machine is shown beside it: see :class:`Bound`.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import psutil

RESULTS = Path(__file__).resolve().parents[1] / "results" / "bench"
VERSIONS = (
    *("numpy", "pillow", "torch", "timm", "open_clip_torch", "onnxruntime"),
    *("scikit-learn", "xgboost", "joblib", "dask", "distributed"),
)
TICK = 0.05  # seconds between two looks at the memory
LEAST = 1e-3  # of CPU seconds and of MiB: clocks and samples see no less
PAIRS = 5  # of runs, at least, in what is recorded with the results

# Commands find the package compiled, as they do for a user, whoever runs the script.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

Work = Callable[[], Any]
Check = Callable[[Any, Any], object]


class Bound(NamedTuple):
    """What the machine does at most: the bare operation, with nothing around it.

    Parameters
    ----------
    what : str
        The operation in a few words.
    unit : str
        Of the rate: ``GFLOP/s``, ``GB/s``.
    amount : float
        What one run of it, and of the work beside it, is in that unit's numerator.
    work : callable
        Does it once.
    """

    what: str
    unit: str
    amount: float
    work: Work


def compare(
    name: str,
    ours: Work,
    peer: Work,
    *,
    check: Check,
    runs: int = PAIRS,
    bar: float | None = None,
    memory_bar: float | None = None,
    memory: bool = False,
    warm_up: bool = True,
    least: float = 0.0,
    bounds: Sequence[Bound] = (),
    unit: str = "s",
    what: str = "",
    peer_is: str = "",
    profile: str = "",
    notes: Sequence[str] = (),
    folder: Path | None = RESULTS,
) -> dict[str, Any]:
    """Return and record how many times as fast as `peer` we are.

    Parameters
    ----------
    name : str
        Of the file: ``results/bench/NAME.json``.
    ours, peer : callable
        Do the same work from beginning to end and return its result.
    check : callable
        Gets both results and raises, saying why, if they are not the same work.
    runs : int, default=5
        Pairs of runs.
    bar : float, optional
        The ratio peer / ours of the wall seconds that is wanted, at least; one below 1
        says how much longer ours may take: 1 / 6 is at most six times.
    memory_bar : float, optional
        The same for peak memory.
    memory : bool, default=False
        Measure peak memory too, in one more run of each.
    warm_up : bool, default=True
        Run each once before, unmeasured; the results of these are checked. Else those
        of the first pair are.
    least : float, default=0
        Seconds that a run lasts at least: a shorter work is repeated, and the mean is
        what it took.
    bounds : sequence of Bound
        What the machine does at most of our work, measured beside it as often.
    unit : str, default="s"
        Of what is measured.
    what, peer_is : str
        The work and the peer in a few words, for the page.
    profile : str
        Where our time goes: shown where the bar is not reached.
    notes : sequence of str
        What else the page should say.
    folder : path, optional
        Where to write; None writes nothing.
    """
    if warm_up:
        check(ours(), peer())
    pairs: list[dict[str, dict[str, float]]] = []
    for index in range(runs):
        first, second = (ours, peer) if index % 2 == 0 else (peer, ours)
        (a, a_cost), (b, b_cost) = timed(first, least), timed(second, least)
        if index % 2:
            a, a_cost, b, b_cost = b, b_cost, a, a_cost
        if index == 0 and not warm_up:
            check(a, b)
        pairs.append({"ours": a_cost, "peer": b_cost})
        del a, b
        print(f"{name}: {ours_and_peer(pairs[-1])}", file=sys.stderr, flush=True)
    record = {
        "kind": "compare",
        "name": name,
        "what": what,
        "peer": peer_is,
        "unit": unit,
        "bar": bar,
        "memory_bar": memory_bar,
        "pairs": pairs,
        "ratio": spread(pair["peer"]["wall"] / pair["ours"]["wall"] for pair in pairs),
        "cpu_ratio": spread(
            pair["peer"]["cpu"] / pair["ours"]["cpu"] for pair in pairs
        ),
        "profile": profile,
        "notes": list(notes),
    }
    if bounds:
        record["bounds"], _ = beside(ours, bounds, runs=runs, least=least)
    if memory or memory_bar is not None:
        peaks = {"ours": peak_memory(ours), "peer": peak_memory(peer)}
        record["peak_mb"] = peaks
        record["memory_ratio"] = peaks["peer"] / max(peaks["ours"], LEAST)
    return written(record, folder)


def limit(
    name: str,
    ours: Work,
    *,
    at_most: float | None,
    runs: int = PAIRS,
    memory_at_most_mb: float | None = None,
    warm_up: bool = True,
    bounds: Sequence[Bound] = (),
    unit: str = "s",
    what: str = "",
    profile: str = "",
    notes: Sequence[str] = (),
    folder: Path | None = RESULTS,
) -> dict[str, Any]:
    """Return and record how long a work takes that has no peer, only a limit.

    Parameters
    ----------
    at_most : float, optional
        Wall seconds that it may take.
    memory_at_most_mb : float, optional
        Peak memory that it may take, in MiB: measured in one more run.
    name, ours, runs, warm_up, bounds, unit, what, profile, notes, folder
        As in :func:`compare`.
    """
    if warm_up:
        ours()
    found, costs = beside(ours, bounds, runs=runs)
    # The runs beside the first bound are those of the limit too.
    costs = costs or [timed(ours)[1] for _ in range(runs)]
    record = {
        "kind": "limit",
        "name": name,
        "what": what,
        "unit": unit,
        "at_most": at_most,
        "memory_at_most_mb": memory_at_most_mb,
        "runs": costs,
        "wall": spread(cost["wall"] for cost in costs),
        "profile": profile,
        "notes": list(notes),
    }
    if bounds:
        record["bounds"] = found
    if memory_at_most_mb is not None:
        record["peak_mb"] = {"ours": peak_memory(ours)}
    return written(record, folder)


def curve(
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[float]],
    *,
    what: str = "",
    notes: Sequence[str] = (),
    folder: Path | None = RESULTS,
) -> dict[str, Any]:
    """Return and record how costs grow: the first column is the size.

    Of each other column the fitted exponent is recorded: 1 grows as the size does, 0
    not at all.
    """
    record = {
        "kind": "curve",
        "name": name,
        "what": what,
        "columns": list(columns),
        "rows": [list(row) for row in rows],
        "exponents": [
            exponent([row[0] for row in rows], [row[index] for row in rows])
            for index in range(1, len(columns))
        ],
        "notes": list(notes),
    }
    return written(record, folder)


def beside(
    ours: Work, bounds: Sequence[Bound], *, runs: int, least: float = 0.0
) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """Return our rate and the machine's for each bound, in pairs of runs.

    The share is that of one pair, so that what else the machine does meets both. What
    our runs beside the first bound cost is returned too.
    """
    found, first = [], list[dict[str, float]]()
    for bound in bounds:
        bound.work()
        costs: list[list[dict[str, float]]] = [[], []]
        for index in range(runs):
            for who in (0, 1) if index % 2 == 0 else (1, 0):
                work = bound.work if who else ours
                costs[who].append(timed(work, least)[1])
        rates = [[bound.amount / one["wall"] for one in of] for of in costs]
        found.append(bound_record(bound.what, bound.unit, *rates))
        first = first or costs[0]
    return found, first


def bound_record(
    what: str, unit: str, ours: Sequence[float], there: Sequence[float]
) -> dict[str, Any]:
    """Return what is recorded of one bound: ours, what is possible, and the share."""
    return {
        "what": what,
        "unit": unit,
        "ours": spread(ours),
        "bound": spread(there),
        "share": spread(a / b for a, b in zip(ours, there, strict=True)),
    }


def timed(work: Work, least: float = 0.0) -> tuple[Any, dict[str, float]]:
    """Return what a work gives, and its wall and CPU seconds, children included.

    Of a work that is repeated until `least` seconds have passed, the means.
    """
    n_runs = 1
    while True:
        cpu, wall = cpu_seconds(), time.perf_counter()
        for _ in range(n_runs):
            result = work()
        wall = time.perf_counter() - wall
        cpu = max(cpu_seconds() - cpu, LEAST)
        if wall >= least:
            return result, {"wall": wall / n_runs, "cpu": cpu / n_runs}
        # The first runs may have been slow: one more time, as often as it takes.
        n_runs = math.ceil(1.2 * n_runs * least / max(wall, 1e-9))


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of all that it started."""
    total = time.process_time() + sum(os.times()[2:4])
    for child in psutil.Process().children(recursive=True):
        try:
            total += sum(child.cpu_times()[:4])
        except psutil.Error:  # it has just ended
            continue
    return total


def peak_memory(work: Work) -> float:
    """Return the MiB that a work takes at its peak beyond what was taken before.

    Summed over this process and all that it started, shared pages counted once.
    """
    before = peak = _memory()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        pause = TICK
        while not done.wait(pause):
            started = time.perf_counter()
            peak = max(peak, _memory())
            # To look at gigabytes takes a while: a twentieth of one core at most.
            pause = max(TICK, 20 * (time.perf_counter() - started))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = work()
        peak = max(peak, _memory())
        del result
    finally:
        done.set()
        watcher.join()
    return (peak - before) / 2**20


def _memory() -> int:
    """Return the bytes of this process and its descendants, by their fair share."""
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        try:
            info = process.memory_full_info()
        except psutil.Error:
            continue
        total += getattr(info, "pss", info.uss)
    return total


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return the smallest, the middle and the largest of some numbers."""
    numbers = sorted(values)
    return {
        "min": numbers[0],
        "median": statistics.median(numbers),
        "max": numbers[-1],
    }


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """Return the slope of the costs over the sizes, both as logarithms."""
    import numpy as np

    good = [(s, c) for s, c in zip(sizes, costs, strict=True) if s > 0 and c > 0]
    if len(good) < 2:
        return None
    x, y = np.log(np.array(good)).T
    return float(np.polyfit(x, y, 1)[0])


def ours_and_peer(pair: dict[str, dict[str, float]]) -> str:
    """Return one pair's seconds in a line."""
    ours, peer = pair["ours"], pair["peer"]
    return (
        f"ours {ours['wall']:.3g} s (CPU {ours['cpu']:.3g}), "
        f"peer {peer['wall']:.3g} s (CPU {peer['cpu']:.3g}): "
        f"{peer['wall'] / ours['wall']:.2f} times"
    )


def written(record: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return a record with the machine and the command, and write it."""
    record = {**record, "command": command(), "machine": machine()}
    if folder is not None:
        from tllboost.files import write_text  # numpy, which cpu_seconds does without

        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_text(folder / f"{record['name']}.json", text)
    return record


def command() -> str:
    """Return how this was run: the script within the repository, and its options."""
    script = Path(sys.argv[0]).resolve()
    home = RESULTS.parents[1]
    name = script.relative_to(home) if script.is_relative_to(home) else script.name
    options = [Path(a).name if "/" in a else a for a in sys.argv[1:]]
    return " ".join(["python", str(name), *options])


@functools.cache
def machine() -> dict[str, Any]:
    """Return what it was run on."""
    versions = {}
    for library in VERSIONS:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": len(psutil.Process().cpu_affinity()) if _LINUX else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


_LINUX = sys.platform.startswith("linux")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if "model name" in line)
    return next(names, platform.processor())


def options(doc: str | None, parts: Iterable[str] = ()) -> argparse.Namespace:
    """Return what the command line of a bench script says.

    Parameters
    ----------
    doc : str
        What the script does.
    parts : iterable of str
        Names of what can be run alone, if anything can.

    Returns
    -------
    argparse.Namespace
        ``quick`` (tiny sizes, for the tests), ``runs`` (pairs; 1 where quick), and
        ``folder`` (where records go; None, nowhere, where quick and not said). Fewer
        pairs than :data:`PAIRS` are not recorded among the results. ``part``, where
        there are parts: which are wanted, by default all.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one pair")
    parser.add_argument("--runs", type=int, help=f"pairs of runs (default: {PAIRS})")
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS.parent.name}/…")
    if parts := list(parts):
        parser.add_argument("--part", choices=parts, action="append", help="[all]")
    said = parser.parse_args()
    if parts:
        said.part = said.part or parts
    said.runs = said.runs or (1 if said.quick else PAIRS)
    said.folder = said.out or (None if said.quick else RESULTS)
    if said.folder == RESULTS and said.runs < PAIRS:
        parser.error(f"{RESULTS} takes {PAIRS} pairs or more: give another --out")
    return said
