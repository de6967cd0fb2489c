"""Examples at the end of every ``--help``, each on a line of its own."""

from __future__ import annotations

import inspect

import typer

__all__ = ["examples_last"]

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
