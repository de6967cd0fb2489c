"""All against all, and one query against a million stored vectors.

Vectors are made, with planted matches: for speed it is all one.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench import Bound, compare, curve, limit, options, peak_memory
from sklearn.linear_model import LogisticRegression

from tllboost.calibration import Calibration
from tllboost.classifier import ensemble
from tllboost.heads.boosting import XGBoostHead
from tllboost.heads.linear import LogisticHead
from tllboost.merges import PairFeatures
from tllboost.rank import VectorIndex, search
from tllboost.scoring import FittedCell, PairScorer

N_DIMS = 512
MERGES = {
    "dot": lambda a, b: a * b,
    "cosdot": lambda a, b: (
        a * b / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)[:, None]
    ),
    "l2": lambda a, b: (a - b) ** 2,
}


def made_vectors(n_images: int, file: Path | None = None) -> np.ndarray:
    """Return vectors of scenes, two views each, next to each other.

    What views differ by is drawn once, and turned by one column from block to block.
    """
    shape = (n_images, N_DIMS)
    out = np.empty(shape, np.float32)
    if file is not None:
        out = np.lib.format.open_memmap(file, "w+", np.float32, shape)
    rng = np.random.default_rng(0)
    noise = 0.8 * rng.standard_normal((min(n_images, 20_000), N_DIMS), dtype=np.float32)
    for turn, start in enumerate(range(0, n_images, 20_000)):
        rows = out[start : start + 20_000]
        scenes = rng.standard_normal((-(-len(rows) // 2), N_DIMS), dtype=np.float32)
        rows[:] = np.repeat(scenes, 2, axis=0)[: len(rows)]
        rows += np.roll(noise[: len(rows)], turn, axis=1)
    return out


def training_pairs(n_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return left and right rows and labels: a match and three others a scene."""
    left = np.repeat(np.arange(0, n_images - 1, 2), 4)
    right = np.random.default_rng(1).integers(n_images, size=len(left))
    right[::4] = left[::4] + 1
    return left, right, (left // 2 == right // 2).astype(int)


def made_cell(head: Any, merge: str, vectors: np.ndarray) -> FittedCell:
    """Return a fitted cell; its calibration is left as it is."""
    left, right, label = training_pairs(len(vectors))
    scorer = PairScorer(merge, "logistic")
    scorer.head_ = head.fit(PairFeatures(vectors, left, right, merge), label)
    scorer.calibration_, scorer.threshold_ = Calibration(1.0, 0.0), 0.0
    return FittedCell(None, None, scorer)  # type: ignore[arg-type]


def all_against_all(said: Any) -> None:
    """Compare one matrix product with merging and predicting.

    A notebook merges all pairs and predicts; by hand, it may do so a query at a time,
    whose features stay in the processor's cache.
    """
    n = 60 if said.quick else 1000
    both = made_vectors(2 * n)
    # Not all queries: all features at once would be two gigabytes.
    lines, right = both[0 : n // 2 : 2], both[1::2]
    for merge, merged in MERGES.items():
        cell = made_cell(LogisticHead(), merge, both)
        head = cell.scorer.head_
        # The same weights: the cosine, which is a sum of cosdot, is left out.
        head.fitted_ = replace(head.fitted_, slope=np.float32(0))
        peer_head = LogisticRegression()
        peer_head.classes_ = np.array([0, 1])
        peer_head.coef_ = head.fitted_.part.coef[None].astype(np.float64)
        peer_head.intercept_ = np.array([head.fitted_.intercept], dtype=np.float64)

        def peer(lines: np.ndarray, merged: Any = merged, head: Any = peer_head) -> Any:
            first, second = np.indices((len(lines), len(right))).reshape(2, -1)
            scores = head.decision_function(merged(lines[first], right[second]))
            return scores.reshape(len(lines), len(right))

        def by_query(
            lines: np.ndarray, merged: Any = merged, head: Any = peer_head
        ) -> np.ndarray:
            rows = [head.decision_function(merged(a[None], right)) for a in lines]
            return np.stack(rows)

        # A query at a time keeps its features in the cache: no bar but the machine's.
        for name, way, bar, peer_is in (
            ("all", peer, 100, "numpy merge of all pairs, then"),
            ("query", by_query, None, "a query at a time, numpy merge, then"),
        ):
            compare(
                f"rank_{name}_{merge}",
                partial(cell.bilinear(N_DIMS).scores, lines, right),
                partial(way, lines),
                check=close,
                runs=said.runs,
                bar=None if said.quick else bar,
                least=0.0 if said.quick else LONG_ENOUGH,
                warm_up=False,  # a work as short as ours is repeated
                bounds=[bare_product(lines, right)],
                what=f"{len(lines):,} against {n:,} vectors of {N_DIMS}, "
                f"linear head on `{merge}`",
                peer_is=f"{peer_is} scikit-learn's `decision_function`",
                profile=PROFILE,
                folder=said.folder,
            )


def bare_product(left: np.ndarray, right: np.ndarray) -> Bound:
    """Return BLAS alone on the same vectors, into memory that is there already."""
    out = np.empty((len(left), len(right)), np.float32)
    return Bound(
        f"bare sgemm, {len(left):,} × {left.shape[1]} × {len(right):,}",
        "GFLOP/s",
        2 * left.shape[1] * out.size / 1e9,
        partial(np.matmul, left, right.T, out=out),
    )


def bare_search(vectors: np.ndarray, query: np.ndarray) -> list[Bound]:
    """Return BLAS alone on the stored vectors, and the reading of them.

    Each number is read for two operations: the memory is what bounds it.
    """
    out = np.empty(len(vectors), np.float32)
    flat = vectors.reshape(-1)
    return [
        Bound(
            f"bare sgemv, {len(vectors):,} × {len(query)}",
            "GFLOP/s",
            2 * vectors.size / 1e9,
            partial(np.matmul, vectors, query, out=out),
        ),
        Bound(
            "reading the vectors once (bare sdot with themselves)",
            "GB/s",
            vectors.nbytes / 1e9,
            partial(np.dot, flat, flat),
        ),
    ]


TWICE = (
    "This head weighs the cosine beside the products: the vectors are read for each."
)
LONG_ENOUGH = 0.1  # seconds of a run: one product takes a hundredth of it
PROFILE = (
    "ours takes the matrix product (BLAS, float32, both cores) and the first write to "
    "the memory of the scores; the peer's features of a query stay in its cache"
)


def close(ours: np.ndarray, peer: np.ndarray) -> None:
    """Raise unless all scores are the same but for rounding."""
    apart = np.abs(ours - peer).max() / np.abs(peer).max()
    assert apart < 1e-5, f"scores are {apart:g} of the largest apart"


def million(said: Any) -> None:
    """Measure one query against many stored vectors, and what it finds."""
    sizes = (500, 2_000, 8_000) if said.quick else (62_500, 250_000, 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.npy"
        made_vectors(sizes[-1], file).flush()
        sample = np.array(VectorIndex.open(file).vectors[:2_000])
        boosted = XGBoostHead(n_estimators=100)
        models = {
            "linear": ensemble([made_cell(LogisticHead(), "dot", sample)]),
            "boosted": ensemble([made_cell(boosted, "l1", sample)]),
        }
        limit(
            "search_first",
            lambda: search(models["boosted"], VectorIndex.open(file), sample[0]),
            at_most=None,
            memory_at_most_mb=None if said.quick else 4096,
            warm_up=False,
            runs=said.runs,
            what=f"opening {sizes[-1]:,} vectors of {N_DIMS} and a first query, "
            "boosted head",
            notes=["Memory includes all mapped pages that were read."],
            folder=said.folder,
        )
        index = VectorIndex.open(file)
        found = recall(models["boosted"], index, said)
        for name, at_most in (("linear", 1.0), ("boosted", 2.0)):
            limit(
                f"search_{name}",
                partial(search, models[name], index, sample[0]),
                at_most=None if said.quick else at_most,
                runs=said.runs,
                bounds=bare_search(np.asarray(index.vectors), sample[0]),
                what=f"one query against {sizes[-1]:,} vectors of {N_DIMS}, "
                f"memory-mapped, {name} head",
                notes=[found if name == "boosted" else TWICE],
                folder=said.folder,
            )
        del index  # its pages would count as there before
        rows = [growth(models, file, size) for size in sizes]
    curve(
        "search_curve",
        ["vectors", "linear, s", "boosted, s", "peak MiB"],
        rows,
        what=f"One query against n stored vectors of {N_DIMS}",
        folder=said.folder,
    )


def recall(model: Any, index: VectorIndex, said: Any) -> str:
    """Return how many of the exact best ten a shortlist finds, in words."""
    n, n_queries = (400, 2) if said.quick else (100_000, 5)
    sizes = (10, 40) if said.quick else (200, 2_000)
    part = VectorIndex(index.vectors[:n])
    shares: dict[int, list[float]] = {size: [] for size in sizes}
    for row in range(0, 2 * n_queries, 2):
        query = part.vectors[row]
        exact = {hit.row for hit in search(model, part, query, exact=True)}
        for size in sizes:
            short = search(model, part, query, shortlist=size)
            shares[size].append(len(exact & {hit.row for hit in short}) / len(exact))
    held = " and ".join(
        f"a shortlist of {size:,} holds {np.mean(of):.0%}"
        for size, of in shares.items()
    )
    return (
        f"Of the exact best 10 among {n:,} (made vectors, {n_queries} queries), {held}."
    )


def growth(models: dict[str, Any], file: Path, n: int) -> list[float]:
    """Return seconds and memory of searches among the first `n`."""

    def first() -> None:
        index = VectorIndex(VectorIndex.open(file).vectors[:n])
        search(models["boosted"], index, index.vectors[0])

    memory = peak_memory(first)
    index = VectorIndex(VectorIndex.open(file).vectors[:n])
    row: list[float] = [n]
    for model in models.values():
        query = index.vectors[0]
        search(model, index, query)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            search(model, index, query)
            times.append(time.perf_counter() - started)
        row.append(min(times))
    return [*row, memory]


def main() -> None:
    """Measure all of it."""
    said = options(__doc__)
    all_against_all(said)
    million(said)


if __name__ == "__main__":
    main()
