"""Ten folds of a cell against one fit of it, in the same grid.

Each cell of the Holidays shape (4,144 pairs, 2,048 columns, `l1`) is run under the
protocol of ten folds and under the hold-out protocol, from vectors to results.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from bench import compare, options, written
from bench_grid import HEADS, Figures, grid, profile
from holidays_shape import make_shape, make_vectors, write_table, write_vectors

from tllboost.splits import Protocol

KFOLD = Protocol("kfold", n_folds=10, n_negatives=0, n_others=1)
MERGE = ("l1",)
HOLDOUT = Protocol("holdout", n_negatives=0, n_others=1)


def alike(folds: Figures, one: Figures) -> None:
    """Refuse folds whose figures are not about those of one fit."""
    far = {h: (folds[h], one[h]) for h in one if abs(folds[h] - one[h]) > ROOM}
    assert not far, f"ten folds and one fit differ: {far}"


ROOM = 0.1


def main() -> None:
    """Measure."""
    said = options(__doc__)
    n_matches, n_dims = (200, 64) if said.quick else (2_072, 2_048)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = make_shape(n_matches)
        table = write_table(shape, folder)
        spec = write_vectors(make_vectors(shape, 0, n_dims), folder / "network.npz")
        spent: Counter[str] = Counter()
        record = compare(
            "folds",
            lambda: grid(folder, table, spec, MERGE, KFOLD, spent),
            lambda: grid(folder, table, spec, MERGE, HOLDOUT),
            check=(lambda a, b: None) if said.quick else alike,
            runs=said.runs,
            bar=None if said.quick else 1 / 6,
            warm_up=False,
            what=f"ten folds of {len(HEADS)} cells, {len(shape.label):,} pairs",
            peer_is="one hold-out fit of the same cells",
            folder=None,
        )
        written(record | {"profile": f"{WHY}; {profile(spent)}"}, said.folder)


WHY = (
    "each fold has other training pairs, so ten fits are ten fits: what they share is "
    "the start of the processes, the vectors and the resamples of the figures"
)


if __name__ == "__main__":
    main()
