"""All images of a folder against each other: the ten best of each, and how it grows.

Vectors are made, two views of each scene: for exact search it is all one. An index that
is approximate gets vectors whose spread falls from number to number, about as that of
`pocket` on photographs: on others its recall is another. What is compared with needs
``pip install faiss-cpu usearch``; it is left out where that is not installed. Takes
90 minutes on two cores, so ``make bench`` leaves it out: run it by its name, or a part
of it by --part.
"""

from __future__ import annotations

import hashlib
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
from tllboost.similar import find_similar
from tllboost.similar.tiles import Sought, by_products, floor_of
from tllboost.similar.tiles import compare as compare_all
from tllboost.store import VectorStore
from tllboost.vectorizing import space_of

N_DIMS, TOP = 512, 10
TILE = 4096
FEW = 20_000
WIDTHS = (32,)  # of a search: how many candidates it keeps
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
    """Return seconds and memory of ours for n images, of one run."""
    vectors = unit_rows(made_vectors(n))
    seconds: list[float] = []
    peak = peak_memory(lambda: seconds.append(seconds_of(ours, vectors)))
    print(f"{n} images: {seconds[0]:.3g} s, {peak:.4g} MiB", flush=True)
    return [n, *seconds, peak]


def beside_all(n: int) -> list[float]:
    """Return seconds of ours, the bare products and both peers for n images."""
    vectors = unit_rows(made_vectors(n))
    works = (ours, bare, by_faiss, by_neighbours)
    return [n, *(seconds_of(work, vectors) for work in works)]


def seconds_of(work: Callable[..., Any], *arguments: Any) -> float:
    """Return the seconds that a work takes, once."""
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def photo_like(n: int) -> np.ndarray:
    """Return vectors whose k-th number has a spread of 1 / sqrt(k)."""
    spread = 1 / np.sqrt(np.arange(1, N_DIMS + 1, dtype=np.float32))
    return unit_rows(made_vectors(n) * spread)


def approximate(n: int) -> list[float]:
    """Return what an index costs, and what searches of two widths cost and find.

    The share of the ten best that it finds is that of 1,000 of the images.
    """
    from usearch.index import Index

    vectors = photo_like(n)
    row = [n, seconds_of(ours, vectors)]
    some = np.linspace(0, n - 1, min(n, 1_000)).astype(int)
    near = vectors[some] @ vectors.T
    near[np.arange(len(some)), some] = -np.inf
    best = np.argpartition(-near, TOP, axis=1)[:, :TOP].tolist()
    index: Any = Index(ndim=N_DIMS, metric="ip", dtype="f32", expansion_add=64)
    row.append(seconds_of(partial(index.add, threads=2), np.arange(n), vectors))
    for width in WIDTHS:
        index.expansion_search = width
        started = time.perf_counter()
        keys = index.search(vectors, TOP + 1, threads=2).keys.astype(int)
        row.append(time.perf_counter() - started)
        found = map(set, keys[some].tolist())
        hits = [len(set(a) & b) for a, b in zip(best, found, strict=True)]
        row.append(float(np.mean(hits)) / TOP)
    print(row, flush=True)
    return row


class Stored:
    """A vectorizer whose vectors are all in the store."""

    fingerprint, label, n_dims, input_size = "stored|1", "stored", N_DIMS, None

    def prepare(self, image: Any) -> Any:
        """Fail: no image is looked at."""
        raise AssertionError(image)

    forward = prepare


def of_store(n: int, folder: Path) -> Callable[[], Any]:
    """Return the whole search among files whose vectors are in a store.

    From the names to the pairs; the files are known, and not read again.
    """
    store, paths = VectorStore(folder / "store"), []
    vectors = unit_rows(made_vectors(n))
    for number in range(n):
        paths.append(folder / f"{number:07d}.jpg")
        paths[-1].write_text(str(number))
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(n)]
    vectorizer: Any = Stored()
    with store:
        for rows in range(0, n, 10_000):
            some = slice(rows, rows + 10_000)
            store.add(space_of(vectorizer), keys[some], vectors[some])

    def search() -> None:
        how: dict[str, Any] = {"store": store, "backend": Processes()}
        found = find_similar(paths, vectorizer=vectorizer, top=TOP, **how)
        assert len(found.pairs) == n * TOP

    return search


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
    said = options(__doc__, PARTS)
    for part in said.part:
        PARTS[part](said, said.quick)


def beside_peers(said: Any, is_quick: bool) -> None:
    """Measure 100,000 images beside the bare products, faiss and scikit-learn."""
    vectors = unit_rows(made_vectors(2_000 if is_quick else 100_000))
    how: dict[str, Any] = {
        "runs": said.runs,
        "warm_up": False,
        "what": told_of(len(vectors)),
        "profile": PROFILE,
        "folder": said.folder,
    }
    work = partial(ours, vectors)
    compare(
        "similar_bare",
        work,
        partial(bare, vectors),
        check=lambda found, _: None,
        bar=None if is_quick else 1 / 1.3,
        peer_is="the bare products, which tell nothing",
        **how,
    )
    if find_spec("faiss") is not None:
        beside("similar_faiss", by_faiss, "faiss's `IndexFlatIP`", vectors, how)
    few = vectors if is_quick else vectors[:FEW]  # of all, this takes minutes a run
    named = "scikit-learn's brute-force neighbours"
    beside("similar_neighbours", by_neighbours, named, few, how)


def memory(said: Any, is_quick: bool) -> None:
    """Measure the memory of a whole search, vectors in the store included."""
    n = 500 if is_quick else 100_000
    with tempfile.TemporaryDirectory() as folder:
        limit(
            "similar",
            of_store(n, Path(folder)),
            at_most=None,
            memory_at_most_mb=None if is_quick else 1536,
            what=f"{told_of(n)}, from files whose vectors the store has to pairs",
            runs=said.runs,
            warm_up=False,
            folder=said.folder,
        )


SIZES = (1_000, 10_000, 100_000)


def grown(said: Any, is_quick: bool) -> None:
    """Measure how it grows, to a million images."""
    sizes = (200, 1_000) if is_quick else (*SIZES, 1_000_000)
    curve(
        "similar_curve",
        ["images", "ours, s", "peak MiB"],
        [growth(size) for size in sizes],
        what=f"The {TOP} best of each of n images of {N_DIMS} numbers",
        folder=said.folder,
    )


def grown_beside(said: Any, is_quick: bool) -> None:
    """Measure what the peers take of as many images, in turn."""
    if find_spec("faiss") is None:
        return
    curve(
        "similar_peers",
        ["images", "ours, s", "bare products, s", "faiss, s", "scikit-learn, s"],
        [beside_all(size) for size in ((200, 1_000) if is_quick else SIZES)],
        what=f"The {TOP} best of each of n images of {N_DIMS} numbers, in turn",
        folder=said.folder,
    )


def by_an_index(said: Any, is_quick: bool) -> None:
    """Measure whether an approximate index pays, and what it finds."""
    if find_spec("usearch") is None:
        return
    columns = ["images", "ours (exact), s", "index built, s"]
    for width in WIDTHS:
        columns += [f"searched {width} wide, s", "share of the best found"]
    sizes = (200, 2_000) if is_quick else SIZES[1:]
    curve(
        "similar_approximate",
        columns,
        [approximate(size) for size in sizes],
        what=f"usearch's approximate index: the {TOP} best of each of n images",
        folder=said.folder,
    )


PARTS = {
    "peers": beside_peers,
    "memory": memory,
    "growth": grown,
    "growth-beside": grown_beside,
    "approximate": by_an_index,
}


if __name__ == "__main__":
    main()
