"""``tllboost check``: look a pair table over before anything is computed from it."""

from __future__ import annotations

import typer

from tllboost.cli import options
from tllboost.cli.options import refuse_given
from tllboost.cli.streams import progress_bar, write_json


def check(
    context: typer.Context,
    pairs: options.Pairs,
    *,
    folders: options.GroupFolders,
    store: options.Store = None,
    max_pixels: options.MaxPixels = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    r"""Look for problems in the pairs: bad images, copies, a leaking split.

    Images are vectorized, and a grid finds the vectors in the store. Near-duplicates
    are images with a cosine of 0.7 or more.

    The exit code is 3 if an image is missing or can't be read, or if the split column
    of the table puts the same image into two sets.

    **Examples**

        tllboost check pairs.csv --images images
        tllboost check pairs.csv --left left --right right --json
        tllboost check covers --groups folder
        tllboost check holidays --groups '^(\d{4})'
    """
    from tllboost.check import check_pairs
    from tllboost.store import VectorStore

    table = folders.read(pairs)
    if not any(table.paths):
        refuse_given(context, "has no effect without images", "max_pixels", "store")
    with progress_bar(quiet=quiet) as progress:
        report = check_pairs(table, store=VectorStore(store), progress=progress)
    if as_json:
        write_json(report.as_dict())
    else:
        typer.echo("\n".join(report.lines()))
    if report.leaks or report.unreadable:
        raise typer.Exit(3)
