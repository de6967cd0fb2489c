"""Write the README.md of a finished grid from its files: no figure is typed in.

Run it as ``python benchmarks/results_page.py results/tll``.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from tllboost.report import read_run

MARKS = {"best": "**{}**", "yes": "{} =", "no": "{}"}

Row = dict[str, Any]


def matrix(rows: list[Row], metric: str) -> list[str]:
    """Return the frozen vectors' matrix in Markdown: the best bold, its ties marked."""
    rows = [row for row in rows if row["projection"] == "none" and not row["name"]]
    rows = [row for row in rows if row["vectorizer"] != "ensemble"]
    merged = [row for row in rows if row["merge"] != "none"] or rows
    heads = list(dict.fromkeys(row["head"] for row in rows))
    keys = list(dict.fromkeys((row["vectorizer"], row["merge"]) for row in merged))
    cells = {(row["vectorizer"], row["merge"], row["head"]): row for row in rows}
    lines = [
        "| vectorizer | merge | " + " | ".join(heads) + " |",
        "|---|---|" + "---|" * len(heads),
    ]
    for vectorizer, merge in keys:
        shown = []
        for head in heads:
            of = "none" if head in ("cosine", "cosine-norm") else merge
            shown.append(cell(cells.get((vectorizer, of, head)), metric))
        lines.append(f"| {vectorizer} | {merge} | " + " | ".join(shown) + " |")
    return lines


def learned(rows: list[Row], metric: str) -> list[str]:
    """Return the rows with a name, a projection or several cells, with intervals."""
    head = [
        "## Learned and named cells",
        "",
        "The gain is over the cosine of the same vectors before any projection.",
        "",
        f"| cell | vectorizer | projection | merge | head | {metric} | gain |",
        "|---|---|---|---|---|---|---|",
    ]
    lines = []
    for row in rows:
        own = row["name"] or row["projection"] != "none"
        if not own and row["vectorizer"] != "ensemble":
            continue
        names = [row["vectorizer"], f"`{row['projection']}`", row["merge"], row["head"]]
        figures = ["failed", ""]
        if row["status"] == "ok":
            figures = [between(row, metric), between(row, "gain", signed=True)]
            figures[0] = MARKS[row["tied_with_best"]].format(figures[0])
        lines.append("| " + " | ".join([row["name"], *names, *figures]) + " |")
    return [*head, *lines, ""] if lines else []


def failures(rows: list[Row]) -> list[str]:
    """Return why cells failed, each reason once."""
    reasons: dict[str, int] = {}
    for row in rows:
        if row["status"] != "ok":
            reasons[row["error"]] = reasons.get(row["error"], 0) + 1
    if not reasons:
        return []
    listed = [f"- {count} cells: {reason}" for reason, count in reasons.items()]
    return ["## Failed", "", *listed, ""]


def between(row: Row, column: str, *, signed: bool = False) -> str:
    """Return a figure with its interval."""
    ends = [float(row[column + end]) for end in ("", "_low", "_high")]
    if math.isnan(ends[0]):
        return "–"
    value, low, high = (f"{one:{'+' if signed else ''}.3f}" for one in ends)
    return f"{value} [{low}, {high}]"


def cell(row: Row | None, metric: str) -> str:
    """Return one figure, marked."""
    if row is None:
        return ""
    if row["status"] != "ok":
        return "failed"
    return MARKS[row["tied_with_best"]].format(f"{row[metric]:.3f}")


def cosines(rows: list[Row]) -> list[str]:
    """Return the baselines with their intervals."""
    lines = ["| vectorizer | top-1 | top-2 | MRR | ROC AUC |", "|---|---|---|---|---|"]
    for row in rows:
        frozen = row["head"] == "cosine" and row["projection"] == "none"
        if frozen and row["status"] == "ok":
            figures = [between(row, m) for m in ("top1", "top2", "mrr", "roc_auc")]
            lines.append(f"| {row['vectorizer']} | " + " | ".join(figures) + " |")
    return lines


def boosted(rows: list[Row]) -> str:
    """Say how the boosted cells compare with their own cosine."""
    found = [
        row for row in rows if row["head"] == "xgboost" and row["gain"] == row["gain"]
    ]
    if not found:
        return "No boosted cell was run."
    below = [row for row in found if row["gain_high"] < 0]
    above = [row for row in found if row["gain_low"] > 0]
    lowest = min(found, key=lambda row: row["gain"])
    return (
        f"Of {len(found)} `xgboost` cells {len(below)} are worse than their own cosine "
        f"and {len(above)} better, by intervals that exclude zero. The lowest gain is "
        f"{between(lowest, 'gain', signed=True)} ({lowest['vectorizer']}, "
        f"{lowest['merge']})."
    )


def short_names(run: dict[str, Any]) -> list[str]:
    """Return what the short names stand for."""
    if not run.get("alias"):
        return []
    listed = [f"- {name}: `{spec}`" for name, spec in run["alias"].items()]
    return ["Short names of vectorizers:", "", *listed, ""]


def command(out: Path) -> str:
    """Return what runs it again; the demo makes its images first."""
    if out.name == "demo":
        return "make demo"
    return f"tllboost grid --config {out.parent.name}/{out.name}/run.toml --overwrite"


def report(out: Path) -> list[str]:
    """Return where the report lies, if it is committed."""
    if not (out / "report.html").exists():
        return []
    return ["[report.html](report.html) shows all results with plots.", ""]


def page(out: Path) -> str:
    """Return the whole page."""
    run = read_run(out)
    rows, metric, machine = run.rows(), run.metric, run.environment
    first = next(row for row in rows if row["status"] == "ok")
    versions = ", ".join(f"{k} {v}" for k, v in run.versions.items())
    failed = sum(row["status"] != "ok" for row in rows)
    return "\n".join(
        [
            f"# {out.name}",
            "",
            "```sh",
            command(out),
            "```",
            "",
            f"Protocol {first['protocol']}, {first['n_seeds']:.0f} "
            f"seed{'s' if first['n_seeds'] > 1 else ''}, "
            f"{first['n_test_queries']:.0f} test queries per seed, each among "
            f"{first['n_candidates']:.1f} candidates. {len(rows)} cells, "
            f"{failed} failed. Intervals are 95 %, by bootstrap over components.",
            "",
            *report(out),
            f"## Matrix: {metric}",
            "",
            "The best figure is bold. `=` ties with it: the interval of the paired",
            "difference includes zero. Validation chooses, not this table: see below.",
            "",
            *matrix(rows, metric),
            "",
            *learned(rows, metric),
            *short_names(run.settings),
            *failures(rows),
            "## What validation chose",
            "",
            *(f"- {line}" for line in run.summary["lines"]),
            "",
            "## Baselines: the plain cosine",
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
