"""How fast a vector store writes and reads, here and in other checkouts of tllboost.

    python benchmarks/bench_store.py [CHECKOUT …] [--runs 5] [--quick]

50,000 vectors of 1,280 numbers go into a new store in batches of 32, and come back in
another order. Each run is a process of its own; the checkouts take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BATCH_SIZE = 32
WORK = """
import hashlib, json, sys, time
import numpy as np
from tllboost.store import VectorStore

folder, n_images, n_dims, batch_size = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng(0)
vectors = rng.random((n_images, n_dims), dtype=np.float32)
keys = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(n_images)]
order = rng.permutation(n_images)
wanted = [keys[i] for i in order]
clocks = time.perf_counter, time.process_time
started = [clock() for clock in clocks]
with VectorStore(folder) as store:
    for first in range(0, n_images, batch_size):
        batch = slice(first, first + batch_size)
        store.add("network|1", keys[batch], vectors[batch])
written = [clock() for clock in clocks]
with VectorStore(folder) as store:
    got, found = store.get("network|1", wanted)
read = [clock() for clock in clocks]
assert found.all() and (got == vectors[order]).all()
write = [1e3 * (b - a) / n_images for a, b in zip(started, written)]
print(json.dumps([*write, *(b - a for a, b in zip(written, read))]))
"""
COLUMNS = ("write, ms a vector", "CPU", "read all, s", "CPU")


def measure(checkout: Path, n_images: int) -> list[float]:
    """Return the figures of one run: wall and CPU of writing, then of reading."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [folder, str(n_images), "1280", str(BATCH_SIZE)]
        done = subprocess.run(
            [sys.executable, "-c", WORK, *arguments],
            env=os.environ | {"PYTHONPATH": str(checkout)},
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
    figures: list[float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Measure and print one line a checkout: the medians, and the range."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few vectors, one run")
    said = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    runs: dict[Path, list[list[float]]] = {here: []}
    runs |= {checkout.resolve(): [] for checkout in said.checkouts}
    for _ in range(1 if said.quick else said.runs):
        for checkout, figures in runs.items():
            figures.append(measure(checkout, 500 if said.quick else 50_000))
    print(f"| checkout | {' | '.join(COLUMNS)} |")
    print("|---|---|---|---|---|")
    for checkout, figures in runs.items():
        cells = [
            f"{statistics.median(column):.3f} ({min(column):.3f}–{max(column):.3f})"
            for column in zip(*figures, strict=True)
        ]
        print(f"| {checkout.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
