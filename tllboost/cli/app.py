"""Commands that are imported when they are run, so that help comes at once.

The commands, put together.

Examples at the end of every ``--help``, each on a line of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, ClassVar, NamedTuple

import typer
from typer.core import TyperGroup

from tllboost import __version__

__all__ = ["app"]


class Home(NamedTuple):
    """Where a command lives, and what it does, in a line."""

    module: str
    summary: str


class LazyGroup(TyperGroup):
    """A group that knows the names of its commands and imports each when it is asked.

    A subclass says in `homes` where they are: each module has ``add_to(app)``. The
    help of the group itself is plain text and imports none of them, nor what draws
    the boxes of their own.
    """

    homes: ClassVar[Mapping[str, Home]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Commands(self.homes)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the words of the command line; without any, show the help."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(2)
        words: list[str] = super().parse_args(ctx, args)
        return words

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order of `homes`."""
        return list(self.homes)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands into the help."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, home.summary) for name, home in self.homes.items()]
            )


class _Commands(Mapping[str, Any]):
    """The commands by name, each made when it is looked at."""

    def __init__(self, homes: Mapping[str, Home]) -> None:
        self.homes = homes
        self.made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.made:
            self.made[name] = _make(name, self.homes[name].module)
        return self.made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.homes)

    def __len__(self) -> int:
        return len(self.homes)


def _make(name: str, module: str) -> Any:
    """Import a command and build what parses its options."""
    app = typer.Typer(rich_markup_mode="markdown")
    import_module(module).add_to(app)
    examples_last(app)
    return typer.main.get_group(app).commands[name]


_SUMMARIES = {
    "demo": "Run a small grid on made images, and score a new pair.",
    "check": "Look for what would spoil the figures: copies, a leaking split.",
    "vectorize": "Vectorize images; what the store holds is not computed again.",
    "finetune": "Train the last stages of a network on your training pairs.",
    "grid": "Measure every (vectorizer, projection, merge, head).",
    "report": "Write report.html of a grid, and show its matrix in any metric.",
    "compare": "Say which cells changed between two runs by more than chance.",
    "score": "Say how likely two images match, by a bundle.",
    "explain": "Show which parts of two images carry their score.",
    "rank": "Order images by how much they look like a query.",
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


_MARK = "**Examples**"


def examples_last(app: typer.Typer) -> None:
    r"""Move the examples of all docstrings below the options.

    There they are seen, and some versions of Typer would join their lines elsewhere.

    Examples
    --------
    >>> app = typer.Typer()
    >>> @app.command()
    ... def greet() -> None:
    ...     '''Say hello.
    ...
    ...     **Examples**
    ...
    ...         greet
    ...     '''
    >>> examples_last(app)
    >>> app.registered_commands[0].help, app.registered_commands[0].epilog
    ('Say hello.', '\n**Examples**\n\n    greet')
    """
    for command in app.registered_commands:
        text = inspect.getdoc(command.callback) or ""
        told, mark, examples = text.partition(_MARK)
        if mark:
            command.help = told.strip()
            # An empty line first: Typer takes the indent off what follows the first.
            command.epilog = f"\n{mark}{examples}".rstrip()
    for group in app.registered_groups:
        if group.typer_instance is not None:
            examples_last(group.typer_instance)
