"""What a command must not wait for: libraries that it has no use for."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from tllboost.cli.app import Root, app

MODELS = {"torch", "xgboost", "sklearn", "timm", "open_clip", "onnxruntime", "skimage"}
HEAVY = MODELS | {"scipy", "pandas", "matplotlib", "safetensors", "mlflow"}


def imported(*words: str) -> set[str]:
    """Run a command in a process of its own; return what it has imported."""
    code = (
        "import sys\n"
        "from tllboost.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"]])
def test_help_imports_typer_and_little_else(words: list[str]) -> None:
    found = imported(*words)
    assert not found & {*HEAVY, "numpy", "PIL", "rich"}
    commands = {home.module for home in Root.homes.values()}
    assert not found & commands


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["score", "--help"]])
def test_names_and_options_are_told_without_a_model_library(words: list[str]) -> None:
    assert not imported(*words) & HEAVY


def test_the_list_of_commands_fits_80_columns_and_each_is_there() -> None:
    group = typer.main.get_group(app)
    for name, home in Root.homes.items():
        assert len(home.summary) + 13 <= 78, name
        assert group.commands[name].name == name
        assert len(group.commands[name].help) > 20


def test_no_word_at_all_shows_the_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tllboost"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "vectorize  " in done.stdout
    assert done.stderr == ""
