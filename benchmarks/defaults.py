"""Measure what `tllboost grid` tries by default, and write results/defaults/README.md.

    python benchmarks/defaults.py [--store DIR] [--keep DIR] [--seeds 3]

On tll, dvd-covers, ukbench and the demo's scenes: `--quick`, the default and `--full`,
one after the other into one folder, each going on with the cells of the one before.
Then what each name of the default is worth to its ensemble, by the recorded scores, and
how long each recipe takes for 500 pairs of tll from start to end. Runs that `--keep`
has are not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench import RESULTS
from ensembles import figures, left_out, sets_of, smooth
from fetch_data import SHARED
from tables import rows_of, table

from tllboost.demo import make_demo_set
from tllboost.files import csv_text, write_text
from tllboost.grid.cells import ENSEMBLE, RECIPES
from tllboost.grid.summary import interval
from tllboost.report import read_run
from tllboost.store import default_store

OUT = RESULTS.parent / "defaults"
DATA = SHARED / "data"
SIDES = ("--left", DATA / "tll" / "left", "--right", DATA / "tll" / "right")
SETS = {
    "tll": (DATA / "tll" / "pairs.csv", *SIDES),
    "dvd-covers": (DATA / "dvd-covers", "--groups", "folder"),
    "ukbench": (DATA / "ukbench", "--groups", r"^(\d{4})"),
}
FLAGS = {"quick": ["--quick"], "default": [], "full": ["--full"]}
N_TIMED = 500  # pairs
MOST, BEHIND = 120, 0.03  # seconds for these pairs; top-2 behind the best recipe
KINDS = ("vectorizer", "projection", "merge", "head")
COLUMNS = ("set", "way", "cells", "seconds", "left out mrr", "top2")
COLUMNS += ("gain", "low", "high")
_OF = ("cosine", "gave", "ensemble")
RUN_COLUMNS = ("set", "seeds", "recipe", "cells", "seconds")
RUN_COLUMNS += tuple(f"{of}{end}" for of in _OF for end in ("", " low", " high"))

TEXT = """# What a grid tries by default

```sh
python benchmarks/defaults.py --seeds {n_seeds}
```

`tllboost grid PAIRS` without `-p`, `-m` and `-c` takes a recipe:
[recipes.toml](../../tllboost/grid/recipes.toml). Mean test top-2 over {n_seeds} seeds,
each a split as the grid makes it, with 95 % intervals. "Choosing gave": each seed
chooses by its own validation set, the figure that the grid quotes. Seconds are those of
the fits of a seed on one core, vectors and projections left out.

{recipes}

Asked for: on tll and dvd-covers the default's choice is within {behind} of the best
recipe's on the same vectors. {behind_verdict}

## How long it takes

{n_timed} pairs of tll, 1,000 images, from start to end with an empty store, report and
refitted bundles included, one run each on two cores:

{times}

Asked for: the default at most {most} seconds. {time_verdict}

## What each name is worth

The ensemble of the default's cells, and the same without one name, or with one name of
`--full` more. In each column: the mean reciprocal rank on validation lists that the
members were not picked by; what the default's ensemble gains over it in test top-2; the
seconds of its fits. ukbench has too few groups for such lists.

The default was written down before this table, and no figure of it changed the default:
`similarity+l1` is there in the place of `l1` for what
[results/similarity](../similarity/README.md) says of both. By those lists
`similarity+l1` and the fusion are worth most, on tll and on dvd-covers, and `infonce`
comes next. `logistic` is worth a little on the demo. `classic` alone, `similarity`,
`cosine-norm` and either of the boosted heads could go for a few thousandths or for
nothing; they stay, since the grid takes half a minute. `pocket` alone is worth nothing,
and on dvd-covers less; one table does not take it out. No name of `--full` is worth its
seconds on both tll and dvd-covers.

{worth}

All of it: [runs.csv](runs.csv), [worth.csv](worth.csv), [seconds.csv](seconds.csv).
"""


def arguments(name: str, keep: Path) -> list[str]:
    """Return what `tllboost grid` is told of a set."""
    if name == "demo":
        made = make_demo_set(keep / "demo-images", n_scenes=240)
        return [str(made.pairs), "--images", str(made.pairs.parent)]
    return [str(one) for one in SETS[name]]


def grid(given: list[str], out: Path, store: Path, *more: str) -> float:
    """Run `tllboost grid`; return its seconds."""
    words = ["grid", *given, "--out", str(out), "--store", str(store), *more]
    started = time.perf_counter()
    command = [sys.executable, "-m", "tllboost", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def measured(name: str, keep: Path, store: Path, n_seeds: int) -> Iterator[list[str]]:
    """Give a row of runs.csv for each recipe."""
    given, out = arguments(name, keep), keep / name
    for recipe, flags in FLAGS.items():
        told = keep / f"{name}-{recipe}.csv"
        if not told.exists():
            how = ["--seeds", str(n_seeds), "--no-refit", "--no-report", "--resume"]
            grid(given, out, store, *flags, *how)
            gave = json.loads((out / "summary.json").read_text("utf-8"))[
                "choosing_gave"
            ]
            rows = [row for row in read_run(out).rows() if row["status"] == "ok"]
            (both,) = (row for row in rows if row["vectorizer"] == ENSEMBLE)
            plain = [row for row in rows if row["head"] == "cosine"]
            frozen = [row for row in plain if row["projection"] == "none"]
            cosine = max(frozen, key=lambda row: row["validation"])
            seconds = sum(row["fit_s"] or 0 for row in rows)
            texts = [name, str(n_seeds), recipe, str(len(rows) - 1), f"{seconds:.1f}"]
            for one in (cosine, gave, both):
                texts += [
                    f"{one[key]:.4f}" for key in ("top2", "top2_low", "top2_high")
                ]
            write_text(told, csv_text(RUN_COLUMNS, [texts]))
        (row,) = rows_of(told)
        print(*row.values(), flush=True)
        yield list(row.values())


def without(name: str, keep: Path) -> Iterator[list[str]]:
    """Give a row of worth.csv for the default, each name less, and each name more."""
    out, usual, more = keep / name, RECIPES["default"], RECIPES["full"]
    sets = list(sets_of(out))
    rows = [row for row in read_run(out).rows() if row["status"] == "ok"]
    rows = [row for row in rows if row["vectorizer"] != ENSEMBLE]
    tried = {"the default": usual, "all of --full": more}
    for kind in KINDS:
        for one in more[kind]:
            names = [*usual[kind], one]
            if one not in usual[kind]:
                tried[f"with {one}"] = {**usual, kind: names}
            elif names != [one, one] and one not in ("cosine", "none"):
                names = [other for other in usual[kind] if other != one]
                tried[f"without {one}"] = {**usual, kind: names}
    rival: list[float] = []
    for way, names in tried.items():
        kept = np.flatnonzero([_fits(row, names) for row in rows])
        held, value, draws = [], [], []
        for seed, (scores, pairs, of_test, tested) in enumerate(sets):
            n = min(usual["ensemble"], len(kept))
            held += [mrr for mrr, _ in left_out(smooth, n, scores[kept], pairs, seed)]
            counts = smooth(scores[kept], pairs, n)
            _, top2, drawn = figures(counts @ of_test[kept] / counts.sum(), tested)
            value.append(top2)
            draws.append(drawn)
        mean = np.mean(draws, axis=0)
        rival = rival or [float(np.mean(value)), mean]
        gain = rival[0] - np.mean(value), *interval(rival[1] - mean)
        seconds = sum(rows[i]["fit_s"] or 0 for i in kept)
        told = [seconds, np.mean(held), np.mean(value), *gain]
        texts = [name, way, str(len(kept)), *(f"{float(one):.4f}" for one in told)]
        print(*texts, flush=True)
        yield texts


def _fits(row: dict[str, object], names: dict[str, list[str]]) -> bool:
    """Tell whether a recipe has a cell; those without a merge need none."""
    wanted = {kind: {*names[kind], "none"} for kind in KINDS}
    wanted["vectorizer"].discard("none")
    return all(row[kind] in wanted[kind] for kind in KINDS)


def timed(keep: Path) -> Iterator[list[str]]:
    """Give the seconds of each recipe on the first pairs of tll, alone."""
    table_of = keep / "timed.csv"
    lines = (DATA / "tll" / "pairs.csv").read_text("utf-8").splitlines(keepends=True)
    write_text(table_of, "".join(lines[: N_TIMED + 1]))
    for recipe, flags in FLAGS.items():
        told = keep / f"seconds-{recipe}.txt"
        if not told.exists():
            with tempfile.TemporaryDirectory() as folder:
                given = [str(table_of), *map(str, SIDES)]
                out = Path(folder)
                seconds = grid(given, out / "out", out / "store", *flags)
            write_text(told, f"{seconds:.0f}")
        yield [recipe, told.read_text("utf-8")]


def page(out: Path) -> str:
    """Return the page that the tables make."""
    runs, worth = rows_of(out / "runs.csv"), rows_of(out / "worth.csv")
    times = [list(row.values()) for row in rows_of(out / "seconds.csv")]
    columns = [
        "set",
        "recipe",
        "cells",
        "s",
        "best cosine",
        "choosing gave",
        "ensemble",
    ]
    body, behind = [], []
    for row in runs:
        told = [_figure(row, one) for one in ("cosine", "gave", "ensemble")]
        body.append([row["set"], row["recipe"], row["cells"], row["seconds"], *told])
    for name in ("tll", "dvd-covers"):
        gave = {row["recipe"]: float(row["gave"]) for row in runs if row["set"] == name}
        less = max(gave.values()) - gave["default"]
        word = "is" if less <= BEHIND else "is NOT"
        behind.append(f"{name}: {less:.3f} behind, which {word} within.")
    seconds = float(dict(times)["default"])
    sets = list(dict.fromkeys(row["set"] for row in worth))
    ways = {row["way"]: {} for row in worth}
    for row in worth:
        ways[row["way"]][row["set"]] = row
    lines = []
    for way, of in ways.items():
        told = [
            f"{row['left out mrr'][:5]} / {float(row['gain']):+.3f} / "
            f"{float(row['seconds']):.0f} s".replace("nan", "–")
            for row in (of[name] for name in sets)
        ]
        lines.append([way, *told])
    return TEXT.format(
        n_seeds=runs[0]["seeds"],
        recipes="\n".join(table(columns, body)),
        behind=BEHIND,
        behind_verdict=" ".join(behind),
        n_timed=N_TIMED,
        times="\n".join(table(["recipe", "seconds"], times)),
        most=MOST,
        time_verdict="Reached." if seconds <= MOST else "NOT reached.",
        worth="\n".join(table(["cells of", *sets], lines)),
    )


def _figure(row: dict[str, str], of: str) -> str:
    value, low, high = (float(row[f"{of}{end}"]) for end in ("", " low", " high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Run what is missing, and write the tables and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=default_store())
    parser.add_argument("--keep", type=Path, default=Path("defaults-runs"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    said = parser.parse_args()
    said.keep.mkdir(parents=True, exist_ok=True)
    runs: list[list[str]] = []
    worth: list[list[str]] = []
    for name in (*SETS, "demo"):
        runs += measured(name, said.keep, said.store, said.seeds)
        worth += without(name, said.keep)
    times = list(timed(said.keep))
    write_text(said.out / "runs.csv", csv_text(RUN_COLUMNS, runs))
    write_text(said.out / "worth.csv", csv_text(COLUMNS, worth))
    write_text(said.out / "seconds.csv", csv_text(("recipe", "seconds"), times))
    write_text(said.out / "README.md", page(said.out))


if __name__ == "__main__":
    main()
