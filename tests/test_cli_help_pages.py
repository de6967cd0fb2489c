"""Help fits a terminal of 80 columns, and its examples are whole lines that parse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run
from rich.cells import cell_len
from test_cli_help import COMMANDS


def examples(name: str) -> list[str]:
    """Return the lines of a command's examples, as they stand in its epilog."""
    epilog = COMMANDS[name].epilog or ""
    return [line for line in epilog.splitlines() if line.startswith("    ")]


def commands(lines: list[str]) -> Iterator[str]:
    """Yield each command, its continued lines joined."""
    text = "\n".join(lines).replace("\\\n", " ")
    yield from (line for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns_and_keeps_every_example_on_its_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    done = run(*name.split(), "--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert max(map(cell_len, lines)) <= 80
    shown = {line.strip() for line in lines}
    assert examples(name)
    for line in examples(name):
        assert line.strip() in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command_that_parses(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.toml").touch()  # parsing reads the file of --config
    for line in commands(examples(name)):
        line = re.sub(r" > \S+$", "", line)
        words = shlex.split(line)
        assert " ".join(words).startswith(f"tllboost {name}"), line
        arguments = words[1 + len(name.split()) :]
        # Parsing alone: options, how many arguments, their types. Nothing is run.
        COMMANDS[name].make_context(name, arguments)
