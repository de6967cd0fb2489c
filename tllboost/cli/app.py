"""The commands, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import typer

from tllboost import __version__
from tllboost.cli.lazy import Home, LazyGroup

__all__ = ["app"]


_SUMMARIES = {
    "demo": "Run a small grid on made pictures, and score a new pair.",
    "check": "Look for what would spoil the figures: copies, a leaking split.",
    "vectorize": "Vectorize pictures; what the store holds is not computed again.",
    "finetune": "Train the last stages of a network on your training pairs.",
    "grid": "Measure every (vectorizer, projection, merge, head).",
    "report": "Write report.html of a grid, and show its matrix in any metric.",
    "compare": "Say which cells changed between two runs by more than chance.",
    "score": "Say how likely two pictures match, by a bundle.",
    "explain": "Show which parts of two pictures carry their score.",
    "rank": "Order pictures by how much they look like a query.",
    "bundle": "Look into a bundle, and verify that it is sound.",
    "store": "Look at, verify and prune the vector store.",
    "list": "List the names that options take.",
}


class Root(LazyGroup):
    """All commands."""

    homes: ClassVar[Mapping[str, Home]] = {
        name: Home(f"tllboost.cli.{name}_command", summary)
        for name, summary in _SUMMARIES.items()
    }


app = typer.Typer(
    cls=Root,
    help="Strong, honest baselines for image-pair similarity.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
