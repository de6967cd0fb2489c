"""Commands that are imported when they are run, so that help comes at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperGroup

__all__ = ["Home", "LazyGroup"]


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
    from tllboost.cli.examples import examples_last

    app = typer.Typer(rich_markup_mode="markdown")
    import_module(module).add_to(app)
    examples_last(app)
    return typer.main.get_group(app).commands[name]
