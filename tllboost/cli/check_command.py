"""``tllboost check``: look a pair table over before anything is computed from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tllboost.cli.options import (
    Anywhere,
    Groups,
    Images,
    Json,
    Left,
    Quiet,
    Right,
    read_input,
)
from tllboost.cli.progress import progress_bar
from tllboost.cli.streams import json_text

__all__ = []


def add_to(app: typer.Typer) -> None:
    """Give `app` the command ``check``."""
    app.command("check")(check)


def check(
    pairs: Annotated[
        Path,
        typer.Argument(help="Pair table, or with --groups the folder of images."),
    ],
    images: Images = None,
    left: Left = None,
    right: Right = None,
    groups: Groups = None,
    anywhere: Anywhere = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    r"""Look for what would spoil the figures: bad images, copies, a leaking split.

    Exit code 3 if an image is missing or can't be read, or if the table's split
    column puts the same image on two sides.

    **Examples**

        tllboost check pairs.csv --images images
        tllboost check pairs.csv --left left --right right --json
        tllboost check covers --groups folder
        tllboost check holidays --groups '^(\d{4})'
    """
    from tllboost.pairs.check import check_pairs

    folders = {"images": images, "left": left, "right": right}
    table = read_input(pairs, **folders, groups=groups, anywhere=anywhere)
    with progress_bar(quiet=quiet) as progress:
        report = check_pairs(table, progress=progress)
    if as_json:
        typer.echo(json_text(report.as_dict()))
    else:
        typer.echo("\n".join(report.lines()))
    if not report.n_read and not quiet:
        typer.echo(
            "no folder of images was given, so none was read: add --images, or "
            "--left and --right",
            err=True,
        )
    if report.leaks or report.unreadable:
        raise typer.Exit(3)
