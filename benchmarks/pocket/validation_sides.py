"""The three sets of images, and the sides of them by which things are chosen.

What is chosen by hand or by search, such as the blocks of `classic` or the length of a
part of `pocket`, is chosen on these validation sets. No test set is seen.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tllboost.grid.data import GridData
from tllboost.metrics import match_ranks
from tllboost.pairs import PairTable, read_pairs
from tllboost.pairs.groups import read_groups
from tllboost.splits import Protocol, SplitTable, make_splits

__all__ = ["SETS", "read_set", "top2_on_validation"]

SETS = ("tll", "dvd-covers", "ukbench")
_N_SEEDS = 5


def read_set(data: Path, name: str) -> PairTable:
    """Return the pair table of one of the three sets."""
    folder = data / name
    if not folder.is_dir():
        sys.exit(f"{folder} is not there: docs/data.md says how to build it")
    if name == "tll":
        left, right = folder / "left", folder / "right"
        return read_pairs(folder / "pairs.csv", left=left, right=right)
    return read_groups(folder, "folder" if name == "dvd-covers" else r"^(\d{4})")


def top2_on_validation(vectors: np.ndarray, gathered: GridData, name: str) -> float:
    """Return the top-2 accuracy of the cosine on validation sets, over five seeds.

    Parameters
    ----------
    vectors : ndarray of shape (n_images, n_dims), float32
        At length 1, in the order of `gathered`.
    name : str
        Of the set.
    """
    table = gathered.table
    # Two of fourteen groups are too few to rank among: larger validation sets.
    share = 0.4 if name == "ukbench" else 0.15
    reached = []
    for seed in range(_N_SEEDS):
        (split,) = make_splits(
            SplitTable(table.left, table.right, table.label, gathered.component),
            protocol=Protocol(validation_fraction=share),
            seed=seed,
        )
        side = split.validation
        score = (vectors[side.left] * vectors[side.right]).sum(axis=1)
        _, rank, _ = match_ranks(score, side.label, side.query)
        reached.append((rank <= 2).mean())
    return float(np.mean(reached))
