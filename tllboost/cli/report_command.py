"""``tllboost report``: a finished run, on a page, in the terminal or as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tllboost.cli import options
from tllboost.cli.options import refuse_given
from tllboost.cli.streams import message_to, progress_bar, write_json, write_out


def report(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Results folder of a grid.")],
    *,
    metric: options.Metric = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            autocompletion=options.complete("formats"),
            help="Print the matrix as csv, md (Markdown) or json, and write no page.",
        ),
    ] = None,
    gallery: options.Gallery = 20,
    max_pixels: options.MaxPixels = None,
    mlflow: options.Mlflow = None,
    quiet: options.Quiet = False,
) -> None:
    """Write report.html of a finished grid, and show its matrix in any metric.

    If images of the gallery can no longer be read, the page stays as it was and the
    exit code is 3; --gallery 0 writes a page without images.

    **Examples**

        tllboost report results/mine
        tllboost report results/mine --metric roc_auc --gallery 0
        tllboost report results/mine --format md > matrix.md
    """
    from tllboost.grid.matrix import matrix_text
    from tllboost.report import read_run, write_report
    from tllboost.report.terminal import print_matrix

    if form is not None:
        why = "has no effect with --format, which writes no page"
        refuse_given(context, why, "gallery", "max_pixels")
    found = read_run(run)
    rows, metric = found.rows(metric), metric or found.metric
    if form == "json":
        write_json(rows)
    elif form is not None:
        write_out(matrix_text(rows, metric, form))
    else:
        print_matrix(rows, metric)
        with progress_bar(quiet=quiet) as progress:
            page = write_report(found, gallery=gallery, progress=progress)
        message_to(quiet=quiet)(f"report: {page}")
    if mlflow is not None:
        from tllboost.report.mlflow_log import log_run

        log_run(run, mlflow)
        message_to(quiet=quiet)(f"logged to {mlflow}")
