"""Write the README.md of a finished grid from its files: no figure is typed in.

Run it as ``python benchmarks/results_page.py results/tll``.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

FLAGS = {"vectorizer": "-v", "merge": "-m", "head": "-c"}
MARKS = {"best": "**{}**", "yes": "{} =", "no": "{}"}


def command(run: dict[str, Any]) -> str:
    """Return the command that makes this run, from its run.toml."""
    parts = [f"tllboost grid {shlex.quote(run['pairs'])}"]
    for key, value in run.items():
        if key in ("pairs", "run"):
            continue
        flag = FLAGS.get(key, f"--{key}")
        if isinstance(value, list):
            parts += [f"{flag} {shlex.quote(item)}" for item in value]
        elif value is True:
            parts.append(flag)
        elif value is not False:
            parts.append(f"{flag} {shlex.quote(str(value))}")
    lines = [""]
    for part in parts:
        if len(lines[-1]) + len(part) > 78:
            lines.append("   ")
        lines[-1] += f" {part}"
    return " \\\n".join(lines).strip()


def matrix(rows: list[dict[str, str]], metric: str) -> list[str]:
    """Return the matrix as a Markdown table: the best bold, its ties marked."""
    heads = list(dict.fromkeys(row["head"] for row in rows))
    merged = [row for row in rows if row["merge"] != "none"] or rows
    keys = list(dict.fromkeys((row["vectorizer"], row["merge"]) for row in merged))
    cells = {(row["vectorizer"], row["merge"], row["head"]): row for row in rows}
    lines = [
        "| vectorizer | merge | " + " | ".join(heads) + " |",
        "|---|---|" + "---|" * len(heads),
    ]
    for vectorizer, merge in keys:
        shown = []
        for head in heads:
            of = "none" if head == "cosine" else merge
            shown.append(cell(cells.get((vectorizer, of, head)), metric))
        lines.append(f"| {vectorizer} | {merge} | " + " | ".join(shown) + " |")
    return lines


def cell(row: dict[str, str] | None, metric: str) -> str:
    """Return one figure, marked."""
    if row is None:
        return ""
    if row["status"] != "ok":
        return "failed"
    return MARKS[row["tied_with_best"]].format(f"{float(row[metric]):.3f}")


def cosines(rows: list[dict[str, str]]) -> list[str]:
    """Return the baselines with their intervals."""
    lines = ["| vectorizer | top-1 | top-2 | MRR | ROC AUC |", "|---|---|---|---|---|"]
    for row in rows:
        if row["head"] == "cosine" and row["status"] == "ok":
            figures = [
                f"{float(row[m]):.3f} [{float(row[m + '_low']):.3f}, "
                f"{float(row[m + '_high']):.3f}]"
                for m in ("top1", "top2", "mrr", "roc_auc")
            ]
            lines.append(f"| {row['vectorizer']} | " + " | ".join(figures) + " |")
    return lines


def boosted(rows: list[dict[str, str]]) -> str:
    """Say how the boosted cells stand against their own cosine."""
    found = [row for row in rows if row["head"] == "xgboost" and row["gain"]]
    if not found:
        return "No boosted cell was run."
    below = [row for row in found if float(row["gain_high"]) < 0]
    above = [row for row in found if float(row["gain_low"]) > 0]
    lowest = min(found, key=lambda row: float(row["gain"]))
    return (
        f"Of {len(found)} `xgboost` cells {len(below)} lie below their own cosine with "
        f"an interval that excludes zero, {len(above)} above it. The lowest gain is "
        f"{float(lowest['gain']):+.3f} [{float(lowest['gain_low']):+.3f}, "
        f"{float(lowest['gain_high']):+.3f}] ({lowest['vectorizer']}, "
        f"{lowest['merge']})."
    )


def page(out: Path) -> str:
    """Return the whole page."""
    run = tomllib.loads((out / "run.toml").read_text(encoding="utf-8"))
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    machine = json.loads((out / "environment.json").read_text(encoding="utf-8"))
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    metric, first = summary["metric"], rows[0]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    failed = sum(row["status"] != "ok" for row in rows)
    return "\n".join(
        [
            f"# {out.name}",
            "",
            "```sh",
            command(run),
            "```",
            "",
            f"Protocol {first['protocol']}, {first['n_seeds']} seeds, "
            f"{float(first['n_test_queries']):.0f} test queries a seed, each ranked "
            f"among {float(first['n_candidates']):.1f} candidates. {len(rows)} cells, "
            f"{failed} failed. Intervals are 95 %, by bootstrap over components.",
            "",
            f"## Matrix: {metric}",
            "",
            "Bold is the best figure; `=` ties with it: the interval of the paired",
            "difference includes zero. The test side chose nothing: see below.",
            "",
            *matrix(rows, metric),
            "",
            "## What validation chose",
            "",
            *(f"- {line}" for line in summary["lines"]),
            "",
            "## Baselines: the cosine of the vectors as they are",
            "",
            *cosines(rows),
            "",
            "## Boosting against the cosine",
            "",
            boosted(rows),
            "",
            "## Made with",
            "",
            f"Python {machine['python']}, {machine['cores']} cores; {versions}.",
            "This page was written by `python benchmarks/results_page.py`.",
            "",
        ]
    )


def main() -> None:
    """Write README.md into each folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="+", type=Path, help="folder of a finished grid")
    for out in parser.parse_args().out:
        (out / "README.md").write_text(page(out), encoding="utf-8")


if __name__ == "__main__":
    main()
