"""All commands, each imported when it is run, so that help comes at once.

The command NAME is the function NAME of ``tllboost.cli.NAME_command``, unless
``COMMANDS`` there names others; several make a group, as ``store info`` and ``store
prune``.
"""

from __future__ import annotations

import functools
import inspect
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tllboost import __version__

SUMMARIES = {
    "demo": "Run a small grid on made images, and score a new pair.",
    "check": "Look for problems first: broken images, copies, a leaking split.",
    "vectorize": "Vectorize images; stored vectors are not computed again.",
    "finetune": "Train the last stages of a network on your training pairs.",
    "grid": "Measure combinations of vectorizer, projection, merge and head.",
    "report": "Write report.html of a grid, and show its matrix in any metric.",
    "compare": "Say which cells changed between two runs by more than chance.",
    "score": "Say how likely it is that two images match.",
    "explain": "Show which parts of two images their score depends on.",
    "rank": "Rank images by their similarity to a query.",
    "similar": "Find all images that look alike, in a folder or between two.",
    "bundle": "Show what a bundle holds, and verify it.",
    "store": "Show, verify and prune the vector store.",
    "list": "List the names that options take.",
}


_EXAMPLES = "**Examples**"


@functools.cache
def _command(name: str) -> Any:
    """Import a command and build what parses its options."""
    from tllboost.cli.options import spread

    made = typer.Typer(
        name=name,
        add_completion=False,
        no_args_is_help=True,
        help=SUMMARIES[name],
        rich_markup_mode="markdown",
    )
    module = import_module(f"tllboost.cli.{name}_command")
    commands = getattr(module, "COMMANDS", None) or {name: getattr(module, name)}
    for word, function in commands.items():
        # The examples go below the options, where they are seen; the empty line before
        # them keeps their indent.
        told, mark, examples = inspect.cleandoc(function.__doc__).partition(_EXAMPLES)
        epilog = f"\n{mark}{examples}".rstrip()
        made.command(word, help=told.strip(), epilog=epilog)(spread(function))
    return typer.main.get_command(made)


class Root(TyperGroup):
    """The group of all commands; its help is plain text and imports none of them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = dict.fromkeys(SUMMARIES)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the words of the command line; without any, show the help."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(2)
        words: list[str] = super().parse_args(ctx, args)
        return words

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a name, imported now."""
        return _command(cmd_name) if cmd_name in SUMMARIES else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands into the help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


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
