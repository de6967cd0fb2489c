"""``tllboost report``: a finished run, on a page, in the terminal or as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tllboost.cli.completion import complete_format, complete_metric
from tllboost.cli.options import Quiet

__all__ = []

_EXAMPLES = """
**Examples**

    tllboost report results/mine

    tllboost report results/mine --metric roc_auc --gallery 0

    tllboost report results/mine --format tex > matrix.tex

With --format, the table alone is printed and no page is written.
"""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", epilog=_EXAMPLES)(report)


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a grid's results.")],
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            autocompletion=complete_metric,
            help="What to show [as the run did].",
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            autocompletion=complete_format,
            help="Print the matrix as csv, md (Markdown), tex (LaTeX) or json.",
        ),
    ] = None,
    gallery: Annotated[
        int,
        typer.Option(
            "--gallery",
            min=0,
            help="Queries to show at each end, best and worst; 0 leaves images out.",
        ),
    ] = 20,
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow", metavar="URI", help="Log the run to an MLflow server or folder."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write report.html of a finished grid, and show its matrix in any metric."""
    from tllboost.cli.progress import message_to, progress_bar
    from tllboost.report import read_run, write_report
    from tllboost.report.terminal import print_matrix

    found = read_run(run)
    rows, metric = found.rows(metric), metric or found.metric
    if form is not None:
        _print(form, rows, metric)
    else:
        with progress_bar(quiet=quiet) as progress:
            page = write_report(found, gallery=gallery, progress=progress)
        print_matrix(rows, metric)
        message_to(quiet=quiet)(f"report: {page}")
    if mlflow is not None:
        from tllboost.mlflow_log import log_run

        log_run(run, mlflow)
        message_to(quiet=quiet)(f"logged to {mlflow}")


def _print(form: str, rows: list[dict[str, object]], metric: str) -> None:
    """Print the table alone, for another program to read."""
    import json

    from tllboost.grid.matrix import matrix_text

    if form == "json":
        finite = [
            {key: None if value != value else value for key, value in row.items()}
            for row in rows
        ]
        typer.echo(json.dumps(finite, indent=2))
    else:
        typer.echo(matrix_text(rows, metric, form), nl=False)
