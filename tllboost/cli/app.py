"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from tllboost import __version__
from tllboost.cli import (
    bundle_command,
    check_command,
    compare_command,
    demo_command,
    explain_command,
    finetune_command,
    grid_command,
    list_command,
    rank_command,
    report_command,
    score_command,
    store_command,
    vectorize_command,
)
from tllboost.cli.examples import examples_last

__all__ = ["app"]

app = typer.Typer(
    help="Strong, honest baselines for image-pair similarity.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (
    demo_command,
    check_command,
    vectorize_command,
    finetune_command,
    grid_command,
    report_command,
    compare_command,
    score_command,
    explain_command,
    rank_command,
    bundle_command,
    store_command,
    list_command,
):
    module.add_to(app)
examples_last(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tllboost {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """Strong, honest baselines for image-pair similarity."""
