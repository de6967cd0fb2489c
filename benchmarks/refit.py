"""Compare bundles fitted again on all pairs with those of the training set alone.

    python benchmarks/refit.py
    python benchmarks/refit.py --runs FOLDER

Of each set of images some groups make a small set, on which ``tllboost grid`` runs. Its
bundles, with ``--refit`` and with ``--no-refit``, then score pairs of the groups
outside, which no run has seen. Writes results/choosing/refit.csv and the page beside
it. ``--runs`` keeps the runs in a folder, and goes on with those that lie there.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from bench import RESULTS
from choosing import read, split
from tables import rows_of, table

from tllboost import load, run_grid
from tllboost.bundle import read_manifest
from tllboost.files import csv_text, write_text
from tllboost.grid.data import GridData
from tllboost.grid.measure import ScoredSet
from tllboost.processes import Processes
from tllboost.store import default_store

OUT = RESULTS.parent / "choosing"
# Groups of the small set, and how many outside are tested.
SETS = {"tll": (400, 600), "dvd-covers": (40, 30)}
VECTORIZERS = ("classic", "pocket", "classic+pocket")
HEADS = ("cosine", "logistic", "xgboost", "mlp")
METRICS = ("top2", "mrr", "roc_auc", "brier")
LOWER = {"brier"}
COLUMNS = ("set", "seed", "bundle", "fitted on", "cell", "pairs", *METRICS)
FITS = {False: "the training set", True: "all pairs"}

TEXT = """# Fitting again on all pairs

```sh
python benchmarks/refit.py --seeds {n_seeds}
```

{n_seeds} small sets of each kind: {sets}. Each gets a `tllboost grid` of one seed:
{n_vectorizers} vectorizers without downloads (`classic`, `pocket` and both), frozen and
with `-p infonce`, the merge `dot`, the heads {heads}, and `--ensemble 5`. Its bundles
are fitted on the training set, 65 of 100 groups (`--no-refit`), or again on all pairs
with what validation chose. Both score pairs of the other groups, in lists of twenty.

{tables}

Means over the small sets. The gain has its standard error, and is above zero if all
pairs are better. [refit.csv](refit.csv) has each small set.
"""


def measured(data: GridData, name: str, seed: int, runs: Path) -> Iterator[list[str]]:
    """Run a small set, and give a row for each of its bundles."""
    n_groups, n_tested = SETS[name]
    one, whole = split(data, n_groups, n_tested, seed), data.table
    far = np.unique(data.component[one.test.left])
    groups = np.random.default_rng([seed, n_groups])
    order = groups.permutation(np.unique(data.component[whole.left]))
    small = whole.take(np.isin(data.component[whole.left], order[:n_groups]))
    assert not np.isin(data.component[small.left], far).any()
    out = runs / f"{name}-{seed}"
    for refit, fit in FITS.items():  # the second finds its cells finished
        run_grid(
            small,
            VECTORIZERS,
            ["dot"],
            HEADS,
            ["none", "infonce"],
            ensemble=5,
            refit=refit,
            out=out,
            seeds=[seed],
            store=default_store(),
            backend=Processes(1),
            resume=True,
        )
        for bundle in ("best", "ensemble"):
            file = out / f"{bundle}.tllb"
            manifest, model = read_manifest(file), load(file, store=default_store())
            scores = model.score_table(whole, one.test.left, one.test.right)
            told = ScoredSet()
            how = model.calibration_, model.threshold_
            told.add(one.test, scores.score, *how)
            figures, _ = told.figures(resample=False)
            values = [f"{figures[metric].value:.5f}" for metric in METRICS]
            cell = " × ".join(manifest["cell"].values())
            pairs = str(manifest["refitted"] or "")
            print(name, seed, bundle, fit, cell, *values, flush=True)
            yield [name, str(seed), bundle, fit, cell, pairs, *values]


def page(out: Path) -> str:
    """Return the page that ``refit.csv`` makes."""
    rows, tables = rows_of(out / "refit.csv"), []
    columns = ["bundle", "metric", *FITS.values(), "gain"]
    for name in dict.fromkeys(row["set"] for row in rows):
        body = []
        for bundle, metric in product(("best", "ensemble"), METRICS):
            before, after = (
                np.array(
                    [
                        float(row[metric])
                        for row in rows
                        if (row["set"], row["bundle"]) == (name, bundle)
                        and row["fitted on"] == fit
                    ]
                )
                for fit in FITS.values()
            )
            gain = (before - after) if metric in LOWER else (after - before)
            error = gain.std(ddof=1) / np.sqrt(len(gain))
            means = [f"{one.mean():.4f}" for one in (before, after)]
            text = f"{gain.mean():+.4f} ± {error:.4f}"
            body.append([f"`{bundle}.tllb`", metric, *means, text])
        tables += [f"## {name}", "", *table(columns, body), ""]
    return TEXT.format(
        n_seeds=len({row["seed"] for row in rows}),
        sets="; ".join(
            f"{small} groups of {name}, {far} outside"
            for name, (small, far) in SETS.items()
        ),
        n_vectorizers=len(VECTORIZERS),
        heads=", ".join(f"`{head}`" for head in HEADS),
        tables="\n".join(tables).strip(),
    )


def main() -> None:
    """Run, measure, and write the table and its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="folder to keep runs in")
    parser.add_argument("--seeds", type=int, default=5, help="small sets of each")
    parser.add_argument("--out", type=Path, default=OUT)
    said = parser.parse_args()
    runs = said.runs or Path(tempfile.mkdtemp())
    runs.mkdir(parents=True, exist_ok=True)
    data = {name: read(name, runs) for name in SETS}
    rows = [
        row
        for seed, name in product(range(said.seeds), SETS)
        for row in measured(data[name], name, seed, runs)
    ]
    write_text(said.out / "refit.csv", csv_text(COLUMNS, rows))
    write_text(said.out / "refit.md", page(said.out))


if __name__ == "__main__":
    main()
