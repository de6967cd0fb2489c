"""Write results/pocket/README.md from the files beside it: no figure is typed in.

Run it as ``python benchmarks/pocket_page.py``; ``pocket_table.py`` does, too.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from results_page import between
from tables import Row, rows_of, table

from tllboost.files import write_text
from tllboost.vectorizers import with_weights
from tllboost.vectorizers.pocket import FILE, SHA256, PocketVectorizer

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "results" / "pocket"
MEAN = "mean"

HEAD = """\
# pocket

`pocket` is the network in the package: {n_dims} numbers for each image, {bytes} bytes
of weights, trained on made images only. Its card,
[docs/pocket.md](../../docs/pocket.md), says what it is and how it was made. This page
compares it with the descriptors of `classic`, and with two networks that others trained
on ImageNet's 1.3 million labelled photographs.

```sh
python benchmarks/pocket_table.py
```

The figures are for the plain cosine of the vectors. Nothing is trained on these sets,
and none of their images was seen in training. A figure is the share of queries whose
match comes first or second (top-2): the mean of {seeds} seeds, with its 95 % interval
by bootstrap over components. In the mean over the sets each counts the same.
"""


def page(folder: Path) -> str:
    """Return the whole page."""
    results = rows_of(folder / "results.csv")
    apart = rows_of(folder / "differences.csv")
    sets = list(dict.fromkeys(row["set"] for row in results))
    head = HEAD.format(
        n_dims=PocketVectorizer().n_dims,
        bytes=f"{FILE.stat().st_size:,}",
        seeds=results[0]["seeds"],
    )
    return "\n".join(
        [
            head,
            *by_set(results, sets, "top2"),
            "",
            *queries(results, sets),
            "",
            "## Differences of pairs",
            "",
            "Top-2 of the first minus that of the second, on the same candidates. In",
            "bold the interval excludes zero.",
            "",
            *gains(apart, sets, "top2"),
            "",
            *verdict(apart, *chosen_fusion(folder)),
            "",
            "## Other metrics",
            "",
            *others(results, sets),
            "",
            *trained(folder),
            *choices(folder),
            *ablation(folder),
            *speed(folder),
            "## Made with",
            "",
            f"Weights of sha256 `{SHA256}`;",
            *[", ".join(" ".join(one.values()) for one in rows_of(folder / VERSIONS))],
            "",
        ]
    )


VERSIONS = "versions.csv"


def by_set(rows: list[Row], sets: list[str], metric: str) -> list[str]:
    """Return a metric of each vectorizer, a column a set."""
    cells = {(row["vectorizer"], row["set"]): between(row, metric) for row in rows}
    names = list(dict.fromkeys(row["vectorizer"] for row in rows))
    lines = [[f"`{name}`", *(cells[name, one] for one in sets)] for name in names]
    return table(["vectorizer", *sets], lines)


def queries(rows: list[Row], sets: list[str]) -> list[str]:
    """Say how many queries there are, and among how many they look."""
    told = {
        row["set"]: f"{row['set']}: {float(row['queries']):.0f} queries a seed among "
        f"{float(row['candidates']):.1f} candidates"
        for row in rows
        if row["queries"]
    }
    return [f"- {told[one]}" for one in sets if one in told]


def gains(rows: list[Row], sets: list[str], metric: str) -> list[str]:
    """Return the paired differences of a metric, those clear of zero in bold."""
    pairs = dict.fromkeys((row["vectorizer"], row["other"]) for row in rows)
    cells = {
        (row["vectorizer"], row["other"], row["set"]): row
        for row in rows
        if row["metric"] == metric
    }
    lines = [
        [f"`{one}` − `{other}`", *(shown(cells[one, other, name]) for name in sets)]
        for one, other in pairs
    ]
    return table(["", *sets], lines)


def shown(row: Row) -> str:
    """Return a difference with its interval, bold where that excludes zero."""
    text = between(row, "gain", signed=True)
    return text if side(row) == 0 else f"**{text}**"


def side(row: Row) -> int:
    """Return 1 where an interval lies above zero, -1 below, 0 where it holds it."""
    return (float(row["gain_low"]) > 0) - (float(row["gain_high"]) < 0)


def verdict(rows: list[Row], fusion: str, own: str, classic: str) -> list[str]:
    """Say in words on how many sets one beats the other, and on the mean."""
    lines = []
    for one, other in (
        ("pocket", "classic"),
        ("classic+pocket", "classic"),
        ("classic+pocket", "pocket"),
        *((fusion, other) for other in ("classic", "pocket", own, classic)),
    ):
        found = {
            row["set"]: side(row)
            for row in rows
            if (row["vectorizer"], row["other"], row["metric"]) == (one, other, "top2")
        }
        mean = WORDS[found.pop(MEAN)]
        better = sum(value > 0 for value in found.values())
        worse = sum(value < 0 for value in found.values())
        lines.append(
            f"- `{one}` is better than `{other}` on {better} of {len(found)} sets and "
            f"worse on {worse}, by intervals that exclude zero; on the mean it is "
            f"{mean}."
        )
    return lines


WORDS = {1: "better", 0: "tied", -1: "worse"}


def others(rows: list[Row], sets: list[str]) -> list[str]:
    """Return the other metrics, without their intervals."""
    lines = []
    for row in rows:
        values = [f"{float(row[one]):.3f}" for one in ("top1", "mrr", "roc_auc")]
        lines.append([row["set"], f"`{row['vectorizer']}`", *values])
    lines.sort(key=lambda line: sets.index(line[0]))
    return table(["set", "vectorizer", "top-1", "MRR", "ROC AUC"], lines)


def trained(folder: Path) -> list[str]:
    """Return what training recorded of itself."""
    file = folder / "training.json"
    if not file.is_file():
        return []
    record = json.loads(file.read_text(encoding="utf-8"))
    chosen = record.pop("chosen_by", "")
    lines = [[name, _told(value)] for name, value in record.items()]
    told = textwrap.wrap(chosen, 88)
    said = ["## How it was trained", "", COMMAND, "", *table(["", ""], lines), ""]
    return [*said, *told, ""]


COMMAND = "`python benchmarks/pocket/train.py`, on two cores:"


def _told(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_told, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def best(rows: list[Row]) -> Row:
    """Return the row of the highest mean over the sets."""
    return max(rows, key=lambda row: float(row["mean"]))


def chosen_length(folder: Path) -> float:
    """Return the length of the layout vector that validation chose."""
    rows = rows_of(folder / "choices.csv")
    return float(best([row for row in rows if row["length"]])["length"])


def chosen_fusion(folder: Path) -> tuple[str, str, str]:
    """Return the fusion that validation chose, and its two parts, by their names."""
    row = best([row for row in rows_of(folder / "choices.csv") if row["weight"]])
    own, classic = row["pocket"], row["classic"]
    weights = (1, float(row["weight"]))
    return "+".join(with_weights([own, classic], weights)), own, classic


def choices(folder: Path) -> list[str]:
    """Return the tables by which the layout's length and a fusion were chosen."""
    rows = rows_of(folder / "choices.csv")
    lengths = [row for row in rows if row["length"]]
    alone = {
        row["pocket"]: row["mean"]
        for row in rows
        if not row["length"] and not row["weight"]
    }
    means = {
        (row["pocket"], row["classic"], row["weight"]): row["mean"]
        for row in rows
        if row["weight"]
    }
    weights = list(dict.fromkeys(weight for _, _, weight in means))
    lines = [
        [f"`{own}`", f"`{classic}`"]
        + [f"{float(one):.3f}" for one in (alone[own], *at)]
        for own, classic in dict.fromkeys(key[:2] for key in means)
        for at in [[means[own, classic, weight] for weight in weights]]
    ]
    text = CHOICES.format(
        lengths=", ".join(
            f"{float(row['mean']):.3f} at {row['length']}" for row in lengths
        ),
        length=f"{chosen_length(folder):g}",
        fusion=chosen_fusion(folder)[0],
    )
    columns = ["pocket", "classic", "alone", *(f"weight {one}" for one in weights)]
    return [
        "## What was chosen",
        "",
        *textwrap.wrap(text, 88),
        "",
        *table(columns, lines),
        "",
    ]


CHOICES = (
    "All figures are top-2 on the validation sets, the mean of the three sets and five "
    "seeds. First, the length of the layout vector: {lengths}; {length} was chosen. "
    "Then the views of `pocket` and `classic`, and the weight of `classic` where "
    "`pocket` has weight 1; `{fusion}` was chosen for the tables above. There are too "
    "few queries to tell neighbouring values apart. `classic` got its patches "
    "([results/classic](../classic/README.md)) when the test figures of a fusion "
    "without them were known; no test figure set any of their numbers. The script is "
    "`python benchmarks/pocket/choose.py`."
)


def ablation(folder: Path) -> list[str]:
    """Return the table of what was left out."""
    file = folder / "ablation.csv"
    if not file.is_file():
        return []
    rows = rows_of(file)
    columns = [name for name in rows[0] if name not in ("variant", "seed", "steps")]
    by_variant: dict[str, list[Row]] = {}
    for row in rows:
        by_variant.setdefault(row["variant"], []).append(row)
    lines = []
    for variant, own in by_variant.items():
        means = [sum(float(row[name]) for row in own) / len(own) for name in columns]
        sets = means[-N_SETS:]
        shown_means = [f"{one:.3f}" for one in (*means, sum(sets) / len(sets))]
        lines.append([variant, str(len(own)), *shown_means])
    said = ABLATION.format(
        steps=" or ".join(sorted({row["steps"] for row in rows})),
        apart=_apart(list(by_variant.values()), columns),
        by_views=_lowest(by_variant, columns[:-N_SETS]),
        by_sets=_lowest(by_variant, columns[-N_SETS:]),
    )
    head = ["variant", "seeds", *columns, "mean of the sets"]
    return [
        "## What mattered",
        "",
        *textwrap.wrap(said, 88),
        "",
        *table(head, lines),
        "",
    ]


def _apart(variants: list[list[Row]], columns: list[str]) -> str:
    """Say how far two trainings differ that have only different seeds."""
    apart = [
        max(values) - min(values)
        for own in variants
        if len(own) > 1
        for values in ([float(row[name]) for row in own] for name in columns)
    ]
    if not apart:
        return "by an unknown amount"
    return f"by up to {max(apart):.3f} in one figure"


def _lowest(variants: dict[str, list[Row]], columns: list[str]) -> str:
    """Return the variant whose mean over these columns is the lowest, in quotes."""
    means = {
        name: sum(float(row[one]) for row in own for one in columns) / len(own)
        for name, own in variants.items()
    }
    return f'"{min(means, key=means.__getitem__)}"'


N_SETS = 3

ABLATION = (
    "Short trainings of {steps} steps, each without one ingredient: means over the "
    "seeds. They are far from finished, and trainings that differ only in their seed "
    "differ {apart}. So only larger differences mean anything. The columns `things` to "
    "`covers` are what a training is judged by: the share of images whose other view "
    "comes first among all others. The images are made things on clutter, made layouts "
    "drawn again, regions of photographs, and such regions on clutter. The columns of "
    "the sets are top-2 on their validation sets. The largest loss on the mean of the "
    "four is {by_views}, on the mean of the sets {by_sets}. The script is `python "
    "benchmarks/pocket/ablate.py`."
)


def speed(folder: Path) -> list[str]:
    """Return how fast it is, as `make bench` has measured it."""
    lines = [
        [
            row["what"],
            f"{float(row['measured']):.3g} {row['unit']}",
            f"{float(row['limit']):.3g} {row['unit']}",
        ]
        for row in rows_of(folder / "speed.csv")
    ]
    if not lines:
        return []
    said = ["## Speed", "", "Medians of `python benchmarks/bench_pocket.py`.", ""]
    return [*said, *table(["work", "measured", "at most"], lines), ""]


if __name__ == "__main__":
    write_text(OUT / "README.md", page(OUT))
