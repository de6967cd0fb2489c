"""``tllboost compare``: which cells changed between two runs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tllboost.cli.completion import complete_metric
from tllboost.cli.options import Json

if TYPE_CHECKING:
    from tllboost.report.compare import Change, Comparison

__all__ = []

_EXAMPLES = """
**Examples**

    tllboost compare results/before results/after

    tllboost compare results/before results/after --metric roc_auc --all

    tllboost compare results/before results/after --json > changes.json
"""


def add_to(app: typer.Typer) -> None:
    """Give `app` the command ``compare``."""
    app.command("compare", epilog=_EXAMPLES)(compare)


def compare(
    before: Annotated[
        Path, typer.Argument(metavar="BEFORE", help="Folder of one grid's results.")
    ],
    after: Annotated[
        Path, typer.Argument(metavar="AFTER", help="Folder of another's.")
    ],
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            autocompletion=complete_metric,
            help="What to compare in [as BEFORE shows].",
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Show all cells, unchanged or in one run only, too."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say which cells changed between two runs by more than their 95 % intervals.

    Where both runs have the same test pairs and seeds, each interval is that of the
    difference, resample by resample; the output says where that can't be. A cell is
    better or worse where the interval leaves out 0, else it is the same. Of many cells
    some change by chance: the last line says how many that would be.
    """
    from tllboost.errors import printable
    from tllboost.report.compare import compare_runs

    found = compare_runs(before, after, metric)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1))
        return
    for note in found.notes:
        typer.echo(printable(note), err=True)
    _print(found, [c for c in found.changes if every or c.changed])


def _print(found: Comparison, changes: list[Change]) -> None:
    """Print the cells as a table, then what they come to."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tllboost.errors import printable
    from tllboost.report.compare import METHODS

    console = Console()
    if changes:
        table = Table(
            box=SIMPLE_HEAD,
            padding=(0, 1),
            collapse_padding=True,
            show_edge=False,
            pad_edge=False,
        )
        table.add_column("cell", overflow="fold")
        for name in ("before", "after"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("difference", no_wrap=True)
        table.add_column("", no_wrap=True)
        for change in changes:
            table.add_row(Text(_name(change)), *_figures(change), change.verdict)
        console.print(table)
    for change in changes:
        if change.why:
            line = f"{change.verdict}: {_name(change)}: {printable(change.why)}"
            typer.echo(line)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in found.counts.items())
    typer.echo(f"{found.metric}: {counts or 'no cell in either run'}")
    typer.echo(METHODS[found.method])
    if found.expected_by_chance:
        typer.echo(
            f"by chance alone about {found.expected_by_chance:.1f} cells would seem "
            "better or worse, were all the same"
        )


def _name(change: Change) -> str:
    """Return what the recipe calls the cell, else its parts."""
    from tllboost.errors import printable

    parts = [part for part in asdict(change.cell).values() if part != "none"]
    return printable(change.name or " × ".join(parts))


def _figures(change: Change) -> list[str]:
    """Return before, after and the difference as text."""
    told = [
        f"{value:.3f}" if math.isfinite(value) else ""
        for value in (change.before, change.after)
    ]
    if not math.isfinite(change.difference):
        return [*told, ""]
    difference = f"{change.difference:+.3f}"
    if math.isfinite(change.low):
        difference += f" [{change.low:+.3f}, {change.high:+.3f}]"
    return [*told, difference]
