"""Measure boosted heads beside the libraries, and write results/choosing/boosting.md.

    python benchmarks/boosting_table.py

Of tll 200, 400, 800 and all 1,400 pairs, of dvd-covers 40 groups, drawn anew for each
of five seeds, 15 of 100 for validation; tested on 600 other pairs, of 1,400 on a fifth
of them, and on the 30 other groups. Needs lightgbm and catboost. Fits that
results/choosing/boosting.csv has are not made again; ``--page`` makes none.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

from bench import RESULTS
from boosted import add_fits, by_cell, read_fits

from tllboost.files import write_text

OUT = RESULTS.parent / "choosing"
SETS = (("tll", 200), ("tll", 400), ("tll", 800), ("dvd-covers", 40), ("tll", 1400))
MERGES = ("dot", "l1")
OURS = ("xgboost", "xgboost-rank", "lightgbm", "catboost")
THEIRS = ("plain XGBoost", "plain LightGBM", "plain CatBoost", "HistGradientBoosting")
HEADS = ("cosine", "logistic", *OURS, *THEIRS)
N_SEEDS = 5

TEXT = """# Boosting beside the libraries

```sh
python benchmarks/boosting_table.py
```

Top-2 / AUC / CPU seconds of a fit and of the test scores: means of {n_seeds} seeds,
each with other sets. The best top-2 and the best AUC of a column are bold.

{tables}

{missing}All heads of a column see the same training and validation pairs with the same
weights. `logistic` and the four below it are this package's heads with default options;
the four start from linear heads and the cosine. The others start from the cosine, by a
logistic curve that was fitted on validation; `HistGradientBoosting` can't start from
given scores: it gets the cosine as one more column, and has 32 bins. These are the
libraries' own, with trees of depth 3, a rate of 0.05, all columns and defaults for the
rest, except 64 bins for XGBoost. Early stopping (30 rounds) on the log loss of the
validation pairs chooses their number of trees. Of 100 pairs 15 are for validation. The
test set is 600 other pairs of tll (for 1,400 pairs, a fifth of them) and the 30 other
groups of dvd-covers. The vectors are those of `pocket`.
[boosting-few.md](boosting-few.md) also has plain XGBoost without the weights.

All fits: [boosting.csv](boosting.csv).
"""


def table(cells: dict[tuple[str, str, str], dict[str, Any]], merge: str) -> str:
    """Return the table of a merge: a row a head, a column a set."""
    keys = [key for key in cells if key[2] == merge]
    names = [f"{name} {int(size):,}" for name, size, _ in keys]
    lines = [f"| `{merge}` | {' | '.join(names)} |", f"|{'---|' * (len(keys) + 1)}"]
    means = {
        key: {h: a.mean(axis=0) for h, a in cells[key].items() if len(a) == N_SEEDS}
        for key in keys
    }
    for head in HEADS:
        told = []
        for key in keys:
            if head not in means[key]:
                told.append("–")
                continue
            auc, top2, seconds = means[key][head]
            best = [max(one[i] for one in means[key].values()) for i in (0, 1)]
            both = [
                f"**{value:.3f}**" if value == most else f"{value:.3f}"
                for value, most in zip((auc, top2), best, strict=True)
            ]
            told.append(f"{both[1]} / {both[0]} / {seconds:.1f}")
        lines.append(f"| {head} | {' | '.join(told)} |")
    return "\n".join(lines)


def page(path: Path) -> str:
    """Return the page, which says what is missing."""
    cells = by_cell(read_fits(path))
    made = dict.fromkeys(HEADS, 0)
    for one in cells.values():
        for head, figures in one.items():
            made[head] += len(figures)
    wanted = len(SETS) * len(MERGES) * N_SEEDS
    few = [f"{head} ({n} of {wanted} fits)" for head, n in made.items() if n < wanted]
    missing = f"**Not all is measured yet:** {'; '.join(few)}.\n\n" if few else ""
    tables = "\n\n".join(table(cells, merge) for merge in MERGES)
    return TEXT.format(tables=tables, missing=missing, n_seeds=N_SEEDS)


def main() -> None:
    """Fit, print a row a fit, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--page", action="store_true", help="of the fits that there are"
    )
    parser.add_argument("--store", type=Path, help="where vectors are kept")
    said = parser.parse_args()
    path = OUT / "boosting.csv"
    if not said.page:
        wanted = product(range(N_SEEDS), SETS, MERGES, HEADS)
        tasks = [(*of, merge, head, seed) for seed, of, merge, head in wanted]
        # What takes longest comes last: a page of the rest is there before.
        add_fits(path, sorted(tasks, key=lambda one: one[3] == HEADS[-1]), said.store)
    write_text(OUT / "boosting.md", page(path))


if __name__ == "__main__":
    main()
