"""Ten folds of a cell against one fit of it, in the same grid.

Each cell of the Holidays shape (4,144 pairs, 2,048 columns, `l1`) is run under the
protocol of ten folds and under the hold-out protocol, from vectors to results.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench import compare, options
from bench_grid import HEADS
from holidays_shape import make_shape, make_vectors, write_table, write_vectors

from tllboost.grid import run_grid
from tllboost.splits import Protocol

KFOLD = Protocol("kfold", n_folds=10, n_negatives=0, n_others=1)
HOLDOUT = Protocol("holdout", n_negatives=0, n_others=1)


def run(folder: Path, table: Any, spec: str, protocol: Protocol) -> dict[str, float]:
    """Return the AUC of each head."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        result = run_grid(
            table,
            [spec],
            ["l1"],
            HEADS,
            out=Path(out) / "run",
            store=Path(out) / "store",
            protocol=protocol,
            metric="roc_auc",
        )
    assert all(row["status"] == "ok" for row in result.rows), result.rows
    return {row["head"]: float(row["roc_auc"]) for row in result.rows}


def alike(folds: dict[str, float], one: dict[str, float]) -> None:
    """Refuse folds whose figures are not about those of one fit."""
    far = {head: (folds[head], one[head]) for head in one if head not in folds}
    far |= {h: (folds[h], one[h]) for h in one if abs(folds[h] - one[h]) > ROOM}
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
        compare(
            "folds",
            lambda: run(folder, table, spec, KFOLD),
            lambda: run(folder, table, spec, HOLDOUT),
            check=(lambda a, b: None) if said.quick else alike,
            runs=said.runs,
            bar=None if said.quick else 1 / 6,
            warm_up=False,
            what=f"ten folds of {len(HEADS)} cells, {len(shape.label):,} pairs",
            peer_is="one hold-out fit of the same cells",
            profile=PROFILE,
            folder=said.folder,
        )


PROFILE = ""


if __name__ == "__main__":
    main()
