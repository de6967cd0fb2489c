"""What the README shows is what there is: commands, options, the Python example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from guides import blocks_of, parse_command, shell_lines

from tllboost import errors

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL_LINES = shell_lines(TEXT)
COMMAND_LINES = [line for line in SHELL_LINES if line.startswith("tllboost ")]
EXAMPLES = [one.text for one in blocks_of(TEXT) if one.kind == "python"]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_readme_commands_and_their_options_exist(line: str) -> None:
    parse_command(line)


def test_readme_shows_no_other_shell_lines_than_make() -> None:
    others = set(SHELL_LINES) - set(COMMAND_LINES)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert others
    for line in others:
        make, target, *_ = line.split()
        assert make == "make"
        assert re.search(rf"(?m)^{target}:", makefile), line


@pytest.mark.parametrize("example", EXAMPLES)
def test_readme_python_example_runs(example: str, tmp_path: Path) -> None:
    checks = "\nassert probability.shape == (10,)\nassert len(ranking) == 10\n"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", example + checks],
        cwd=tmp_path,
        env={"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=120,
    )


def test_readme_lists_the_exit_code_of_every_error() -> None:
    table = TEXT.partition("## Exit codes")[2]
    listed = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", table)}
    found = [getattr(errors, name) for name in errors.__all__ if name != "printable"]
    raised = {one.exit_code for one in found}
    assert raised | {0, 4, 130} == listed


def test_readme_links_to_files_that_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / target).exists(), target
