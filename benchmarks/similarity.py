"""Measure normalised similarities, and write results/similarity/README.md.

    python benchmarks/similarity.py [--store DIR] [--seeds 5] [--heads]

On tll, dvd-covers and ukbench, split as ``tllboost grid`` splits them: first the cosine
beside its normalised forms, for which nothing is fitted, then heads on the merge
``similarity`` beside the same heads on the merges of the vectors themselves.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS
from ensembles import figures
from fetch_data import SHARED
from numpy.typing import NDArray
from tables import rows_of, table

from tllboost.files import csv_text, write_text
from tllboost.grid.data import GridData, gather
from tllboost.grid.measure import Bench, Space, fit_scorer, one_thread
from tllboost.grid.summary import interval
from tllboost.pairs import read_pairs
from tllboost.pairs.groups import read_groups
from tllboost.references import References
from tllboost.splits import Split
from tllboost.store import default_store
from tllboost.vectorizers import make_vectorizer

OUT = RESULTS.parent / "similarity"
WEIGHTS = SHARED / "weights"
MOBILENET, SQUEEZENET = (
    f"onnx:{WEIGHTS / name}" for name in ("mobilenetv2.onnx", "squeezenet1_1.onnx")
)
VIEWS = "views=whole,centre,grey"
VECTORIZERS = {
    "classic": "classic",
    "classic+pocket": "classic+pocket",
    "mobilenetv2": MOBILENET,
    "small": f"{MOBILENET}+{SQUEEZENET}+classic",
    "views+local": "+".join(
        [
            f"{MOBILENET}?{VIEWS}",
            f"{SQUEEZENET}?{VIEWS}",
            "classic",
            f"{MOBILENET}?output=hardtanh_34&cells=3",
            f"{SQUEEZENET}?output=cat_7&cells=3",
        ]
    ),
}
SETS = ("tll", "dvd-covers", "ukbench")
SIZES = (100, 256)
FORMS = {"S-norm": 1, "CSLS": 3}  # columns of the whole vector
OWN, OTHER = "the training set", "another set"
HEADS = ("logistic", "xgboost", "xgboost-rank")
MERGES = ("similarity", "dot", "l1")
COLUMNS = ("set", "vectorizer", "way", "validation mrr", "top2", "of each seed")
COLUMNS += ("rival", "gain", "low", "high", "seconds")

Floats = NDArray[np.float64]

TEXT = """# Normalised similarities

```sh
python benchmarks/similarity.py --seeds {n_seeds}{option}
```

Mean top-2 over {n_seeds} seeds, with splits as `tllboost grid` makes them: 20 % of the
groups are tested, and each match is ranked among 20 (fewer for ukbench). References are
images of the training set; their labels are not read. `small` is MobileNetV2,
SqueezeNet and `classic`; `views+local` has their views and local maps instead.

## Nothing fitted

`cosine-norm` is S-norm with at most 512 references, or as many as fit into 4 MB. The
gain over the cosine has its 95 % interval (paired bootstrap over components).

{plain}
{heads}
[similarity.csv](similarity.csv) has all results.
"""

WITH = """
## Heads

The same heads on the merge `similarity` and on the vectors, with five non-matches for
each match. The gain is over the other merge that is better on validation. Seconds are
for the features, a fit and the test scores, in one thread.

{heads}
"""


def read(name: str) -> Any:
    """Return the pairs of a set."""
    folder = SHARED / "data" / name
    if name == "tll":
        sides = {"left": folder / "left", "right": folder / "right"}
        return read_pairs(folder / "pairs.csv", **sides)
    return read_groups(folder, "folder" if name == "dvd-covers" else r"^(\d{4})")


def plain(
    space: Space, split: Split, seed: int, others: NDArray[np.float32]
) -> Iterator[tuple[str, Floats, Floats]]:
    """Give each form's scores of validation and test: nothing is fitted."""
    vectors, train = space.vectors, split.train
    images, widths = np.union1d(train.left, train.right), space.widths
    whole = References.drawn(vectors, images, widths, seed=seed)
    ways = {OWN: whole}
    for n in SIZES:
        ways[str(n)] = References(whole.vectors[:n], whole.widths)
    drawn = References.drawn(others, np.arange(len(others)), widths, seed=seed)
    ways[OTHER] = drawn
    for name, references in ways.items():
        sets = (split.validation, split.test)
        rows = [references.rows(vectors, one.left, one.right) for one in sets]
        if name == OWN:
            yield "cosine", rows[0][:, 0], rows[1][:, 0]
        for form, column in FORMS.items():
            yield f"{form}, {name}", rows[0][:, column], rows[1][:, column]


def scored(
    vectorizer: str, data: GridData, others: GridData, seed: int, *, with_heads: bool
) -> Iterator[tuple[str, Floats, Floats, float]]:
    """Give the scores of validation and test of each way, and its seconds."""
    (split,), found = data.splits(seed), data.vectors[vectorizer]
    space = Space(found.vectors, widths=found.widths or None)
    for one in plain(space, split, seed, others.vectors[vectorizer].vectors):
        yield *one, 0.0
    for merge in MERGES if with_heads and vectorizer in WITH_HEADS else ():
        started = time.perf_counter()
        bench = Bench([space], [split], merge, seed)
        _, validation, test = bench.features[0]
        shared = time.perf_counter() - started
        for head in HEADS:
            started = time.perf_counter()
            scorer = fit_scorer(bench, head)
            score = scorer.score(test)
            seconds = shared + time.perf_counter() - started
            yield f"{head}, {merge}", scorer.score(validation), score, seconds


def measured(
    name: str, data: GridData, others: GridData, n_seeds: int, *, with_heads: bool
) -> Iterator[list[str]]:
    """Give a row of the table for each way."""
    for vectorizer in data.vectors:
        found: dict[str, list[tuple[float, float, float, Floats]]] = {}
        for seed in range(n_seeds):
            (split,) = data.splits(seed)
            how = vectorizer, data, others, seed
            for way, *scores, seconds in scored(*how, with_heads=with_heads):
                mrr, *_ = figures(scores[0], split.validation)
                _, top2, draws = figures(scores[1], split.test)
                found.setdefault(way, []).append((mrr, top2, seconds, draws))
        means = {w: np.mean([x[:3] for x in of], axis=0) for w, of in found.items()}
        draws_of = {w: np.mean([x[3] for x in of], axis=0) for w, of in found.items()}
        for way, of in found.items():
            rival, (head, _, merge) = "cosine", way.partition(", ")
            if merge == MERGES[0]:  # the better of the others by validation
                others_of = (f"{head}, {one}" for one in MERGES[1:])
                rival = max(others_of, key=lambda one: means[one][0])
            gain = means[way][1] - means[rival][1]
            low, high = interval(draws_of[way] - draws_of[rival])
            texts = [f"{one:.4f}" for one in means[way][:2]]
            texts += [" ".join(f"{x[1]:.4f}" for x in of), rival]
            texts += [f"{one:.4f}" for one in (gain, low, high)]
            texts += [f"{means[way][2]:.3f}"]
            print(name, vectorizer, way, *texts, flush=True)
            yield [name, vectorizer, way, *texts]


WITH_HEADS = ("classic+pocket", "small", "views+local")


def page(path: Path) -> str:
    """Return the page that the table makes."""
    found: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for row in rows_of(path):
        found.setdefault((row["set"], row["vectorizer"]), {})[row["way"]] = row
    columns = ["set", "vectors", "cosine", "S-norm", "gain"]
    columns += ["of 100", "of 256", f"of {OTHER}", "CSLS"]
    head_columns = ["set", "vectors", "head", *MERGES, "gain over", "gain"]
    head_columns += ["s, similarity", "s, the other"]
    plain_rows, head_rows = [], []
    for key, ways in found.items():
        top2 = {way: f"{float(row['top2']):.3f}" for way, row in ways.items()}
        norm = f"S-norm, {OWN}"
        cells = [f"S-norm, {one}" for one in (*SIZES, OTHER)] + [f"CSLS, {OWN}"]
        told = [top2["cosine"], top2[norm], _gain(ways[norm])]
        plain_rows.append([*key, *told, *(top2[one] for one in cells)])
        for head in HEADS if f"{HEADS[0]}, {MERGES[0]}" in ways else ():
            own, *others = (f"{head}, {merge}" for merge in MERGES)
            rival = ways[own]["rival"]
            told = [head, *(top2[one] for one in (own, *others))]
            told += [rival.partition(", ")[2], _gain(ways[own])]
            both = (ways[one]["seconds"] for one in (own, rival))
            head_rows.append([*key, *told, *(f"{float(one):.2f}" for one in both)])
    return TEXT.format(
        n_seeds=len(ways["cosine"]["of each seed"].split()),
        option=" --heads" if head_rows else "",
        plain="\n".join(table(columns, plain_rows)),
        heads=WITH.format(heads="\n".join(table(head_columns, head_rows)))
        if head_rows
        else "",
    )


def _gain(row: dict[str, str]) -> str:
    gain, low, high = (float(row[name]) for name in ("gain", "low", "high"))
    return f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    """Measure, print a row a fit, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="folder of the vector store")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heads", action="store_true", help="fit heads, too: an hour")
    parser.add_argument("--out", type=Path, default=OUT)
    said = parser.parse_args()
    made = {name: make_vectorizer(spec) for name, spec in VECTORIZERS.items()}
    store = said.store or default_store()
    data = {name: gather(read(name), made, store=store) for name in SETS}
    rows: list[list[str]] = []
    with one_thread():
        for name, other in zip(SETS, (*SETS[1:], SETS[0]), strict=True):
            sets = data[name], data[other]
            rows += measured(name, *sets, said.seeds, with_heads=said.heads)
    said.out.mkdir(parents=True, exist_ok=True)
    write_text(said.out / "similarity.csv", csv_text(COLUMNS, rows))
    write_text(said.out / "README.md", page(said.out / "similarity.csv"))


if __name__ == "__main__":
    main()
