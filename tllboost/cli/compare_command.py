"""``tllboost compare``: which cells changed between two runs."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from tllboost.cli import options
from tllboost.cli.options import refuse_if
from tllboost.cli.streams import write_json
from tllboost.errors import printable

if TYPE_CHECKING:
    from tllboost.report.compare import Change


def compare(
    before: Annotated[
        Path, Argument(metavar="BEFORE", help="Results folder of one grid.")
    ],
    after: Annotated[
        Path, Argument(metavar="AFTER", help="Results folder of another grid.")
    ],
    *,
    metric: options.Metric = None,
    every: Annotated[
        bool,
        Option(
            "--all", help="Also show the cells that are unchanged or in one run only."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Say which cells changed between two runs by more than their 95 % intervals.

    If both runs have the same test pairs and seeds, the interval is that of the paired
    difference; else the output says so. A cell is better or worse if the interval does
    not contain 0, and otherwise the same. Among many cells some change by chance: the
    last line says how many to expect.

    **Examples**

        tllboost compare results/before results/after
        tllboost compare results/before results/after --metric roc_auc --all
        tllboost compare results/before results/after --json > changes.json
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tllboost.report.compare import METHODS, compare_runs

    refuse_if(every and as_json, "--all has no effect with --json, which has all cells")
    found = compare_runs(before, after, metric)
    if as_json:
        write_json(found.as_dict())
        return
    for note in found.notes:
        typer.echo(printable(note), err=True)
    changes = [one for one in found.changes if every or one.changed]
    if changes:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
        table.show_edge = table.pad_edge = False
        table.add_column("cell", overflow="fold")
        for name in ("before", "after", "difference", ""):
            table.add_column(name, no_wrap=True)
        for one in changes:
            low, high = _signed(one.low), _signed(one.high)
            difference = _signed(one.difference) + (f" [{low}, {high}]" if low else "")
            figures = [
                f"{x:.3f}" if math.isfinite(x) else "" for x in (one.before, one.after)
            ]
            table.add_row(Text(_name(one)), *figures, Text(difference), one.verdict)
        Console().print(table)
        for one in changes:
            if one.why:
                typer.echo(f"{one.verdict}: {_name(one)}: {printable(one.why)}")
    counts = ", ".join(f"{n} {verdict}" for verdict, n in found.counts.items())
    typer.echo(f"{found.metric}: {counts or 'no cell in either run'}")
    typer.echo(METHODS[found.method])
    if found.expected_by_chance:
        typer.echo(
            f"if nothing had changed, about {found.expected_by_chance:.1f} cells would "
            "be called better or worse by chance"
        )


def _name(change: Change) -> str:
    """Return what the recipe calls the cell, else its parts."""
    parts = [part for part in asdict(change.cell).values() if part != "none"]
    return printable(change.name or " × ".join(parts))


def _signed(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else ""
