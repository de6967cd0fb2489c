r"""Measure how many columns boosted trees should see, and write results/boosting.

    python benchmarks/boosting_filter.py
    python benchmarks/boosting_filter.py --sets dvd-covers --vectorizers mobilenetv2 \
        --merges cosdot,l1,l2 --columns 300,500,1000 --seeds 5 --groups ../older/run

The heads ``xgboost`` and ``xgboost-rank`` are fitted on tll and dvd-covers with trees
that see the n columns alone that correlate most with what the cosine gets wrong. Rows
of fits.csv that this does not measure again are kept: those of ``groups`` are of the
version before (3b90f7c), which grew each tree on a tenth of the columns; ``--groups``
reads them from a folder in which its ``tllboost grid`` left such cells.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS
from fetch_data import SHARED

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
this package did before: it put the columns into ten groups, and gave each tree its own
booster on one of them. A number in the table means one plain booster on that many
columns: those that correlate most, on the training set, with the errors of the start.
Start, early stopping, the check on validation and the rule for bins are the same.
These fits were made before trees started from
[linear heads](../../docs/grid.md#names-and-options): they start from the cosine, or
from nothing where that was clearly better on validation. The script now fits with
`start=cosine&early_stopping_rounds=100`, which comes closest to that.

{table}

Means over the seeds (three of `small`, five of `mobilenetv2`), with the standard
deviation in brackets. Seconds are CPU time of a fit, if it was measured.

The number of columns was chosen on validation; test figures chose nothing. This is the
mean reciprocal rank on validation, averaged over the rows above:

{validation}

With `small` 300 columns do as well as the groups. With `mobilenetv2` 300 are too few,
and 500 do as well. So trees see 500 columns, which takes 0.6 of the time of 1,000. A
grid filters only features of more than two million values (pairs times columns);
`mobilenetv2` on dvd-covers has fewer.

`small` is MobileNetV2, SqueezeNet and `classic` side by side (5,116 columns),
`mobilenetv2` the first of them (1,280). All fits: [fits.csv](fits.csv), written by
`python benchmarks/boosting_filter.py`; its docstring has both commands.
"""


def measure(data: GridData, vectors: Any, seed: int, merge: str, head: Any) -> Any:
    """Return test and validation figures, and seconds to fit."""
    (split,) = data.splits(seed)
    made = head(start="cosine", early_stopping_rounds=100, random_state=seed, n_jobs=1)
    scorer = PairScorer(merge, made, seed=seed)
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
            said.columns.split(","),
            names,
            said.merges.split(","),
            HEADS,
            range(said.seeds),
        ):
            boosting._N_BEST, boosting._WIDE = int(columns), 0
            vectors = data.vectors[vectorizer].vectors
            key = (name, vectorizer, merge, head, columns, str(seed))
            rows[key] = measure(data, vectors, seed, merge, HEADS[head])
            print(*key, *rows[key], flush=True)
    return rows


def groups(run: Path, name: str) -> dict[tuple[str, ...], list[str]]:
    """Return the boosted rows of a run of the version that had groups of columns."""
    rows = {}
    for path in sorted((run / "cells").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        cell = record["cell"]
        if cell["head"] in HEADS and record["status"] == "ok":
            names = (cell[part] for part in ("vectorizer", "merge", "head"))
            key = (name, *names, "groups", str(record["seed"]))
            figures = [
                record[of][n] for of in ("figures", "validation") for n in FIGURES
            ]
            rows[key] = [*(f"{one:.3f}" for one in figures), ""]
    return rows


def page(rows: dict[tuple[str, ...], list[str]]) -> str:
    """Return the page: a row a set, vectorizer, merge, head and number of columns."""
    seeds: dict[tuple[str, ...], list[list[float]]] = {}
    for key, numbers in sorted(rows.items(), key=_order):
        some = [float(one or "nan") for one in numbers]
        seeds.setdefault(key[:-1], []).append(some)
    lines = ["| set | vectors | merge | head | columns | top-2 | AUC | CPU s |"]
    lines.append(f"|{'---|' * 8}")
    reached: dict[tuple[str, str], list[float]] = {}
    for key, some in seeds.items():
        mean, spread = np.mean(some, axis=0), np.std(some, axis=0, ddof=1)
        cells = [f"{mean[i]:.3f} ({spread[i]:.3f})" for i in (0, 2)]
        seconds = "" if np.isnan(mean[-1]) else f"{mean[-1]:.1f}"
        lines.append(f"| {' | '.join([*key, *cells, seconds])} |")
        reached.setdefault((key[1], key[-1]), []).append(mean[4])
    told = ["| vectors | columns | validation MRR |", "|---|---|---|"]
    told += [f"| {v} | {n} | {np.mean(one):.3f} |" for (v, n), one in reached.items()]
    return TEXT.format(table="\n".join(lines), validation="\n".join(told))


def _order(row: tuple[tuple[str, ...], list[str]]) -> tuple[Any, ...]:
    *key, columns, seed = row[0]
    return (*key, 0 if columns == "groups" else int(columns), seed)


def main() -> None:
    """Fit, print a row a fit, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", default="100,300,500,1000")
    parser.add_argument("--vectorizers", default="small")
    parser.add_argument("--sets", default="tll,dvd-covers")
    parser.add_argument("--merges", default="dot,l1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--groups", type=Path, help="run of an older version")
    said = parser.parse_args()
    rows = {}
    if (OUT / "fits.csv").exists():
        with (OUT / "fits.csv").open(encoding="utf-8", newline="") as file:
            header, *kept = csv.reader(file)
        n = len(KEYS)
        assert header == [*KEYS, *NUMBERS], header
        rows = {tuple(row[:n]): row[n:] for row in kept}
    rows |= fits(said)
    if said.groups:
        rows |= groups(said.groups, said.sets)
    lines = [[*key, *numbers] for key, numbers in sorted(rows.items(), key=_order)]
    write_text(OUT / "fits.csv", csv_text([*KEYS, *NUMBERS], lines))
    write_text(OUT / "README.md", page(rows))


if __name__ == "__main__":
    main()
