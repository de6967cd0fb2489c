"""Write docs/commands.md: every command and option, as ``--help`` tells them.

Run it as ``python benchmarks/commands_page.py``.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "commands.md"

# Typer's own, whose words change with its version.
_COMPLETION = {
    "install_completion": "Let this shell complete commands, options and names.",
    "show_completion": "Print what --install-completion would install.",
}
EXIT_CODES = {
    0: "all well",
    1: "a bug of ours: please report it",
    2: "wrong usage: an option or a name",
    3: "bad input: a table, an image, weights, a split that leaks",
    4: "partly done: some images or cells failed, the rest is written",
    5: "a bundle or a store failed verification",
    130: "interrupted; run it again to go on",
}
_VALUES = {"Path": "PATH", "str": "TEXT", "int": "N", "float": "X"}


def page() -> str:
    """Return the whole page."""
    found = dict(leaves(root()))
    lines = [
        "# Commands",
        "",
        "Every command and every option. `tllboost COMMAND --help` says the same.",
        "`tllboost list` prints the names that options take.",
        "",
        *(
            f"- [`tllboost {name}`](#tllboost-{name.replace(' ', '-')})"
            for name in found
        ),
        "",
        "Before a command, `tllboost` itself takes:",
        "",
        *options(root()),
        "",
        "All commands take `--help`, or `-h`. Data goes to standard output, progress",
        "and messages to standard error.",
        "",
        "## Exit codes",
        "",
        "| code | meaning |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()),
    ]
    for name, command in found.items():
        lines += ["", *section(name, command)]
    made = "Written by `python benchmarks/commands_page.py`."
    return "\n".join([*lines, "", made, ""])


def root() -> Any:
    """Return the whole command line, as Typer builds it."""
    import typer

    from tllboost.cli.app import app

    return typer.main.get_command(app)


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command that does something, by its full name."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word in command.commands:
        inner = command.get_command(None, word)
        yield from leaves(inner, f"{name} {word}".strip())


def section(name: str, command: Any) -> list[str]:
    """Return what is to be said of one command."""
    text = (
        f"{inspect.cleandoc(command.help)}\n\n{inspect.cleandoc(command.epilog or '')}"
    )
    return [
        f"## tllboost {name}",
        "",
        f"    {usage(name, command)}",
        "",
        *_fenced(text.strip()),
        "",
        *options(command),
    ]


def usage(name: str, command: Any) -> str:
    """Return the line of usage: arguments that may be left out in brackets."""
    words = [f"tllboost {name}", "[OPTIONS]"]
    for one in command.params:
        if one.param_type_name == "argument":
            word = _argument(one) + ("..." if one.nargs == -1 else "")
            words.append(word if one.required else f"[{word}]")
    return " ".join(words)


def options(command: Any) -> list[str]:
    """Return the table of arguments and options."""
    kinds = kinds_of(command)
    rows = [_row(one, kinds.get(one.name, bool)) for one in command.params]
    return ["| option | what |", "|---|---|", *rows]


def kinds_of(command: Any) -> dict[str, Any]:
    """Return what each option of a command takes: a type, or a list of one."""
    kinds = {}
    for name, one in inspect.signature(command.callback).parameters.items():
        kind = one.annotation
        if typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            parts = typing.get_args(kind)
            kind = next(part for part in parts if part is not type(None))
        kinds[name] = kind
    return kinds


def _row(one: Any, kind: Any) -> str:
    if one.param_type_name == "argument":
        spelled = _argument(one)
    else:
        value = "" if one.is_flag else f" {one.metavar or _value(kind)}"
        spelled = "`, `".join([*one.opts, *one.secondary_opts]) + value
    return f"| `{_cell(spelled)}` | {_cell(_told(one, kind))} |"


def _told(one: Any, kind: Any) -> str:
    """Return the help of an option, its values, default and variable."""
    told = [_COMPLETION.get(one.name, one.help)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        told.append("One of " + ", ".join(f"`{each.value}`" for each in kind) + ".")
    if one.param_type_name == "option" and not one.is_flag:
        shown = one.default.value if isinstance(one.default, Enum) else one.default
        if shown is not None and not callable(shown) and shown != ():
            told.append(f"Default: `{shown}`.")
        if one.required:
            told.append("Required.")
    if one.envvar:
        told.append(f"Variable: `{one.envvar}`.")
    return " ".join(told)


def _argument(one: Any) -> str:
    return str(one.metavar or one.name).strip("{}[]").upper()


def _value(kind: Any) -> str:
    """Return the word for what an option takes."""
    kind = (*typing.get_args(kind), kind)[0]  # what a list is of
    if isinstance(kind, str) or (isinstance(kind, type) and issubclass(kind, Enum)):
        return "NAME"  # one of a few
    return _VALUES.get(getattr(kind, "__name__", ""), "VALUE")


def _fenced(text: str) -> list[str]:
    """Return help in Markdown, its examples as blocks of shell."""
    lines: list[str] = []
    for part in re.split(r"\n\s*\n", text):
        if part.startswith("    "):
            shell = textwrap.dedent(part).splitlines()
            if lines[-2:] == ["```", ""]:  # goes on with the block before
                del lines[-2:]
                lines += [*shell, "```", ""]
            else:
                lines += ["```sh", *shell, "```", ""]
        else:
            lines += [*part.splitlines(), ""]
    return lines[:-1]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
