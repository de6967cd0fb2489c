r"""Compare rules that choose a cell on small sets, and write results/choosing.

    python benchmarks/choosing.py
    python benchmarks/choosing.py --scores FOLDER

Of each set of images some groups are taken and split as ``tllboost grid`` does; the
groups outside make a large test set in the place of their own small one. Each rule
chooses a cell by its validation scores alone: first of thirty cells, then of these and
eight that read normalised similarities. ``--scores`` keeps the scores of each run in a
folder, and fits none again that lies there.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench import RESULTS
from fetch_data import SHARED
from numpy.typing import NDArray

from tllboost.demo import make_scenes
from tllboost.files import csv_text, whole_file, write_text
from tllboost.grid.best import choose, evidence
from tllboost.grid.cells import COSINE, plan_cells
from tllboost.grid.data import GridData, gather
from tllboost.grid.measure import Bench, fit_scorer, one_thread
from tllboost.metrics import match_ranks, ranking_figures
from tllboost.pairs import read_pairs
from tllboost.splits import PairSet, Protocol, Split, SplitTable, make_splits
from tllboost.store import default_store
from tllboost.vectorizers import make_vectorizer

sys.path.append(str(Path(__file__).parent / "pocket"))
from validation_sides import read_set

OUT = RESULTS.parent / "choosing"
# Groups of the small set, and how many outside are tested. ukbench has 14 in all.
SETS = {
    "tll": ((30, 45, 60), 100),
    "dvd-covers": ((14, 24, 40), 10),
    "scenes": ((14, 30, 60), 60),
    "ukbench": ((9,), 5),
}
VECTORIZERS = ("classic", "pocket")
HEADS = (
    *("cosine", "logistic", "linear-svm", "naive-bayes", "random-forest"),
    *("xgboost", "xgboost-rank", "mlp"),
)
THIRTY = plan_cells(VECTORIZERS, ("dot", "l1"), HEADS)
ON_SIMILARITIES = ("cosine-norm", "logistic", "xgboost", "xgboost-rank")
_NEW = plan_cells(VECTORIZERS, ("similarity",), ON_SIMILARITIES)
CELLS = THIRTY + [cell for cell in _NEW if cell not in THIRTY]
COSINES = [i for i, cell in enumerate(CELLS) if cell.head == COSINE]

Floats = NDArray[np.float64]


class Told(NamedTuple):
    """What validation says of each cell: (n_cells,) float64 each, but for the last."""

    top2: Floats
    roc_auc: Floats
    brier: Floats
    mrr: Floats
    found: Any


def _highest(value: Floats, brier: Floats | None = None) -> int:
    """Return the first cell of the highest value, ties by Brier score if given."""
    ties = np.zeros(len(value)) if brier is None else brier
    return int(np.lexsort((ties, -value))[0])


RULES: dict[str, Callable[[Told], int]] = {
    "highest validation top-2, first listed of the tied": lambda t: _highest(t.top2),
    "the same, ties by Brier": lambda t: _highest(t.top2, t.brier),
    "highest validation ROC AUC": lambda t: _highest(t.roc_auc, t.brier),
    "lowest validation Brier": lambda t: _highest(-t.brier),
    "highest validation MRR, ties by Brier": lambda t: _highest(t.mrr, t.brier),
    "always the cosine (best by validation MRR)": lambda t: COSINES[
        _highest(t.mrr[COSINES], t.brier[COSINES])
    ],
    "tllboost grid: the simplest within one standard error of the best MRR, ties by "
    "Brier": lambda t: CELLS.index(
        choose(dict.fromkeys(CELLS[: len(t.mrr)], 1), t.found)[0]
    ),
}
COSINE_ON_TEST = "the better cosine on the test"
BEST = "best on test (nobody can)"

TEXT = """# Choosing on small sets

```sh
python benchmarks/choosing.py --seeds {n_seeds} --sets {sets}
```

{n_runs} small sets, each with cells that are fitted on its training part. The
validation part chooses, with {n_lists} lists in the median. Each choice is tested on
other groups, with {n_tested} lists in the median. "Below" counts the sets on which the
chosen cell's test top-2 is below that of the cosine that is better on the test.

{tables}[runs.csv](runs.csv) has all choices. The rule was developed on other seeds.

{groups}. Each set is split as `tllboost grid` splits it (65 : 15 : 20), but tested on
the other groups ("outside").
"""

OF_CELLS = """## {n_cells} cells: {which}

{table}

The mean top-2 by set:

{by_set}

`tllboost grid` minus "always the cosine" is {gain}: mean and standard error of the
difference over the sets.

"""
KINDS = {
    len(THIRTY): "`classic` and `pocket`; `dot` and `l1`; eight heads",
    len(CELLS): "these, `cosine-norm`, and three heads on `similarity`",
}


def read(name: str, folder: Path) -> GridData:
    """Return the pairs of a set and their vectors."""
    if name == "scenes":
        pairs = make_scenes(folder / "scenes", n_scenes=200, n_views=3)
        table = read_pairs(pairs, images=pairs.parent)
    else:
        table = read_set(SHARED / "data", name)
    made = {label: make_vectorizer(label) for label in VECTORIZERS}
    return gather(table, made, store=default_store())


def split(data: GridData, n_groups: int, n_tested: int, seed: int) -> Split:
    """Return a small set's training and validation sets, and a test set outside."""
    table, component = data.table, data.component
    of_pair = component[table.left]
    groups = np.random.default_rng([seed, n_groups]).permutation(np.unique(of_pair))
    own = np.isin(of_pair, groups[:n_groups])
    far = np.isin(of_pair, groups[n_groups:][:n_tested])
    names = np.where(own, "train", "test").astype("<U10")
    small, both = (
        make_splits(
            SplitTable(
                *(column[rows] for column in (table.left, table.right, table.label)),
                component,
                given=names[rows],
            ),
            protocol=Protocol(protocol),
            seed=seed,
        )[0]
        for rows, protocol in ((own, "holdout"), (own | far, "given"))
    )
    return Split(small.train, small.validation, both.test, small.names)


def fit(data: GridData, one: Split, seed: int) -> dict[str, NDArray[Any]]:
    """Fit all cells; return validation and test scores, and the pairs of both sets."""
    validation, test, benches = [], [], {}
    for cell in CELLS:
        key = cell.vectorizer, cell.features
        if key not in benches:
            found = data.vectors[cell.vectorizer]
            benches[key] = Bench(found.vectors, one, cell.features, seed, found.widths)
        scorer = fit_scorer(benches[key], cell.head)
        _, *rest = benches[key].features
        with one_thread():
            scores = [scorer.calibration_.log_odds(scorer.score(X)) for X in rest]
        validation.append(scores[0])
        test.append(scores[1])
    pairs = {
        f"{name} {column}": getattr(getattr(one, name), column)
        for name in ("validation", "test")
        for column in PairSet.__annotations__
    }
    return {
        "scores validation": np.array(validation),
        "scores test": np.array(test),
    } | {**pairs}


def told(run: dict[str, NDArray[Any]], name: str, n: int) -> tuple[Told, int]:
    """Return what a set of a run says of the first `n` cells, and its lists' number."""
    from sklearn.metrics import roc_auc_score

    pairs = PairSet(*(run[f"{name} {column}"] for column in PairSet.__annotations__))
    scores = run[f"scores {name}"][:n]
    ranks = [match_ranks(score, pairs.label, pairs.query)[1] for score in scores]
    ranking = [
        ranking_figures(rank, np.zeros(len(rank), int), resample=False)
        for rank in ranks
    ]
    auc = [roc_auc_score(pairs.label, s, sample_weight=pairs.weight) for s in scores]
    n_components = int(pairs.component.max()) + 1
    found = evidence(scores, pairs, n_components, ranked=True)
    top2, mrr = (np.array([one[m].value for one in ranking]) for m in ("top2", "mrr"))
    return Told(top2, np.array(auc), found[2], mrr, found), len(ranks[0])


def runs(
    seeds: range, sets: list[str], keep: Path
) -> Iterator[tuple[str, int, int, dict[str, Any]]]:
    """Give set, number of groups, seed and scores of each run."""
    data: dict[str, GridData] = {}
    for seed, name in product(seeds, sets):
        sizes, n_tested = SETS[name]
        for n_groups in sizes:
            file = keep / f"{name}-{n_groups}-{seed}.npz"
            if not file.exists():
                if name not in data:
                    data[name] = read(name, keep)
                one = split(data[name], n_groups, n_tested, seed)
                with whole_file(file) as stream:
                    np.savez(stream, **fit(data[name], one, seed))
                print(file.stem, f"{time.process_time():.0f} s", flush=True)
            with np.load(file) as arrays:
                yield name, n_groups, seed, dict(arrays)


def main() -> None:
    """Fit, choose, and write the page and a row a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=Path, help="folder to keep scores in")
    parser.add_argument("--seeds", type=int, default=3, help="small sets of a size")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    said = parser.parse_args()
    keep = said.scores or Path(tempfile.mkdtemp())
    keep.mkdir(parents=True, exist_ok=True)
    rows = []
    seeds = range(said.first_seed, said.first_seed + said.seeds)
    for (*which, run), n in product(runs(seeds, said.sets.split(","), keep), KINDS):
        validation, n_lists = told(run, "validation", n)
        test, n_tested = told(run, "test", n)
        chosen = [rule(validation) for rule in RULES.values()]
        chosen += [_highest(test.top2[COSINES]), _highest(test.top2)]
        chosen[-2] = COSINES[chosen[-2]]
        rows.append([n, *which, n_lists, n_tested])
        for i in chosen:
            rows[-1] += [CELLS[i].name, f"{test.top2[i]:.4f}"]
    names = [*RULES, COSINE_ON_TEST, BEST]
    header = ["cells", "set", "groups", "seed", "validation lists", "test lists"]
    header += [text for name in names for text in (name, f"{name}: top-2")]
    write_text(said.out / "runs.csv", csv_text(header, rows))
    write_text(said.out / "README.md", page(said.out))


def page(out: Path) -> str:
    """Return the page that ``runs.csv`` makes: for each kind of grid a row a rule."""
    with (out / "runs.csv").open(encoding="utf-8", newline="") as file:
        every = list(csv.DictReader(file))
    rows = [row for row in every if row["cells"] == str(len(CELLS))]
    sets = [name for name in SETS if name in {row["set"] for row in rows}]
    tables = ""
    for n, which in KINDS.items():
        of_kind = [row for row in every if row["cells"] == str(n)]
        tables += OF_CELLS.format(n_cells=n, which=which, **tables_of(of_kind, sets))
    return TEXT.format(
        n_seeds=len({row["seed"] for row in rows}),
        sets=",".join(sets),
        n_runs=len(rows),
        n_lists=f"{np.median(column(rows, 'validation lists')):.0f}",
        n_tested=f"{np.median(column(rows, 'test lists')):.0f}",
        tables=tables,
        groups="; ".join(
            f"{name}: {', '.join(map(str, small))} groups, {n} outside"
            for name, (small, n) in SETS.items()
            if name in sets
        ),
    )


def column(rows: list[dict[str, str]], name: str) -> Floats:
    """Return a column of numbers."""
    return np.array([float(row[name]) for row in rows])


def tables_of(rows: list[dict[str, str]], sets: list[str]) -> dict[str, str]:
    """Return both tables of one kind of grid, and what its choice gains."""
    rules, of_set = [*RULES, BEST], np.array([row["set"] for row in rows])
    reached = {rule: column(rows, f"{rule}: top-2") for rule in rules}
    best = column(rows, f"{COSINE_ON_TEST}: top-2")
    lines = ["| rule | test top-2 | below the best cosine |", "|---|---|---|"]
    by_set = [f"| rule | {' | '.join(sets)} |", "|---" * (1 + len(sets)) + "|"]
    for rule, top2 in reached.items():
        n = f"{np.sum(top2 < best)} of {len(rows)}"
        lines.append(f"| {rule} | {top2.mean():.3f} | {n} |")
        means = (f"{top2[of_set == name].mean():.3f}" for name in sets)
        by_set.append(f"| {rule} | {' | '.join(means)} |")
    *_, cosine, ours = (reached[rule] for rule in RULES)
    gain = ours - cosine
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    return {
        "table": "\n".join(lines),
        "by_set": "\n".join(by_set),
        "gain": f"{gain.mean():+.3f} ± {error:.3f}",
    }


if __name__ == "__main__":
    main()
