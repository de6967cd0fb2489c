"""Vectors and pairs of the shape of the 2017 Holidays grid, with a planted signal.

The signal lies in an eighth of the columns, under as much noise: the cosine finds some
of it, and a head that learns which columns matter finds more.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tllboost.files import write_text
from tllboost.pairs import PairTable, read_pairs

SIDES = {"train": 0.6, "validation": 0.1, "test": 0.3}
SIGNAL = 0.8


class Shape(NamedTuple):
    """Pairs by rows of vectors, and the side that each pair is on."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    label: NDArray[np.int8]
    side: NDArray[np.str_]
    group: NDArray[np.int64]


def make_shape(
    n_matches: int = 2_072, sizes: tuple[int, ...] = (2, 3, 4), seed: int = 0
) -> Shape:
    """Return as many non-matches as matches, within groups of so many images."""
    rng = np.random.default_rng(seed)
    per_group = np.mean([size * (size - 1) / 2 for size in sizes])
    n_groups = int(1.2 * n_matches / per_group) + 10
    group = np.repeat(np.arange(n_groups), rng.choice(sizes, size=n_groups))
    here = np.arange(len(group))
    matches = np.concatenate(
        [
            np.column_stack([here[:-step], here[step:]])[group[:-step] == group[step:]]
            for step in range(1, max(sizes))
        ]
    )
    matches = rng.permutation(matches)[:n_matches]
    used, matches = np.unique(matches, return_inverse=True)
    group, matches = group[used], matches.reshape(-1, 2)
    drawn = np.sort(rng.integers(len(group), size=(4 * n_matches, 2)), axis=1)
    drawn = np.unique(drawn[group[drawn[:, 0]] != group[drawn[:, 1]]], axis=0)
    others = rng.permutation(drawn)[:n_matches]
    left, right = np.concatenate([matches, others]).T
    label = np.repeat([1, 0], [len(matches), len(others)]).astype(np.int8)
    return Shape(left, right, label, _sides(len(label), rng), group)


def _sides(n_pairs: int, rng: np.random.Generator) -> NDArray[np.str_]:
    share = np.array(list(SIDES.values())).cumsum()
    drawn = (rng.permutation(n_pairs) + 0.5) / n_pairs
    return np.array(list(SIDES))[np.searchsorted(share, drawn).clip(max=2)]


def make_vectors(
    shape: Shape, seed: int, n_dims: int = 2_048, signal: float = SIGNAL
) -> NDArray[np.float32]:
    """Return what one network might say of the images: (n_images, n_dims)."""
    rng = np.random.default_rng(seed)
    n_groups = shape.group.max() + 1
    meant = rng.normal(size=(n_groups, n_dims // 8)).astype(np.float32)
    vectors = rng.normal(size=(len(shape.group), n_dims)).astype(np.float32)
    vectors[:, : n_dims // 8] += signal * meant[shape.group]
    return np.maximum(vectors, 0)


def write_table(shape: Shape, folder: Path) -> PairTable:
    """Return the pair table, written and read as a user's would be."""
    rows = zip(*shape[:4], strict=True)
    lines = [f"{a:06d},{b:06d},{label},{side}" for a, b, label, side in rows]
    path = folder / "pairs.csv"
    write_text(path, "\n".join(["left,right,label,split", *lines]) + "\n")
    return read_pairs(path)


def write_vectors(vectors: NDArray[np.float32], path: Path) -> str:
    """Write vectors under the ids of the table; return how a grid is told of them."""
    ids = np.array([f"{i:06d}" for i in range(len(vectors))])
    with path.open("wb") as file:
        np.savez(file, ids=ids, vectors=vectors)
    return f"vectors:{path}"
