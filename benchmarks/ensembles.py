"""Compare ways to put an ensemble together, by the scores of runs; nothing is fitted.

    python benchmarks/ensembles.py results/tll results/dvd-covers

Each folder is that of a ``tllboost grid`` with its ``scores``, whose images lie where
its ``run.toml`` says. A way picks cells by the validation scores of each seed. What it
is worth is told twice: on validation lists left out of the picking, which may choose
among ways, and on the test lists, which may not. Writes results/choosing/ensembles.csv
and the page beside it.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from bench import RESULTS
from numpy.typing import NDArray
from tables import rows_of, table

from tllboost.files import csv_text, write_text
from tllboost.grid.best import choose_all, select_members
from tllboost.grid.cells import ENSEMBLE, Cell
from tllboost.grid.data import gather
from tllboost.grid.records import Scores, read_scores
from tllboost.grid.summary import interval
from tllboost.metrics import match_ranks, ranking_figures
from tllboost.pairs import PairTable, read_pairs
from tllboost.pairs.groups import read_groups
from tllboost.report import read_run
from tllboost.splits import PairSet, Protocol

OUT = RESULTS.parent / "choosing"
N_BAGS, N_PARTS, N_REPEATS = 20, 4, 2
COLUMNS = (
    *("run", "seeds", "way", "picks", "cells", "left out mrr", "left out top2"),
    *("test top2", "low", "high", "gain", "gain low", "gain high"),
    *("chosen", "chosen top2", "over", "over low", "over high"),
)

Floats = NDArray[np.float64]
Select = Callable[[Floats, PairSet, int], Floats]

TEXT = """# Which cells make an ensemble

```sh
python benchmarks/ensembles.py {runs}
```

All figures are from the recorded scores of {n_seeds} seeds; nothing is fitted. Each
method picks cells by the validation set of each seed, and averages their log-odds with
the number of picks as weights. "Left out": picked on three quarters of the validation
components and measured on the other quarter, for each quarter, {n_repeats} times. These
figures chose the smooth rank; no test figure did. Bagging adds almost nothing there,
and takes many more cells. The gain is over the single cell that is best *on the test*:
mean of the seeds, with its 95 % interval (paired bootstrap over components).

{tables}

Plain rank: greedy selection with replacement by the mean reciprocal rank, from the best
cell (Caruana and others, 2004). Bagged: the counts of {n_bags} selections are added,
each from a random half of the cells, which gives more cells than picks. Smooth rank:
what `tllboost grid --ensemble` does, see
[docs/reading-the-matrix.md](../../docs/reading-the-matrix.md).
"""


def best_few(scores: Floats, pairs: PairSet, n: int) -> Floats:
    """Return equal weights for the cells that are best alone."""
    reached = [np.mean(1 / match_ranks(s, pairs.label, pairs.query)[1]) for s in scores]
    order = np.argsort(-np.array(reached), kind="stable")
    return np.isin(np.arange(len(scores)), order[:n]).astype(float)


def plain(scores: Floats, pairs: PairSet, n: int) -> Floats:
    """Select greedily by the mean reciprocal rank itself."""
    order = np.lexsort((1 - pairs.label, pairs.query))
    lists = scores[:, order].reshape(len(scores), len(np.unique(pairs.query)), -1)
    leads, counts = lists[..., 1:] - lists[..., :1], np.zeros(len(scores))
    total = np.zeros(leads.shape[1:])
    for _ in range(n):
        ranks = [1 + np.sum(total + one >= 0, axis=-1) for one in leads]
        best = int(np.argmax([np.mean(1 / rank) for rank in ranks]))
        counts[best] += 1
        total += leads[best]
    return counts


def bagged(select: Select) -> Select:
    """Select from random halves of the cells, and add up."""

    def many(scores: Floats, pairs: PairSet, n: int) -> Floats:
        rng, counts = np.random.default_rng(0), np.zeros(len(scores))
        for _ in range(N_BAGS):
            some = np.sort(rng.permutation(len(scores))[: -(-len(scores) // 2)])
            counts[some] += select(scores[some], pairs, n)
        return counts

    return many


def smooth(scores: Floats, pairs: PairSet, n: int) -> Floats:
    """Select as the grid does."""
    return select_members(list(scores), pairs, n).astype(float)


WAYS: tuple[tuple[str, Select, tuple[int, ...]], ...] = (
    ("the best alone", best_few, (1, 5, 10)),
    ("plain rank", plain, (5, 10)),
    ("plain rank, bagged", bagged(plain), (5, 10)),
    ("smooth rank, bagged", bagged(smooth), (5, 10)),
    ("smooth rank (`--ensemble`)", smooth, (2, 3, 5, 10, 20)),
)


def pairs_of(run: dict[str, str]) -> PairTable:
    """Return the pairs of a run, by its settings."""
    if "groups" in run:
        return read_groups(run["pairs"], run["groups"])
    return read_pairs(run["pairs"], left=run.get("left"), right=run.get("right"))


def sets_of(out: Path) -> Iterator[tuple[Floats, PairSet, Floats, PairSet]]:
    """Give scores and pairs of validation, then of the test, of each seed."""
    run, settings = read_run(out), tomllib.loads((out / "run.toml").read_text("utf-8"))
    protocol = Protocol(**settings["run"]["protocol"])
    data = gather(pairs_of(settings), {}, protocol)
    cells = [
        cell
        for cell, row in zip(run.cells, run.rows(), strict=True)
        if row["status"] == "ok" and cell.vectorizer != ENSEMBLE
    ]
    for seed in run.seeds:
        (split,) = data.splits(seed)
        found = [read_scores(out, run.records[c][seed]["id"]) for c in cells]
        validation, test = (
            np.array([one[name][0] for one in found if one])
            for name in ("validation", "test")
        )
        yield validation, split.validation, test, split.test


def figures(score: Floats, pairs: PairSet) -> tuple[float, float, Floats]:
    """Return MRR and top-2 of a score, and its resampled top-2."""
    queries, ranks, _ = match_ranks(score, pairs.label, pairs.query)
    first = {int(code): row for row, code in enumerate(pairs.query)}
    component = pairs.component[[first[int(code)] for code in queries]]
    found = ranking_figures(ranks, component)
    return found["mrr"].value, found["top2"].value, found["top2"].resampled


def left_out(
    select: Select, n: int, scores: Floats, pairs: PairSet, seed: int
) -> Iterator[tuple[float, float]]:
    """Give MRR and top-2 on each part of the components that had no say."""
    for repeat in range(N_REPEATS):
        rng = np.random.default_rng([seed, repeat])
        for part in np.array_split(
            rng.permutation(np.unique(pairs.component)), N_PARTS
        ):
            out = np.isin(pairs.component, part)
            counts = select(scores[:, ~out], pairs.take(~out), n)
            of_part = counts @ scores[:, out] / counts.sum()
            yield figures(of_part, pairs.take(out))[:2]


def chosen(out: Path) -> tuple[int, str]:
    """Return the place and the name of the single cell that validation chooses."""
    run, settings = read_run(out), tomllib.loads((out / "run.toml").read_text("utf-8"))
    data = gather(pairs_of(settings), {}, Protocol(**settings["run"]["protocol"]))
    splits = {seed: data.splits(seed) for seed in run.seeds}
    alias = settings.get("alias", {})
    cells = {
        cell: 1 + alias.get(cell.vectorizer, cell.vectorizer).count("+")
        for cell, row in zip(run.cells, run.rows(), strict=True)
        if row["status"] == "ok" and cell.vectorizer != ENSEMBLE
    }

    def read(cell: Cell, seed: int) -> Scores:
        return read_scores(out, run.records[cell][seed]["id"]) or {}

    best = choose_all(cells, read, splits)[0][0]
    return list(cells).index(best), best.name


def measured(out: Path) -> Iterator[list[str]]:
    """Give a row of the table for each way."""
    sets = list(sets_of(out))
    place, name = chosen(out)
    alone = [[figures(one, pairs)[1:] for one in test] for *_, test, pairs in sets]
    means = np.mean([[value for value, _ in of_seed] for of_seed in alone], axis=0)
    best = int(np.argmax(means))
    rival, other = (
        np.mean([of_seed[one][1] for of_seed in alone], axis=0) for one in (best, place)
    )
    for way, select, sizes in WAYS:
        for n in sizes:
            held, values, resampled, n_cells = [], [], [], []
            for seed, (scores, pairs, of_test, tested) in enumerate(sets):
                held += left_out(select, n, scores, pairs, seed)
                counts = select(scores, pairs, n)
                _, value, draws = figures(counts @ of_test / counts.sum(), tested)
                values.append(value)
                resampled.append(draws)
                n_cells.append(np.count_nonzero(counts))
            draws, value = np.mean(resampled, axis=0), float(np.mean(values))
            gain = value - means[best], *interval(draws - rival)
            told = [*np.mean(held, axis=0), value, *interval(draws), *gain]
            texts = [f"{one:.4f}" for one in told] + [name]
            over = value - means[place], *interval(draws - other)
            texts += [f"{one:.4f}" for one in (means[place], *over)]
            n_picked = f"{np.mean(n_cells):.1f}"
            yield [out.name, str(len(sets)), way, str(n), n_picked, *texts]
            print(out.name, way, n, *texts, flush=True)


def _gain(row: dict[str, str], name: str) -> str:
    value, low, high = (float(row[f"{name}{end}"]) for end in ("", " low", " high"))
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def page(out: Path) -> str:
    """Return the page that ``ensembles.csv`` makes."""
    rows, tables = rows_of(out / "ensembles.csv"), []
    runs = list(dict.fromkeys(row["run"] for row in rows))
    columns = ["way", "picks", "cells", "left out: MRR", "top-2", "test: top-2", "gain"]
    columns += ["over the chosen"]
    for run in runs:
        body = []
        for row in (row for row in rows if row["run"] == run):
            told = {name: f"{float(row[name]):.3f}" for name in COLUMNS[5:10]}
            body.append(
                [
                    *(row["way"], row["picks"], row["cells"]),
                    *(told["left out mrr"], told["left out top2"]),
                    f"{told['test top2']} [{told['low']}, {told['high']}]",
                    *(_gain(row, one) for one in ("gain", "over")),
                ]
            )
        single = (
            f"Validation chooses `{row['chosen']}`: {float(row['chosen top2']):.3f}."
        )
        tables += [f"## {run}", "", *table(columns, body), "", single, ""]
    return TEXT.format(
        runs=" ".join(f"results/{run}" for run in runs),
        n_seeds=rows[0]["seeds"],
        n_repeats=N_REPEATS,
        n_bags=N_BAGS,
        tables="\n".join(tables).strip(),
    )


def main() -> None:
    """Measure, and write the table and its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--out", type=Path, default=OUT)
    said = parser.parse_args()
    rows = [row for run in said.runs for row in measured(run)]
    write_text(said.out / "ensembles.csv", csv_text(COLUMNS, rows))
    write_text(said.out / "ensembles.md", page(said.out))


if __name__ == "__main__":
    main()
