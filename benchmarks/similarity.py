"""Measure normalised similarities, and write results/similarity/README.md.

    python benchmarks/similarity.py [--store DIR] [--part plain|heads|few|speed|run]

On tll, dvd-covers, ukbench and the demo, split as ``tllboost grid`` splits them: first
the cosine beside its normalised forms, for which nothing is fitted; then heads on the
merge ``similarity`` beside the same heads on the merges of the vectors themselves; the
challenge as ``tllboost grid --config benchmarks/tll-similarity.toml`` left it; few
pairs; and time. ``--part`` makes one part anew and keeps the others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS
from boosted import drawn_sets
from ensembles import figures
from fetch_data import SHARED
from numpy.typing import NDArray
from tables import rows_of, table

from tllboost.demo import make_demo_set
from tllboost.files import csv_text, write_text
from tllboost.grid.data import gather
from tllboost.grid.measure import Bench, fit_scorer, one_thread
from tllboost.grid.summary import interval
from tllboost.pairs import read_pairs
from tllboost.pairs.groups import read_groups
from tllboost.projections import make_projection
from tllboost.references import References
from tllboost.report import read_run
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
    "views+maps": "+".join(
        [
            f"{MOBILENET}?{VIEWS}",
            f"{SQUEEZENET}?{VIEWS}",
            "classic",
            f"{MOBILENET}?output=hardtanh_34&cells=3",
            f"{SQUEEZENET}?output=cat_7&cells=3",
            f"{MOBILENET}?output=add_425&cells=3",
            f"{SQUEEZENET}?output=cat_5&cells=3",
        ]
    ),
}
SETS = ("tll", "dvd-covers", "ukbench", "demo")
SIZES = (12, 30)
FORMS = {"S-norm": 1, "CSLS": 3}  # columns of the whole vector
OWN, SEARCHED, OTHER = "the training set", "the searched images", "another set"
PLAIN = "vectors as they are"
HEADS = ("logistic", "xgboost", "xgboost-rank")
RAW, OURS = ("dot", "l1"), ("similarity", "similarity+l1")
MERGES = (*OURS, *RAW)
TIMED = ("similarity", "dot")
WITH_HEADS, LARGEST = "classic+pocket", "views+maps"
FEW, N_DRAWS, N_TEST = (100, 200, 400, 800), 8, 600
LEARNED = "similarity of crossfit/infonce?components=128"
FEW_WAYS = (
    *(("cosine", "similarity"), ("cosine-norm", "similarity")),
    *(("logistic", "similarity"), ("xgboost", "similarity")),
    *(("logistic", "similarity+l1"), ("xgboost", "similarity+l1")),
    *((head, LEARNED) for head in ("logistic", "xgboost", "xgboost-rank")),
    *(("logistic", "dot"), ("xgboost", "dot")),
)
N_SEEDS, N_TIMES = 5, 5
FEATURES = "the features of `similarity`, which all heads share"
COLUMNS = ("part", "set", "vectorizer", "way", "validation mrr", "top2")
COLUMNS += ("low", "high", "of each seed", "rival", "gain", "gain low", "gain high")
COLUMNS += ("seconds",)

Floats = NDArray[np.float64]

TEXT = """# Normalised similarities

```sh
tllboost grid --config benchmarks/tll-similarity.toml --no-refit --overwrite
python benchmarks/similarity.py
```

Mean top-2, over {n_seeds} seeds unless a table says otherwise, with splits as
`tllboost grid` makes them: 20 % of the groups are tested, and each match is ranked
among 20 (fewer for ukbench). References are images of the training set; their labels
are not read. `small` is MobileNetV2, SqueezeNet and `classic`; `views+maps` has their
views, and the last and a middle map of each network on a 3 x 3 grid, instead: sixteen
blocks, since each view and each descriptor of `classic` is one.
Intervals are of 95 % (paired bootstrap over components).

## Nothing fitted

`cosine-norm` is the head: S-norm of whitened vectors, or the cosine, as the lists of
training and validation choose; the gain is its own over the cosine. S-norm compares
with at most 512 references; the vectors are whitened by up to 48 directions of 512
training images (maps at each of their positions too), or as many of each as fit into
4 MB. The other columns are S-norm of fewer references, by the images of the test set
(what a folder that is searched has), and by those of another set; then CSLS, all
whitened. The merge `similarity` adds S-norms of signed roots and of mirrored maps, see
[docs/grid.md](../../docs/grid.md#projections).

{plain}

## The challenge, `views+maps`

The grid's own figures ([all cells](../tll-similarity/README.md)), over {n_run} seeds,
since splits differ by more than these heads do; beside them the mean of the first
{n_seeds}. `crossfit/infonce` fits a map of 128 numbers for the whole vector and for
each part of the fusion, five times, each without one fold of the training pairs: a
training pair is compared by the maps that never saw its images, a new pair by all of
them. With `members=3` a map is the mean of three. The gain is over what is named.
Seconds are for a fit and the test scores, in one process beside another one. Heads
share the features of `similarity`: making them counts with the first head that reads
them, so compare these seconds with care; "Time" below counts them each time.

{run}

## Heads on `classic+pocket`

The same heads on the merge `similarity`, on its numbers beside the differences, and on
the vectors alone, with five non-matches for each match. Both gains are over `dot` or
`l1`, whichever is better on validation.

{heads}

## Few pairs

{few_text}

{few}

## Time

Seconds to fit a head and to score the test pairs, on `similarity` and on `dot` of
`views+maps`, the challenge's first seed, one thread, {n_times} times in turn; median,
and smallest and largest. The ratios are those in each turn.

{speed}

[similarity.csv](similarity.csv) has all results.
"""

FEW_TEXT = """Of the challenge {sizes} pairs, {n_draws} draws, 15 of 100 for
validation, tested on {n_test} other pairs with `views+maps`. In brackets the mean gain
over the cosine and its standard error over the draws. Rows with `crossfit/infonce` have
its maps beside the vectors, fitted out of fold as above."""


def read(name: str) -> Any:
    """Return the pairs of a set."""
    if name == "demo":
        demo = make_demo_set(Path(tempfile.gettempdir(), "tllboost-demo"))
        return read_pairs(demo.pairs, images=demo.pairs.parent)
    folder = SHARED / "data" / name
    if name == "tll":
        sides = {"left": folder / "left", "right": folder / "right"}
        return read_pairs(folder / "pairs.csv", **sides)
    return read_groups(folder, "folder" if name == "dvd-covers" else r"^(\d{4})")


def plain(
    found: Any, split: Split, seed: int, others: NDArray[np.float32]
) -> Iterator[tuple[str, Floats, Floats]]:
    """Give each form's scores of validation and test: nothing is fitted."""
    vectors, train = found.vectors, split.train
    images = np.union1d(train.left, train.right)
    widths = [width for part in found.widths for width in part]
    whole = References.drawn(vectors, images, widths, seed=seed)
    ways = {OWN: whole}
    ways[PLAIN] = References.drawn(vectors, images, widths, seed=seed, whitened=False)
    for n in SIZES:
        ways[str(n)] = replace(whole, vectors=whole.vectors[:n])
    drawn = References.drawn(others, np.arange(len(others)), widths, seed=seed)
    ways[OTHER] = drawn
    searched = np.union1d(split.test.left, split.test.right)
    ways[SEARCHED] = References.drawn(vectors, searched, widths, seed=seed)
    for name, references in ways.items():
        sets = (split.validation, split.test)
        rows = [references.rows(vectors, one.left, one.right) for one in sets]
        if name == OWN:
            yield "cosine", rows[0][:, 0], rows[1][:, 0]
            bench = Bench(vectors, split, "similarity", seed, found.widths)
            scorer = fit_scorer(bench, "cosine-norm")
            told = [scorer.score(one) for one in bench.features[1:]]
            yield "cosine-norm", told[0], told[1]
        for form, column in FORMS.items():
            yield f"{form}, {name}", rows[0][:, column], rows[1][:, column]


def scored(
    part: str, found: Any, split: Split, others: NDArray[np.float32], seed: int
) -> Iterator[tuple[str, Floats, Floats, float]]:
    """Give the scores of validation and test of each way, and its seconds."""
    if part == "plain":
        for one in plain(found, split, seed, others):
            yield *one, 0.0
        return
    ways = FEW_WAYS if part == "few" else [(h, m) for m in MERGES for h in HEADS]
    for merge in dict.fromkeys(merge for _, merge in ways):
        started = time.perf_counter()
        kind, _, projection = merge.partition(" of ")
        learned = None
        if projection:
            blocks = [sum(one.width for one in part) for part in found.widths]
            learned = make_projection(projection, seed=seed, widths=blocks, n_threads=1)
            learned.fit(found.vectors, split.train, split.validation)
        bench = Bench(found.vectors, split, kind, seed, found.widths, learned)
        _, validation, test = bench.features
        shared = time.perf_counter() - started
        for head in (head for head, of in ways if of == merge):
            started = time.perf_counter()
            if head == "cosine":
                sets = validation, test
                yield head, *(one.cosine(frozen=True) for one in sets), 0.0
                continue
            scorer = fit_scorer(bench, head)
            score = scorer.score(test)
            seconds = shared + time.perf_counter() - started
            yield f"{head}, {merge}", scorer.score(validation), score, seconds


def measured(
    part: str, name: str, vectorizer: str, sets: Sequence[tuple[Any, ...]]
) -> Iterator[list[str]]:
    """Give a row of the table for each way; `sets` are what `scored` takes, by seed."""
    found: dict[str, list[tuple[float, float, float, Floats]]] = {}
    for seed, (vectors, split, others) in enumerate(sets):
        for way, *scores, seconds in scored(part, vectors, split, others, seed):
            mrr, *_ = figures(scores[0], split.validation)
            _, top2, draws = figures(scores[1], split.test)
            found.setdefault(way, []).append((mrr, top2, seconds, draws))
    means = {w: np.mean([x[:3] for x in of], axis=0) for w, of in found.items()}
    draws_of = {w: np.mean([x[3] for x in of], axis=0) for w, of in found.items()}
    for way, of in found.items():
        rival, (head, *_) = "cosine", way.partition(", ")
        if part == "heads":
            others_of = (f"{head}, {one}" for one in RAW)
            rival = max(others_of, key=lambda one: means[one][0])
        gain = draws_of[way] - draws_of[rival]
        ends = (*interval(draws_of[way]), *interval(gain))
        texts = [f"{one:.4f}" for one in (*means[way][:2], *ends[:2])]
        texts += [" ".join(f"{x[1]:.4f}" for x in of), rival]
        texts += [f"{means[way][1] - means[rival][1]:.4f}"]
        texts += [f"{one:.4f}" for one in ends[2:]] + [f"{means[way][2]:.3f}"]
        print(part, name, vectorizer, way, *texts, flush=True)
        yield [part, name, vectorizer, way, *texts]


def of_run(folder: Path) -> Iterator[list[str]]:
    """Give a row for each cell of the challenge's run, by the figures that it wrote."""
    run = read_run(folder)
    cells = {}
    for cell, records in run.records.items():
        ok = [one for one in records.values() if one["status"] == "ok"]
        if len(ok) == len(records):
            cells[cell] = ok
    means = {
        cell: [np.mean([one[of][name] for one in ok]) for of, name in _SAID]
        for cell, ok in cells.items()
    }
    draws = {
        cell: np.mean([one["resampled"]["top2"] for one in ok], axis=0)
        for cell, ok in cells.items()
    }

    def best(projection: str, merges: Sequence[str], head: str = "") -> Any:
        some = [
            cell
            for cell in cells
            if (cell.projection, cell.vectorizer) == (projection, LARGEST)
            if cell.merge in merges and head in ("", cell.head)
        ]
        return max(some, key=lambda cell: means[cell][0])

    def row(cell: Any, rival: Any) -> list[str]:
        gain = draws[cell] - draws[rival]
        texts = [f"{one:.4f}" for one in (*means[cell], *interval(draws[cell]))]
        texts += [" ".join(f"{one['figures']['top2']:.4f}" for one in cells[cell])]
        texts += [rival.name, f"{means[cell][1] - means[rival][1]:.4f}"]
        texts += [f"{one:.4f}" for one in interval(gain)]
        seconds = np.mean([one["fit_s"] + one["score_s"] for one in cells[cell]])
        return ["run", "tll", LARGEST, cell.name, *texts, f"{seconds:.2f}"]

    cosine = best("none", ["none"], "cosine")
    raw = best("none", RAW)
    yield row(best("none", ["none"], "cosine-norm"), cosine)
    for cell in cells:
        if cell.merge in RAW and cell.projection == "none":
            yield row(cell, cosine)
    logistic = best("none", ["similarity"], "logistic")
    for cell in cells:
        own = cell.merge in OURS or cell.head in ("cosine", "cosine-norm")
        if own and cell not in (cosine,):
            yield row(cell, raw if cell.projection == "none" else logistic)
            if cell.merge == "similarity" and cell.head != "logistic":
                yield row(cell, best(cell.projection, ["similarity"], "logistic"))
    for cell in cells:
        if cell.vectorizer == "ensemble":
            yield row(
                cell, max((c for c in cells if c != cell), key=lambda c: means[c])
            )


_SAID = (("validation", "mrr"), ("figures", "top2"))


def speed(found: Any, split: Split) -> Iterator[list[str]]:
    """Give a row for the features, and for each head on them and on products."""
    seconds: dict[str, list[float]] = {}
    for _ in range(N_TIMES):
        for merge in TIMED:
            started = time.perf_counter()
            bench = Bench(found.vectors, split, merge, 0, found.widths)
            _, _, test = bench.features
            if merge == "similarity":
                taken = time.perf_counter() - started
                seconds.setdefault(FEATURES, []).append(taken)
            for head in HEADS:
                started = time.perf_counter()
                fit_scorer(bench, head).score(test)
                taken = time.perf_counter() - started
                seconds.setdefault(f"{head}, {merge}", []).append(taken)
    for way, of in seconds.items():
        texts = [" ".join(f"{one:.3f}" for one in of)]
        yield ["speed", "tll", LARGEST, way, *[""] * 4, *texts, *[""] * 4, ""]


def gain_of(row: dict[str, str]) -> str:
    """Return a gain with its interval."""
    gain, low, high = (float(row[name]) for name in ("gain", "gain low", "gain high"))
    return f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"


def top2_of(row: dict[str, str]) -> str:
    """Return a figure with its interval."""
    top2, low, high = (float(row[name]) for name in ("top2", "low", "high"))
    return f"{top2:.3f} [{low:.3f}, {high:.3f}]"


def page(path: Path) -> str:
    """Return the page that the table makes."""
    parts: dict[str, list[dict[str, str]]] = {}
    for one in rows_of(path):
        parts.setdefault(one["part"], []).append(one)
    run = parts.get("run", [])
    return TEXT.format(
        plain=plain_table(parts.get("plain", [])),
        run=run_table(run),
        n_run=max((len(one["of each seed"].split()) for one in run), default=0),
        heads=heads_table(parts.get("heads", [])),
        few=few_table(parts.get("few", [])),
        few_text=FEW_TEXT.format(
            sizes=", ".join(map(str, FEW)), n_draws=N_DRAWS, n_test=N_TEST
        ),
        speed=speed_table(parts.get("speed", [])),
        n_times=N_TIMES,
        n_seeds=N_SEEDS,
    )


def by_way(rows: Sequence[dict[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of each set and vectorizer by their way."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        found.setdefault((row["set"], row["vectorizer"]), {})[row["way"]] = row
    return found


def plain_table(rows: Sequence[dict[str, str]]) -> str:
    """Return the table of what nothing is fitted for."""
    columns = ["set", "vectors", "cosine", "cosine-norm", "gain", "S-norm, unwhitened"]
    columns += ["S-norm"]
    columns += [*(f"of {one}" for one in (*SIZES, SEARCHED, OTHER)), "CSLS"]
    body = []
    for key, ways in by_way(rows).items():
        top2 = {way: f"{float(row['top2']):.3f}" for way, row in ways.items()}
        own = f"S-norm, {OWN}"
        some = [f"S-norm, {one}" for one in (*SIZES, SEARCHED, OTHER)]
        told = [top2["cosine"], top2["cosine-norm"], gain_of(ways["cosine-norm"])]
        told += [top2[f"S-norm, {PLAIN}"], top2[own]]
        body.append([*key, *told, *(top2[one] for one in (*some, f"CSLS, {OWN}"))])
    return "\n".join(table(columns, body))


def run_table(rows: Sequence[dict[str, str]]) -> str:
    """Return the table of the challenge."""
    columns = ["cell", "top-2", f"first {N_SEEDS} seeds", "gain", "over", "s"]
    body = []
    for row in rows:
        few = np.array(row["of each seed"].split()[:N_SEEDS], float).mean()
        told = [top2_of(row), f"{few:.3f}", gain_of(row), row["rival"]]
        body.append([row["way"], *told, row["seconds"]])
    return "\n".join(table(columns, body))


def heads_table(rows: Sequence[dict[str, str]]) -> str:
    """Return the table of heads on similarities and on vectors."""
    columns = ["set", "head", *MERGES, "gain over", *(f"gain of {one}" for one in OURS)]
    body = []
    for (name, _), ways in by_way(rows).items():
        for head in HEADS:
            rows_of_head = [ways[f"{head}, {merge}"] for merge in MERGES]
            told = [top2_of(one) for one in rows_of_head]
            told += [rows_of_head[0]["rival"].partition(", ")[2]]
            told += [gain_of(one) for one in rows_of_head[: len(OURS)]]
            body.append([name, head, *told])
    return "\n".join(table(columns, body))


def few_table(rows: Sequence[dict[str, str]]) -> str:
    """Return the table of few pairs: a column a size."""
    found = by_way(rows)
    body = []
    for head, merge in FEW_WAYS:
        way = head if head == "cosine" else f"{head}, {merge}"
        told = []
        for ways in found.values():
            own, base = (
                np.array(ways[one]["of each seed"].split(), float)
                for one in (way, "cosine")
            )
            gain = own - base
            error = gain.std(ddof=1) / np.sqrt(len(gain))
            more = "" if head == "cosine" else f" ({gain.mean():+.3f} ± {error:.3f})"
            told.append(f"{own.mean():.3f}{more}")
        body.append([way, *told])
    sizes = [name.partition(" ")[2] for name, _ in found]
    return "\n".join(table(["head, merge", *sizes], body))


def speed_table(rows: Sequence[dict[str, str]]) -> str:
    """Return the table of seconds."""
    times = {row["way"]: np.array(row["of each seed"].split(), float) for row in rows}

    def told(of: Floats, mark: str = "", digits: int = 2) -> str:
        middle, low, high = np.median(of), of.min(), of.max()
        return f"{middle:.{digits}f}{mark} [{low:.{digits}f}, {high:.{digits}f}]"

    body = []
    for head in HEADS if times else ():
        ours, raw = (times[f"{head}, {merge}"] for merge in TIMED)
        ratios = raw / ours, raw / (ours + times[FEATURES])
        ways = [told(ours), told(raw), *(told(one, " ×", 1) for one in ratios)]
        body.append([head, *ways])
    if times:
        body.append([FEATURES, told(times[FEATURES]), "", "", ""])
    columns = ["head", *TIMED, "ratio", "with the features counted"]
    return "\n".join(table(columns, body))


def make(part: str, store: Any, run: Path) -> Iterator[list[str]]:
    """Give the rows of one part."""
    if part == "run":
        yield from of_run(run)
        return
    names = {"plain": [*VECTORIZERS], "heads": [WITH_HEADS]}.get(part, [LARGEST])
    made = {name: make_vectorizer(VECTORIZERS[name]) for name in names}
    sets = {"plain": SETS, "heads": SETS[1:]}.get(part, SETS[:1])
    data = {name: gather(read(name), made, store=store) for name in sets}
    if part == "speed":
        (of,) = data.values()
        yield from speed(of.vectors[LARGEST], of.splits(0)[0])
    if part in ("plain", "heads"):
        for name, other in zip(sets, (*sets[1:], sets[0]), strict=True):
            for vectorizer, found in data[name].vectors.items():
                others = data[other].vectors[vectorizer].vectors
                of_seed = (data[name].splits(seed)[0] for seed in range(N_SEEDS))
                cases = [(found, split, others) for split in of_seed]
                yield from measured(part, name, vectorizer, cases)
    if part == "few":
        (of,) = data.values()
        found = of.vectors[LARGEST]
        for size in FEW:
            cases = []
            for seed in range(N_DRAWS):
                drawn = drawn_sets(of, size, N_TEST, seed)
                cases.append((found, Split(*drawn, names=np.array([""])), None))
            yield from measured(part, f"tll {size}", LARGEST, cases)


PARTS = ("plain", "run", "heads", "few", "speed")


def main() -> None:
    """Measure, print a row a way, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="folder of the vector store")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--run", type=Path, default=OUT.parent / "tll-similarity")
    parser.add_argument("--out", type=Path, default=OUT)
    said = parser.parse_args()
    asked = said.part or PARTS
    path = said.out / "similarity.csv"
    known = rows_of(path) if path.exists() else []
    rows = [
        [row[name] for name in COLUMNS] for row in known if row["part"] not in asked
    ]
    with one_thread():
        for part in asked:
            rows += make(part, said.store or default_store(), said.run)
    rows.sort(key=lambda row: PARTS.index(row[0]))
    said.out.mkdir(parents=True, exist_ok=True)
    write_text(path, csv_text(COLUMNS, rows))
    write_text(said.out / "README.md", page(path))


if __name__ == "__main__":
    main()
