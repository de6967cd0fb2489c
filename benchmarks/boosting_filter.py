"""Measure how many columns boosted trees should see, and write results/boosting.

Run it as ``python benchmarks/boosting_filter.py``. The heads ``xgboost`` and
``xgboost-rank`` are fitted on tll and dvd-covers with trees that see the n columns
alone that correlate most with what the cosine gets wrong. Rows of fits.csv that this
does not measure again are kept: those of ``groups`` are of the version before, which
grew each tree on a tenth of the columns.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS

from tllboost.files import csv_text, write_text
from tllboost.grid.data import GridData, gather
from tllboost.grid.measure import ScoredSet, one_thread
from tllboost.heads import boosting
from tllboost.heads.boosting import XGBoostHead, XGBoostRankHead
from tllboost.scoring import PairScorer
from tllboost.store import default_store
from tllboost.vectorizers import make_vectorizer

sys.path.append(str(Path(__file__).parent / "pocket"))
from validation_sides import read_set

SHARED = Path(__file__).resolve().parents[2] / "shared"
OUT = RESULTS.parent / "boosting"
NETWORKS = [f"onnx:{SHARED}/weights/{n}.onnx" for n in ("mobilenetv2", "squeezenet1_1")]
VECTORIZERS = {
    "small": "+".join([*NETWORKS, "classic"]),
    "mobilenetv2": NETWORKS[0],
}
HEADS = {"xgboost": XGBoostHead, "xgboost-rank": XGBoostRankHead}
FIGURES = ("top2", "mrr", "roc_auc")
KEYS = ("set", "vectorizer", "merge", "head", "columns", "seed")
NUMBERS = (
    *(f"{side} {n}" for side in ("test", "validation") for n in FIGURES),
    "cpu_s",
)

TEXT = """# Which columns boosted trees see

XGBoost builds histograms of all columns, however few a tree may use. `groups` is what
this package did before: the columns in ten groups, and for each tree a booster of its
own on one of them. A number says that one plain booster sees so many columns: those
that correlate most, on the training set, with what the start (the cosine) gets wrong.
Start, early stopping and the gate on validation are the same; bins are chosen by the
same rule, of fewer columns.

{table}

Means of three seeds; in brackets the standard deviation of the seeds.

The number of columns was chosen on validation, by the mean reciprocal rank of `small`
over all rows above: {validation}.
There 300 is the smallest number that is level with the groups. On `mobilenetv2` (1,280
columns) and DVD covers, five seeds of the grid of `dvd-covers.toml`, 300 is lower on
validation in all six rows and 1,000 is level on their mean; so 1,000 is what trees see,
in about half of the groups' time. Test figures chose nothing. The rows of `groups` are
those of results/dvd-covers, from another processor: rows of unchanged code moved
by up to 0.016 in top-2 between the two. [covers.csv](covers.csv):

{covers}

`small` is MobileNetV2, SqueezeNet and `classic` side by side (5,116 columns),
`mobilenetv2` the first of them (1,280). All fits: [fits.csv](fits.csv), written by
`python benchmarks/boosting_filter.py`.
"""


def measure(data: GridData, vectors: Any, seed: int, merge: str, head: Any) -> Any:
    """Return test and validation figures, and seconds to fit."""
    (split,) = data.splits(seed)
    scorer = PairScorer(merge, head(random_state=seed, n_jobs=1), seed=seed)
    sides = (split.train, split.validation, split.test)
    train, validation, test = (scorer.features(vectors, side) for side in sides)
    with one_thread():
        started = time.process_time()
        scorer.fit(train, split.train, validation, split.validation)
        seconds = time.process_time() - started
    found: list[float] = []
    for rows, pairs in ((test, split.test), (validation, split.validation)):
        scored = ScoredSet()
        how = scorer.calibration_, scorer.threshold_
        scored.add(pairs, scorer.score(rows), *how)
        figures, _ = scored.figures(resample=False)
        found += [figures[name].value for name in FIGURES]
    return [f"{one:.3f}" for one in (*found, seconds)]


def fits(said: argparse.Namespace) -> dict[tuple[str, ...], list[str]]:
    """Fit all of it; return figures and seconds by what was fitted."""
    rows = {}
    for name in said.sets.split(","):
        names = said.vectorizers.split(",")
        made = {one: make_vectorizer(VECTORIZERS[one]) for one in names}
        data = gather(read_set(SHARED / "data", name), made, store=default_store())
        for columns, vectorizer, merge, head, seed in product(
            said.columns.split(","), names, ("dot", "l1"), HEADS, range(said.seeds)
        ):
            boosting._N_BEST, boosting._WIDE = int(columns), 0
            vectors = data.vectors[vectorizer].vectors
            key = (name, vectorizer, merge, head, columns, str(seed))
            rows[key] = measure(data, vectors, seed, merge, HEADS[head])
            print(*key, *rows[key], flush=True)
    return rows


def page(rows: dict[tuple[str, ...], list[str]]) -> str:
    """Return the page: a row a set, vectorizer, merge, head and number of columns."""
    seeds: dict[tuple[str, ...], list[list[float]]] = {}
    for key, numbers in sorted(rows.items(), key=_order):
        seeds.setdefault(key[:-1], []).append([float(one) for one in numbers])
    lines = ["| set | vectors | merge | head | columns | top-2 | AUC | CPU s |"]
    lines.append(f"|{'---|' * 8}")
    for key, some in seeds.items():
        mean, spread = np.mean(some, axis=0), np.std(some, axis=0, ddof=1)
        cells = [f"{mean[i]:.3f} ({spread[i]:.3f})" for i in (0, 2)]
        lines.append(f"| {' | '.join([*key, *cells])} | {mean[-1]:.1f} |")
    reached: dict[str, list[float]] = {}
    for key, some in seeds.items():
        if key[1] == "small":
            reached.setdefault(key[-1], []).append(float(np.mean(some, axis=0)[4]))
    told = ", ".join(f"{np.mean(one):.3f} ({key})" for key, one in reached.items())
    with (OUT / "covers.csv").open(encoding="utf-8", newline="") as file:
        header, *kept = csv.reader(file)
    covers = [header, ["---"] * len(header), *kept]
    return TEXT.format(
        table="\n".join(lines),
        validation=told,
        covers="\n".join(f"| {' | '.join(row)} |" for row in covers),
    )


def _order(row: tuple[tuple[str, ...], list[str]]) -> tuple[Any, ...]:
    *key, columns, seed = row[0]
    return (*key, 0 if columns == "groups" else int(columns), seed)


def main() -> None:
    """Fit, print a row a fit, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", default="100,300,1000")
    parser.add_argument("--vectorizers", default="small,mobilenetv2")
    parser.add_argument("--sets", default="tll,dvd-covers")
    parser.add_argument("--seeds", type=int, default=3)
    said = parser.parse_args()
    rows = {}
    if (OUT / "fits.csv").exists():
        with (OUT / "fits.csv").open(encoding="utf-8", newline="") as file:
            header, *kept = csv.reader(file)
        n = len(KEYS)
        assert header == [*KEYS, *NUMBERS], header
        rows = {tuple(row[:n]): row[n:] for row in kept}
    rows |= fits(said)
    lines = [[*key, *numbers] for key, numbers in sorted(rows.items(), key=_order)]
    write_text(OUT / "fits.csv", csv_text([*KEYS, *NUMBERS], lines))
    write_text(OUT / "README.md", page(rows))


if __name__ == "__main__":
    main()
