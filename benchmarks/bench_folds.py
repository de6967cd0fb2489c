"""Ten folds of a cell against one fit of it.

Each cell of a quarter of the Holidays shape (1,036 pairs, 2,048 columns, `l1`) is run
under the protocol of ten folds and under the hold-out protocol, as a user runs it, from
the start of the command to its results. Beside it stands how many pairs they train on.
"""

from __future__ import annotations

import csv
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench import bound_record, compare, options, written
from bench_grid import HEADS, Figures
from holidays_shape import Shape, make_shape, make_vectors, write_table, write_vectors
from phases import Seconds, as_text, medians, run

from tllboost.splits import Protocol, SplitTable, make_splits, match_components

FOLDS = 10
BAR = 1 / 2.5
KFOLD = Protocol("kfold", n_folds=FOLDS, n_negatives=0, n_distractors=1)
HOLDOUT = Protocol("holdout", n_negatives=0, n_distractors=1)
MERGE = ("l1",)
ROOM = 0.1


def alike(folds: Figures, one: Figures) -> None:
    """Refuse folds whose figures are not about those of one fit."""
    far = {h: (folds[h], one[h]) for h in one if abs(folds[h] - one[h]) > ROOM}
    assert not far, f"ten folds and one fit differ: {far}"


def words(folder: Path, spec: str, protocol: str) -> list[str | Path]:
    """Return what a user types, ``OUT`` for the results, ``STORE`` for the vectors."""
    said: list[str | Path] = [
        *("grid", folder / "pairs.csv", "-v", spec, "--protocol", protocol),
        *("--negatives", "0", "--distractors", "1", "--metric", "roc_auc"),
        *("--out", "OUT", "--store", "STORE", "-q", "--no-report"),
    ]
    if protocol == KFOLD.name:
        said += ["--folds", str(FOLDS)]
    said += [word for merge in MERGE for word in ("-m", merge)]
    return said + [word for head in HEADS for word in ("-c", head)]


def command(folder: Path, spec: str, protocol: str, told: list[Seconds]) -> Figures:
    """Return the AUC of each head as ``tllboost grid`` finds it, a new process.

    What each phase took is added to `told`.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        told.append(run(words(folder, spec, protocol), Path(name)))
        results = Path(name) / "out" / "results.csv"
        with results.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["head"] in HEADS]
    return {(row["merge"], row["head"]): float(row["roc_auc"]) for row in rows}


def trained_pairs(shape: Shape, protocol: Protocol) -> int:
    """Return how many pairs all fits of a cell train on, under a protocol."""
    match = shape.label == 1
    left, right = shape.left[match], shape.right[match]
    component = match_components(len(shape.group), left, right)
    table = SplitTable(shape.left, shape.right, shape.label, component)
    splits = make_splits(table, protocol=protocol, seed=0)
    return sum(len(split.train) for split in splits)


def by_size(shape: Shape, record: dict[str, Any]) -> dict[str, Any]:
    """Return what ten folds cost of one fit, beside what their pairs alone do."""
    folds, one = (trained_pairs(shape, protocol) for protocol in (KFOLD, HOLDOUT))
    times = [pair["ours"]["wall"] / pair["peer"]["wall"] for pair in record["pairs"]]
    what = f"all folds train on {folds:,} pairs, the one fit on {one:,}"
    return bound_record(what, "× its time", times, [folds / one] * len(times))


def main() -> None:
    """Measure."""
    said = options(__doc__)
    n_matches, n_dims = (200, 64) if said.quick else (518, 2_048)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = make_shape(n_matches)
        write_table(shape, folder)
        spec = write_vectors(make_vectors(shape, 0, n_dims), folder / "network.npz")
        # What each phase takes is measured in the very runs that are compared.
        of_folds: list[Seconds] = []
        of_one: list[Seconds] = []
        record = compare(
            "folds",
            partial(command, folder, spec, "kfold", of_folds),
            partial(command, folder, spec, "holdout", of_one),
            check=(lambda a, b: None) if said.quick else alike,
            runs=said.runs,
            bar=None if said.quick else BAR,
            warm_up=False,
            what=f"ten folds of {len(HEADS)} cells, {len(shape.label):,} pairs, the "
            "command from start to end",
            peer_is="one hold-out fit of the same cells",
            folder=None,
        )
        more = {
            "profile": f"{WHY}; ten folds: {as_text(medians(of_folds))}; one fit: "
            f"{as_text(medians(of_one))}",
            "bounds": [by_size(shape, record)],
        }
        written(record | more, said.folder)


WHY = (
    "each fold has training pairs of its own, and more than the hold-out fit, so ten "
    "folds need ten larger fits; they share only the start of the processes, the "
    "vectors and the resamples of the figures"
)


if __name__ == "__main__":
    main()
