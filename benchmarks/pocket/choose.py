"""Choose on validation sets: the layout's length, and what `classic` adds to `pocket`.

Run it as ``python benchmarks/pocket/choose.py pocket.onnx``. The length is that which
makes `pocket` alone best on the mean of the three sets; the fusion is the best of all
looks and weights that are tried. `pocket_page` reads both off the table that is
written. No test set is seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from validation_sides import SETS, read_set, top2_on_validation
from whiten import N_DIMS

from tllboost.files import csv_text, write_text
from tllboost.grid.data import gather
from tllboost.merges import unit_rows
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.base import fuse
from tllboost.vectorizers.onnx import OnnxVectorizer

LENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.6, 1.0)
"""Of `classic`, where `pocket` weighs 1."""

BOTH = ("whole", "centre")
OWN_LOOKS: dict[str, dict[str, object]] = {
    "pocket": {},
    "pocket?flip=true": {"flip": True},
    "pocket?views=whole,centre": {"views": BOTH},
    "pocket?flip=true&views=whole,centre": {"flip": True, "views": BOTH},
}
CLASSIC_LOOKS = (
    "classic",
    "classic?views=centre",
    "classic?flip=true&views=centre",
    "classic?views=whole,centre",
)

Vectors = dict[str, np.ndarray]
Key = tuple[object, ...]  # length, pocket, classic, weight


def tried(vectors: Vectors) -> Iterator[tuple[Key, np.ndarray]]:
    """Yield all that is measured: what it is, and its vectors at length 1."""
    plain = vectors["pocket"]
    for length in LENGTHS:
        parts = [plain[:, :-N_DIMS], plain[:, -N_DIMS:]]
        yield (length, "pocket", "", ""), unit_rows(fuse(parts, (1, length**2)))
    for own in OWN_LOOKS:
        yield ("", own, "", ""), unit_rows(vectors[own])
        for classic in CLASSIC_LOOKS:
            for weight in WEIGHTS:
                fused = fuse([vectors[own], vectors[classic]], (1, weight))
                yield ("", own, classic, weight), unit_rows(fused)


def measure(network: Path, data: Path, store: Path | None) -> dict[Key, list[float]]:
    """Return the top-2 on each set's validation sets, of all that is tried."""
    vectorizers = {
        name: OnnxVectorizer(network, fit="squash", **looks)  # type: ignore[arg-type]
        for name, looks in OWN_LOOKS.items()
    } | {name: make_vectorizer(name) for name in CLASSIC_LOOKS}
    found: dict[Key, list[float]] = {}
    for name in SETS:
        gathered = gather(read_set(data, name), vectorizers, store=store)
        vectors = {key: one.vectors for key, one in gathered.vectors.items()}
        for key, one in tried(vectors):
            reached = top2_on_validation(one, gathered, name)
            found.setdefault(key, []).append(reached)
    return found


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--store", type=Path, help="where vectors are kept")
    parser.add_argument("--out", type=Path, default=Path("results/pocket/choices.csv"))
    given = parser.parse_args()
    rows = [
        [*key, *(f"{one:.4f}" for one in (*figures, np.mean(figures)))]
        for key, figures in measure(given.network, given.data, given.store).items()
    ]
    columns = ["length", "pocket", "classic", "weight", *SETS, "mean"]
    write_text(given.out, csv_text(columns, rows))


if __name__ == "__main__":
    main()
