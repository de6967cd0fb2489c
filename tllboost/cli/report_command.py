"""``tllboost report``: the matrix of a run, of any metric."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]

_EXAMPLES = """
**Examples**

    tllboost report results

    tllboost report results --metric roc_auc --csv > roc_auc.csv
"""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", epilog=_EXAMPLES)(report)


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a grid's results.")],
    metric: Annotated[
        str | None, typer.Option("--metric", help="What to show [as the run did].")
    ] = None,
    csv: Annotated[
        bool, typer.Option("--csv", help="Print the matrix as CSV instead.")
    ] = False,
) -> None:
    """Show the matrix of a finished grid again, in any metric."""
    from tllboost.grid.matrix import matrix_csv
    from tllboost.report.results import read_results
    from tllboost.report.terminal import print_matrix

    rows, metric = read_results(run, metric)
    if csv:
        typer.echo(matrix_csv(rows, metric), nl=False)
    else:
        print_matrix(rows, metric)
