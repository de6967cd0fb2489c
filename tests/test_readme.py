"""What the README shows is what there is: commands, options, the Python example."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from guides import blocks_of, parse_command, shell_lines

from tllboost import errors

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL_LINES = shell_lines(TEXT)
COMMAND_LINES = [line for line in SHELL_LINES if line.startswith("tllboost ")]
BLOB = "https://github.com/tllboost/tllboost/blob/main/"
RAW = "https://raw.githubusercontent.com/tllboost/tllboost/main/"
EXAMPLES = [one.text for one in blocks_of(TEXT) if one.kind == "python"]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_readme_commands_and_their_options_exist(line: str) -> None:
    parse_command(line)


def test_readme_shows_no_other_shell_lines_than_make() -> None:
    others = set(SHELL_LINES) - set(COMMAND_LINES)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert others
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    for line in others:
        make, target, *_ = line.split()
        if line.startswith("pip install "):
            _, _, wanted = shlex.split(line)
            asked = wanted.removeprefix(".").strip("[]")
            assert wanted.startswith(".")
            assert set(filter(None, asked.split(","))) <= set(extras)
            continue
        assert make == "make"
        assert re.search(rf"(?m)^{target}:", makefile), line


@pytest.mark.parametrize("example", EXAMPLES)
def test_readme_python_example_runs(example: str, tmp_path: Path) -> None:
    checks = "\nassert probability.shape == (10,)\nassert len(ranking) == 10\n"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", example + checks],
        cwd=tmp_path,
        env={
            "TMPDIR": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        },
        check=True,
        timeout=120,
    )


def test_the_page_of_commands_lists_the_exit_code_of_every_error() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    table = text.partition("## Exit codes")[2].partition("\n## ")[0]
    listed = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", table)}
    raised = {
        one.exit_code for one in vars(errors).values() if hasattr(one, "exit_code")
    }
    assert raised | {0, 4, 130} == listed


def test_readme_is_short_and_its_links_lead_to_files_wherever_it_is_shown() -> None:
    """A package index shows it too: no link there leads into a checkout."""
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    assert len(targets) > 20
    assert len(TEXT.splitlines()) <= 200  # what is longer is a guide
    for target in targets:
        place = re.fullmatch(rf"({BLOB}|{RAW})([^#]+)(#.*)?", target)
        assert place is not None, target
        assert (ROOT / place[2]).exists(), target
        assert (place[1] == RAW) == (Path(place[2]).suffix == ".png"), target
