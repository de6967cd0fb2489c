"""A small grid from start to end, as a person waits for it, and what the time goes to.

350 images in groups, vectors in the store, two merges and four heads: a new process
each time, to the matrix, the page and the bundle. What each phase takes is measured
within further runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from bench import limit, options, written
from fetch_data import SHARED
from phases import as_text, phases

COVERS = SHARED / "data" / "dvd-covers"
HEADS = ("cosine", "naive-bayes", "logistic", "linear-svm")
MOST = 3.0
WHY = (
    "both workers load numpy, scipy and scikit-learn, on the cores that the parent "
    "starts on, before a cell begins; then both fit heads, the linear ones first"
)


def words(folder: Path) -> list[str | Path]:
    """Return the command, its vectors in the store of a folder, ``OUT`` its results."""
    return [
        *("grid", COVERS, "--groups", "folder", "-v", "pocket", "-m", "dot"),
        *("-m", "l1", "--store", folder / "store", "--out", "OUT", "-q"),
        *(word for head in HEADS for word in ("-c", head)),
    ]


def grid(folder: Path) -> None:
    """Run the command."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        filled = [Path(name) / "run" if w == "OUT" else w for w in words(folder)]
        command = [sys.executable, "-m", "tllboost", *filled]
        subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """Measure."""
    said = options(__doc__)
    if not COVERS.is_dir():
        told = f"no {COVERS} (see docs/data.md): the small grid is not measured"
        print(told, file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        # The first of these runs fills the store.
        profile = as_text(phases(words(folder), 1 if said.quick else 3))
        record = limit(
            "small_grid",
            lambda: grid(folder),
            at_most=None if said.quick else MOST,
            runs=said.runs,
            warm_up=False,
            what="a small grid from start to end: 350 DVD covers, `pocket`, vectors in "
            f"the store, `dot` and `l1`, {', '.join(HEADS)}; matrix, page and bundle",
            folder=None,
        )
        written(record | {"profile": f"{WHY}: {profile}"}, said.folder)


if __name__ == "__main__":
    main()
