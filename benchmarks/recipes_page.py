"""Write benchmarks/README.md: the write-ups' published figures beside ours.

Run it as ``python benchmarks/recipes_page.py``. Ours are read from ``results/``, the
published ones stand below, as EXPERIMENTS.md tells them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from results_page import between

from tllboost.report import read_run

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, Any]

# What the write-ups quote: top-2 accuracy among 20 candidates (2023), CLIP RN50x4.
CHALLENGE = {
    "A1": ("triplet + cosine", "0.828"),
    "A2": ("triplet, classification network with the deep map", "0.793"),
    "A3": ("triplet, classification network without the deep map", "0.822"),
    "A4": ("contrastive full network without the deep map", "0.616"),
    "A5": ("contrastive full network with the deep map", "0.81"),
    "A6": ("A5 over epochs 2 to 5, best at 4", "0.84 in a teaser, no table"),
    "A7": ("local grid in place of the global vector", "0.69"),
    "A8": ("local and global", "lower than its peers, no figure"),
    "A9": ("the network itself trainable", "given up after 18 hours"),
}
# Accuracy on pairs split at random, the best of ten folds (2017).
HOLIDAYS = {
    "B3": ("Inception + dot + XGBoost", "0.966 best of folds, 0.937 held out"),
    "B4": ("fully connected head, Inception, dot", "0.958"),
    "B5": ("Siamese network from scratch", "about 0.60"),
    "B6": ("head trained on augmented images", "0.88"),
    "B7": ("vectors of several networks side by side, other images", "0.98"),
}


def rows_of(name: str) -> list[Row]:
    """Return the rows of a committed run."""
    return read_run(ROOT / "results" / name).rows()


def challenge(rows: list[Row]) -> list[str]:
    """Return the table of part A."""
    lines = [
        "| experiment | how | published (RN50x4) | our cell | ours, top-2 |",
        "|---|---|---|---|---|",
    ]
    for key, (how, published) in CHALLENGE.items():
        for row in rows:
            if row["name"].split(" ")[0] == key and row["status"] == "ok":
                cell = row["name"].removeprefix(key).strip()
                ours = between(row, "top2")
                lines.append(f"| {key} | {how} | {published} | {cell} | {ours} |")
    return lines


def not_run(rows: list[Row]) -> list[str]:
    """Return the experiments whose network could not be had, and why."""
    failed = [row for row in rows if row["name"] and row["status"] != "ok"]
    of_network: dict[str, list[Row]] = {}
    for row in failed:
        of_network.setdefault(row["vectorizer"], []).append(row)
    return [
        f"- {vectorizer}: {', '.join(row['name'].split(' ')[0] for row in found)}: "
        f"{found[0]['error']}"
        for vectorizer, found in of_network.items()
    ]


def holidays(ours: list[Row], old: list[Row]) -> list[str]:
    """Return the table of part B, under both protocols."""
    lines = [
        "| experiment | how | published | our cell | held out by components | "
        "protocol holidays2017 | its best of folds |",
        "|---|---|---|---|---|---|---|",
    ]
    of_old = {key_of(row): row for row in old}
    for key, (how, published) in HOLIDAYS.items():
        for row in ours:
            named = row["name"].split(",")[0].split(" ")[0]
            if (named or product(row)) != key or row["status"] != "ok":
                continue
            then = of_old.get(key_of(row))
            accuracy = best = "–"
            if then is not None and then["status"] == "ok":
                accuracy = between(then, "accuracy")
                if then["best_of_folds"] == then["best_of_folds"]:
                    best = f"{then['best_of_folds']:.3f}"
            cell = row["name"].removeprefix(key).strip(", ") or " ".join(
                (row["vectorizer"], row["merge"], row["head"])
            )
            lines.append(
                f"| {key} | {how} | {published} | {cell} | "
                f"{between(row, 'accuracy')} | {accuracy} | {best} |"
            )
    return lines


def product(row: Row) -> str:
    """Tell the cells of the 2017 grid: three merges by four classifiers."""
    heads = ("naive-bayes", "linear-svm", "xgboost", "random-forest")
    return "B3" if row["head"] in heads and row["projection"] == "none" else ""


def key_of(row: Row) -> tuple[str, ...]:
    """Return what a cell is."""
    return row["vectorizer"], row["projection"], row["merge"], row["head"]


def page() -> str:
    """Return the whole page."""
    tll, dvd, old = rows_of("tll"), rows_of("dvd-covers"), rows_of("dvd-covers-2017")
    return "\n".join(
        [
            "# Recipes",
            "",
            "Every experiment of the two write-ups is a cell with a name in a recipe:",
            "",
            "```sh",
            "tllboost grid --config benchmarks/tll.toml --overwrite",
            "tllboost grid --config benchmarks/dvd-covers.toml --overwrite",
            "tllboost grid --config benchmarks/holidays.toml",
            "```",
            "",
            "All figures below are from `results/`, with 95 % intervals. `python",
            "benchmarks/recipes_page.py` writes this page, and `python",
            "benchmarks/results_page.py results/tll` that of a run.",
            "",
            "An estimate for 10^9 images and 10^10 pairs on a Dask cluster:",
            "[docs/scale-out.md](../docs/scale-out.md).",
            "",
            "## A. Totally-Looks-Like (2023)",
            "",
            "Published: 2,000 training pairs, CLIP vectors, top-2 of 20. Ours: 1,400",
            "pairs, 280 of them tested in each of 5 seeds. Our networks are so much",
            "smaller that only the order of the figures can be compared.",
            "",
            *challenge(tll),
            "",
            "Not run here (these are failed rows of the same recipe):",
            "",
            *not_run(tll),
            "",
            "[results/tll](../results/tll/README.md) also has projections that the",
            "write-up does not have, and the ensemble. EfficientNet-Lite0 is added in",
            "[results/tll-lite](../results/tll-lite/README.md).",
            "",
            "## B. INRIA Holidays (2017)",
            "",
            "The photographs and the five networks were not available. So the same",
            "cells were run on 70 DVD covers, 5 photographs each, with MobileNetV2 and",
            "SqueezeNet. The published protocol splits pairs: nearly every test pair",
            "shares an image with training. It quotes the best of ten folds. Ours",
            "holds out whole covers. Both figures are accuracies on as many matches as",
            "non-matches. `benchmarks/holidays.toml` has the five networks.",
            "",
            *holidays(dvd, old),
            "",
        ]
    )


def main() -> None:
    """Write benchmarks/README.md."""
    (ROOT / "benchmarks" / "README.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
