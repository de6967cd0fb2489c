"""Measure what each block of `classic` is worth, and write results/classic.

Run it as ``python benchmarks/classic_blocks.py``. The cosine of `classic`, of
`classic+pocket` and of `classic` beside two networks, on the validation sets of three
sets, five seeds each: with all blocks, with one left out, with one alone, and with
other weights of the patches.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from fetch_data import SHARED
from joblib import Parallel, delayed
from tables import rows_of, table

from tllboost.files import csv_text, write_text
from tllboost.grid.data import gather
from tllboost.images import open_image
from tllboost.merges import unit_rows
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.base import fuse
from tllboost.vectorizers.classic import WEIGHTS, ClassicVectorizer, blocks

sys.path.append(str(Path(__file__).resolve().parent / "pocket"))
from validation_sides import SETS, read_set, top2_on_validation

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "results" / "classic"
NAMES = (*SETS, "mean")
PATCH_WEIGHTS = (0.5, 1.0, 4.0)
NETWORKS = {
    name: make_vectorizer(f"onnx:{SHARED}/weights/{name}.onnx")
    for name in ("squeezenet1_1", "mobilenetv2")
}
BESIDE = {"alone": (), "with pocket": ("pocket",), "with networks": tuple(NETWORKS)}
Blocks = dict[str, np.ndarray]

HEAD = """\
# The blocks of `classic`

This page measures the blocks of `classic` alone, in `classic+pocket`, and in `classic`
with SqueezeNet and MobileNetV2. Figures are top-2 of the plain cosine on validation
sets, the mean of five seeds. There are too few queries to tell neighbouring rows apart.
Test sets chose nothing; they are in [results/pocket](../pocket/README.md).

```sh
python benchmarks/classic_blocks.py
```
"""

WEIGHED = """\
The weights of the blocks in a cosine are {weights}. They were chosen in rough steps on
the same validation sets, together with the widths and numbers of waves of the patches.
At that time the test figures of an earlier `classic` were known, which had no patches
and was worse on covers; no test figure set a number. Networks find parts of objects at
any position themselves: with them, compare the rows `all` and `without patches`.
"""


def variants() -> Iterator[tuple[str, Mapping[str, float]]]:
    """Yield what is measured: its name, and the weights of its blocks."""
    yield "all", WEIGHTS
    for name in WEIGHTS:
        yield f"without {name}", {**WEIGHTS, name: 0.0}
    for name in WEIGHTS:
        yield f"{name} alone", {name: 1.0}
    for weight in PATCH_WEIGHTS:
        yield f"patches of weight {weight:g}", {**WEIGHTS, "patches": weight}


def described(paths: list[str]) -> Blocks:
    """Return the blocks of all images, each of shape (n_images, n_dims)."""
    made = Parallel(-1)(delayed(_blocks)(path) for path in paths)
    return {name: np.array([one[name] for one in made]) for name in WEIGHTS}


def _blocks(path: str) -> Blocks:
    return blocks(open_image(path, shrink_to=ClassicVectorizer().input_size))


def measure(data: Path, store: Path | None) -> Iterator[list[object]]:
    """Yield a row a variant: its name, and both figures of each set."""
    sets = {}
    others = {"pocket": make_vectorizer("pocket"), **NETWORKS}
    for name in SETS:
        gathered = gather(read_set(data, name), others, store=store)
        paths = [str(path) for path in gathered.table.paths]
        sets[name] = (gathered, described(paths))
    for variant, weights in variants():
        used = {one: weight for one, weight in weights.items() if weight}
        row: list[object] = [variant]
        for beside in BESIDE.values():
            figures = []
            for name, (gathered, found) in sets.items():
                classic = fuse([found[one] for one in used], list(used.values()))
                all_parts = [
                    classic,
                    *(gathered.vectors[one].vectors for one in beside),
                ]
                vectors = unit_rows(fuse(all_parts))
                figures.append(top2_on_validation(vectors, gathered, name))
            row += [*figures, np.mean(figures)]
        yield row


def page(folder: Path) -> str:
    """Return the page of the table beside it."""
    rows = rows_of(folder / "blocks.csv")
    lines = [HEAD]
    for beside in BESIDE:
        shown = [
            [
                row["variant"],
                *(f"{float(row[f'{name}, {beside}']):.3f}" for name in NAMES),
            ]
            for row in rows
        ]
        heading = beside.capitalize()
        lines += [f"## {heading}", "", *table(["blocks", *NAMES], shown), ""]
    weights = ", ".join(f"{weight:g} ({name})" for name, weight in WEIGHTS.items())
    text = WEIGHED.format(weights=weights)
    lines += ["## Weights", "", *textwrap.wrap(text, 88, break_on_hyphens=False), ""]
    return "\n".join(lines)


def main() -> None:
    """Measure, and write the table and its page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--store", type=Path, help="where vectors are kept")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    rows = [
        [row[0], *(f"{one:.4f}" for one in row[1:])]
        for row in measure(given.data, given.store)
    ]
    figures = [f"{name}, {beside}" for beside in BESIDE for name in NAMES]
    columns = ["variant", *figures]
    given.out.mkdir(parents=True, exist_ok=True)
    write_text(given.out / "blocks.csv", csv_text(columns, rows))
    write_text(given.out / "README.md", page(given.out))


if __name__ == "__main__":
    main()
