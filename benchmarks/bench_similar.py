"""All images of a folder against each other: the ten best of each, and how it grows.

Vectors are made, two views of each scene: for speed it is all one. What is compared
with needs ``pip install faiss-cpu``; it is left out where that is not installed. Takes
25 minutes on two cores, so ``make bench`` leaves it out: run it by its name.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from bench import compare, curve, limit, options, peak_memory
from bench_rank import made_vectors
from sklearn.neighbors import NearestNeighbors

from tllboost.merges import unit_rows
from tllboost.processes import Processes
from tllboost.similar.tiles import Sought, by_products, floor_of
from tllboost.similar.tiles import compare as compare_all

N_DIMS, TOP = 512, 10
TILE = 4096
FEW = 20_000
PROFILE = (
    "half of the product, since a tile tells of its rows and of its columns; then one "
    "comparison of each score with what an image must beat"
)


def ours(vectors: np.ndarray) -> np.ndarray:
    """Return the best ten of each image: (n_images, 10), best first."""
    sought = Sought(TOP, -np.inf, is_one_folder=True)
    arrays = [vectors, vectors, floor_of(vectors, vectors, sought)]
    what = by_products, arrays, len(vectors), sought
    with tempfile.TemporaryDirectory() as folder:
        found = compare_all(*what, Path(folder, "strips"), backend=Processes())
    return found["right"].reshape(-1, TOP)


def bare(vectors: np.ndarray) -> None:
    """Compute all products, a tile at a time on both cores, and look at none."""
    room = np.empty((TILE, TILE), np.float32)
    for first in range(0, len(vectors), TILE):
        rows = vectors[first : first + TILE]
        for second in range(0, len(vectors), TILE):
            columns = vectors[second : second + TILE]
            out = room.reshape(-1)[: len(rows) * len(columns)]
            np.matmul(rows, columns.T, out=out.reshape(len(rows), -1))


def by_faiss(vectors: np.ndarray) -> np.ndarray:
    """Return the best ten of each image by an exact index."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return without_itself(index.search(vectors, TOP + 1)[1])


def by_neighbours(vectors: np.ndarray) -> np.ndarray:
    """Return the best ten of each image by scikit-learn, which wants distances."""
    finder = NearestNeighbors(n_neighbors=TOP, algorithm="brute", n_jobs=-1)
    return finder.fit(vectors).kneighbors(return_distance=False)


def without_itself(rows: np.ndarray) -> np.ndarray:
    """Return the rows of others, of which each row has one more than is wanted."""
    itself = rows == np.arange(len(rows))[:, None]
    itself[~itself.any(axis=1), -1] = True
    return rows[~itself].reshape(len(rows), -1)


def same(vectors: np.ndarray, found: np.ndarray, peer: np.ndarray) -> None:
    """Raise unless both found images that are as near."""
    for rows in range(0, len(vectors), 10_000):
        block = slice(rows, rows + 10_000)
        near, wanted = (
            np.sort(np.einsum("ijk,ik->ij", vectors[one[block]], vectors[block]))
            for one in (found, peer)
        )
        apart = np.abs(near - wanted).max()
        assert apart < 1e-4, f"products are {apart:g} apart"


def growth(n: int) -> list[float]:
    """Return seconds of ours and of the bare products, and memory, of n images."""
    vectors = unit_rows(made_vectors(n))
    row: list[float] = [n]
    for work in (ours, bare):
        started = time.perf_counter()
        work(vectors)
        row.append(time.perf_counter() - started)
    return [*row, peak_memory(partial(ours, vectors))]


def beside(
    name: str, peer: Callable[..., Any], peer_is: str, some: np.ndarray, how: Any
) -> None:
    """Compare with a peer, which finds images that are as near."""
    compare(
        name,
        partial(ours, some),
        partial(peer, some),
        check=partial(same, some),
        bar=1.0,
        peer_is=peer_is,
        **{**how, "what": told_of(len(some))},
    )


def told_of(n: int) -> str:
    return f"the {TOP} best of each of {n:,} images of {N_DIMS} numbers"


def main() -> None:
    """Measure all of it."""
    said = options(__doc__)
    n = 2_000 if said.quick else 100_000
    vectors = unit_rows(made_vectors(n))
    how: dict[str, Any] = {
        "runs": said.runs,
        "warm_up": False,
        "what": told_of(n),
        "profile": PROFILE,
        "folder": said.folder,
    }
    work = partial(ours, vectors)
    limit(
        "similar",
        work,
        at_most=None,
        memory_at_most_mb=None if said.quick else 1536 - vectors.nbytes / 2**20,
        notes=["Memory is beyond the vectors themselves; with them 1.5 GB at most."],
        **{**how, "runs": 1 if not said.quick else said.runs},
    )
    compare(
        "similar_bare",
        work,
        partial(bare, vectors),
        check=lambda found, _: None,
        bar=None if said.quick else 1 / 1.3,
        peer_is="the bare products, which tell nothing",
        **how,
    )
    if find_spec("faiss") is not None:
        beside("similar_faiss", by_faiss, "faiss's `IndexFlatIP`", vectors, how)
    few = vectors if said.quick else vectors[:FEW]  # of all, this takes minutes a run
    named = "scikit-learn's brute-force neighbours"
    beside("similar_neighbours", by_neighbours, named, few, how)
    sizes = (200, 1_000) if said.quick else (1_000, 10_000, 100_000)
    curve(
        "similar_curve",
        ["images", "ours, s", "bare products, s", "peak MiB"],
        [growth(size) for size in sizes],
        what=f"The {TOP} best of each of n images of {N_DIMS} numbers",
        folder=said.folder,
    )


if __name__ == "__main__":
    main()
