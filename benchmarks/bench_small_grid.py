"""A small grid from start to end, as a person waits for it, and what the time goes to.

350 images in groups, vectors in the store, two merges and four heads: a new process
each time, to the matrix, the page and the bundle. What each part takes is told by
runs that leave it out.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import limit, options, timed, written
from fetch_data import SHARED

COVERS = SHARED / "data" / "dvd-covers"
HEADS = ("cosine", "naive-bayes", "logistic", "linear-svm")
MOST = 3.0


def grid(folder: Path, *more: str, heads: tuple[str, ...] = HEADS) -> None:
    """Run the command, its vectors in the store of a folder."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        words: list[str | Path] = [
            *(sys.executable, "-m", "tllboost", "grid", COVERS, "--groups", "folder"),
            *("-v", "pocket", "-m", "dot", "-m", "l1", "--store", folder / "store"),
            *("--out", Path(out) / "run", "-q", *more),
        ]
        for head in heads:
            words += ["-c", head]
        subprocess.run(words, check=True, capture_output=True)


def parts(folder: Path, runs: int) -> str:
    """Return what the parts take, in wall and CPU seconds, by leaving them out."""
    kinds: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
        "all": ((), HEADS),
        "page": (("--no-report",), HEADS),
        "refit": (("--no-report", "--no-refit"), HEADS),
        "fits": (("--no-report", "--no-refit"), ("cosine",)),
    }
    costs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(runs):
        for kind, (more, heads) in kinds.items():
            costs[kind].append(
                timed(lambda m=more, h=heads: grid(folder, *m, heads=h))[1]
            )
    wall, cpu = (
        {
            kind: statistics.median(one[what] for one in some)
            for kind, some in costs.items()
        }
        for what in ("wall", "cpu")
    )
    told = []
    for before, part in zip(kinds, ("page", "refit", "fits"), strict=False):
        less = wall[before] - wall[part], cpu[before] - cpu[part]
        told.append(f"{part} {less[0]:.2f} s (CPU {less[1]:.2f})")
    start = f"{wall['fits']:.2f} s (CPU {cpu['fits']:.2f})"
    return (
        "seconds by leaving out: "
        + ", ".join(told)
        + f"; what is left, {start}, starts Python three times, loads numpy, scipy and "
        "scikit-learn in both workers, reads hashes and vectors, measures the cosine"
    )


def main() -> None:
    """Measure."""
    said = options(__doc__)
    if not COVERS.is_dir():
        told = f"no {COVERS} (see docs/data.md): the small grid is not measured"
        print(told, file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        record = limit(
            "small_grid",
            lambda: grid(folder),
            at_most=None if said.quick else MOST,
            runs=said.runs,
            what="a small grid from start to end: 350 DVD covers, `pocket`, vectors in "
            f"the store, `dot` and `l1`, {', '.join(HEADS)}; matrix, page and bundle",
            folder=None,
        )
        profile = parts(folder, 1 if said.quick else 3)
        written(record | {"profile": profile}, said.folder)


if __name__ == "__main__":
    main()
