"""Time and memory of the grid at 1 and 16 times the pairs of the Holidays shape.

2,048 columns, one merge, four classifiers, the same groups with more images each. At
16 times the pairs, 66,304, peak memory is held against a third of a notebook's and
against 1 GiB, all processes summed. The notebook stops each fit after two trees or
iterations: its memory is at its peak before, and the rest would take half an hour. Ours
runs to the end.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bench import curve, options, peak_memory, spread, timed, written
from bench_grid import HEADS, grid, notebook
from holidays_shape import make_shape, make_vectors, write_table, write_vectors

from tllboost.heads.base import MOST_BYTES

MERGE = ("l1",)
# How many times the pairs, and the images of a group that make so many.
GROUPS = {1: (2, 3, 4), 16: (9, 10, 11, 12)}
QUICK = {1: (2, 3, 4), 4: (4, 5, 6, 7)}


def measured(times: int, quick: bool, peer: bool) -> dict[str, Any]:
    """Return pairs, seconds and MiB of one grid, and a notebook's MiB if asked."""
    n_matches, n_dims = (60 * times, 32) if quick else (times * 2_072, 2_048)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = make_shape(n_matches, (GROUPS | QUICK)[times])
        table = write_table(shape, folder)
        vectors = make_vectors(shape, 0, n_dims)
        spec = write_vectors(vectors, folder / "network.npz")
        peak, cost = timed(
            lambda: peak_memory(lambda: grid(folder, table, spec, MERGE))
        )
        found = {"pairs": len(shape.label), "ours_mb": peak, **cost}
        found["vectors_mb"] = vectors.nbytes / 2**20
        if peer:
            found["peer_mb"] = peak_memory(
                lambda: notebook(vectors, shape, MERGE, short=True)
            )
        return found


def alone(times: int, quick: bool, peer: bool) -> dict[str, Any]:
    """Measure in a process of its own, so that none finds warm workers."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(measured, times, quick, peer).result()


def main() -> None:
    """Measure."""
    said = options(__doc__)
    largest = max(GROUPS)
    rows = [
        alone(times, said.quick, times == largest)
        for times in (QUICK if said.quick else GROUPS)
    ]
    cells = f"grid of one merge × {len(HEADS)} classifiers"
    columns = ("pairs", "wall", "cpu", "ours_mb")
    curve(
        "grid-curve",
        ("pairs", "seconds", "CPU seconds", "peak MiB"),
        [[row[column] for column in columns] for row in rows],
        what=f"{cells}, 2,048 dims, from vectors to results",
        folder=said.folder,
    )
    last = rows[-1]
    if "peer_mb" not in last:
        return
    record = {
        "kind": "limit",
        "name": "grid-memory",
        "what": (
            f"{cells}, {last['pairs']:,} pairs: at most 1 GiB, and a third of the "
            f"{last['peer_mb']:,.0f} MiB of a notebook"
        ),
        "unit": "s",
        "at_most": None,
        "memory_at_most_mb": min(1024, last["peer_mb"] / 3),
        "runs": [{"wall": last["wall"], "cpu": last["cpu"]}],
        "wall": spread([last["wall"]]),
        "peak_mb": {"ours": last["ours_mb"], "peer": last["peer_mb"]},
        "profile": (
            f"the forest and the linear SVM each hold {MOST_BYTES / 2**20:.0f} MiB of "
            "float32 features at the same time, as heads may; the vectors, "
            f"{last['vectors_mb']:.0f} MiB, lie in a file that all processes map"
        ),
        "notes": [],
    }
    written(record, said.folder)


if __name__ == "__main__":
    main()
