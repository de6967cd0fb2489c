"""Every command explains itself, teaches by example, and stands in the README."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tllboost.cli.app import app

README = Path(__file__).resolve().parents[1] / "README.md"


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command that does something, by its full name."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word in command.commands:
        inner = command.get_command(None, word)
        yield from leaves(inner, f"{name} {word}".strip())


COMMANDS = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself(name: str) -> None:
    text = f"{COMMANDS[name].help}\n{COMMANDS[name].epilog or ''}"
    assert len(COMMANDS[name].help.splitlines()[0]) > 20
    assert re.search(rf"(?m)^ +tllboost {name}\b", text), text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    for parameter in COMMANDS[name].params:
        told = getattr(parameter, "help", None)
        assert told, f"{parameter.name} of {name}"
        assert len(told) > 9, f"{parameter.name} of {name}: {told!r}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme(name: str) -> None:
    assert f"tllboost {name}" in README.read_text(encoding="utf-8")
