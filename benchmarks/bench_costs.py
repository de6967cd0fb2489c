"""How time and memory grow: vectorizing and the grid at 1, 4 and 16 times the size.

What all heads take of more pairs is told by bench_grid_scale.py, and what ranking takes
of more vectors by bench_rank.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench import curve, options, peak_memory, timed

TIMES = (1, 4, 16)
COLUMNS = ("wall s", "CPU s", "peak MiB")
HEADS = ("cosine", "logistic", "xgboost")


def costs(work: Callable[[], Any]) -> list[float]:
    """Return wall seconds, CPU seconds and peak memory of one run of a work."""
    seconds: dict[str, float] = {}
    peak = peak_memory(lambda: seconds.update(timed(work)[1]))
    return [seconds["wall"], seconds["cpu"], peak]


def vectorizing(folder: Path, sizes: Sequence[int]) -> list[list[float]]:
    """Vectorize images without a store: decoding and descriptors, nothing reused."""
    from tllboost import make_vectorizer, vectorize
    from tllboost.demo import make_scenes

    pairs = make_scenes(folder / "images", n_scenes=max(sizes) // 3 + 1, n_views=3)
    images = sorted(pairs.parent.glob("*.jpg"))
    vectorizer = make_vectorizer("classic")
    return [[n, *costs(lambda n=n: vectorize(vectorizer, images[:n]))] for n in sizes]


def grid(
    folder: Path, sizes: Sequence[int], n_dims: int, heads: Sequence[str]
) -> list[list[float]]:
    """Run cells on vectors that are there: splits, heads, intervals, files."""
    from tllboost import read_pairs, run_grid

    rows = []
    for n_pairs in sizes:
        table, vectors = planted(folder, n_pairs, n_dims)

        def work(table: Path = table, vectors: Path = vectors) -> None:
            run_grid(
                read_pairs(table),
                [f"vectors:{vectors}"],
                ["dot"],
                heads,
                out=folder / "out",
                store=folder / "store",
                overwrite=True,
            )

        rows.append([n_pairs, *costs(work)])
    return rows


def planted(folder: Path, n_pairs: int, n_dims: int) -> tuple[Path, Path]:
    """Write a table of matches and vectors in which they lie closer than others."""
    rng = np.random.default_rng(0)
    both = rng.normal(size=(n_pairs, n_dims))
    sides = [both + rng.normal(size=both.shape) for _ in range(2)]
    ids = [[f"{side}{i}" for i in range(n_pairs)] for side in ("l", "r")]
    table = folder / f"pairs-{n_pairs}-{n_dims}.csv"
    lines = "\n".join(map(",".join, zip(*ids, strict=True)))
    table.write_text(f"left,right\n{lines}\n")
    vectors = table.with_suffix(".npz")
    np.savez(
        vectors,
        ids=np.array(ids[0] + ids[1]),
        vectors=np.concatenate(sides).astype(np.float32),
    )
    return table, vectors


def scaled(least: int) -> list[int]:
    """Return the sizes."""
    return [least * times for times in TIMES]


def main() -> None:
    """Measure and record all curves."""
    said = options(__doc__)
    small = said.quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # What starts once, processes and libraries, is no cost of the first size.
        vectorizing(folder / "first", [3])
        grid(folder, [40], 16, HEADS)
        curve(
            "costs-vectorize",
            ("images", *COLUMNS),
            vectorizing(folder, scaled(3 if small else 20)),
            what="Vectorizing images with `classic`, cold",
            folder=said.folder,
        )
        curve(
            "costs-grid-cosine",
            ("pairs", *COLUMNS),
            grid(folder, scaled(40 if small else 4_000), 16, ["cosine"]),
            what="A grid of the cosine alone, 16 dims, 5 non-matches each",
            folder=said.folder,
        )
        curve(
            "costs-grid-dims",
            ("dims", *COLUMNS),
            [
                [n_dims, *grid(folder, [80 if small else 1000], n_dims, HEADS)[0][1:]]
                for n_dims in scaled(8 if small else 64)
            ],
            what=f"A grid of {', '.join(HEADS)} on `dot`, 1,000 pairs, by dims",
            folder=said.folder,
        )


if __name__ == "__main__":
    main()
