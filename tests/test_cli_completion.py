"""Shells complete commands, options and the names that options take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tllboost.heads import HEADS
from tllboost.metrics import METRICS
from tllboost.splits import PROTOCOLS

COMMAND = (sys.executable, "-m", "tllboost")
HEAVY = ("sklearn", "torch", "xgboost", "timm", "open_clip", "onnxruntime", "skimage")


CODE = f"""
import os, sys
from tllboost.cli import main
for line in sys.stdin.read().splitlines():
    words = line.split(" ")
    os.environ |= {{"COMP_WORDS": "\\n".join(words), "COMP_CWORD": str(len(words) - 1)}}
    try:
        main()
    except SystemExit:
        heavy = [name for name in {HEAVY} if name in sys.modules]
        assert not heavy, (line, heavy)
    print("\\0", end="")
"""


def complete(lines: list[str]) -> list[str]:
    """Ask as bash does, of each line: the words, and which of them is being typed."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "_TLLBOOST_COMPLETE": "complete_bash"},
    )
    assert done.stderr == ""
    return done.stdout.split("\0")[:-1]


LINES: dict[str, set[str]] = {
    "tllboost gr": {"grid"},
    "tllboost store ": {"info", "verify", "prune"},
    "tllboost grid --print": {"--print-config"},
    "tllboost grid -c ": set(HEADS),
    "tllboost grid -c xg": {"xgboost", "xgboost-rank"},
    "tllboost grid -m cos": {"cosdot"},
    "tllboost grid -p tri": {"triplet"},
    "tllboost grid -v pix": {"pixels"},
    "tllboost grid -v poc": {"pocket"},
    "tllboost vectorize x -v onn": {"onnx:"},
    "tllboost grid --protocol ": set(PROTOCOLS),
    "tllboost grid --metric ": set(METRICS),
    "tllboost list n": {"networks"},
}
NETWORKS = "tllboost grid -v timm"


@pytest.fixture(scope="module")
def completed() -> dict[str, set[str]]:
    """What one process offers, which loads no model library for any of it."""
    lines = [*LINES, NETWORKS]
    offered = (set(one.split()) for one in complete(lines))
    return dict(zip(lines, offered, strict=True))


@pytest.mark.parametrize("line", LINES)
def test_names_are_completed_without_a_model_library(
    line: str, completed: dict[str, set[str]]
) -> None:
    assert completed[line] == LINES[line]


def test_networks_are_offered_by_name(completed: dict[str, set[str]]) -> None:
    assert {"timm:", "timm:resnet50", "timm-grid:"} <= completed[NETWORKS]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_installs_itself(shell: str, tmp_path: Path) -> None:
    home = {
        **os.environ,
        "HOME": str(tmp_path),
        # Without a shell around it, the option takes the shell's name.
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    done = subprocess.run(
        [*COMMAND, "--install-completion", shell],
        capture_output=True,
        text=True,
        check=False,
        env=home,
    )
    assert done.returncode == 0, done.stderr
    assert f"{shell} completion installed" in done.stdout
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("_TLLBOOST_COMPLETE" in path.read_text() for path in written)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_with_the_installed_script(tmp_path: Path) -> None:
    tllboost = tmp_path / "tllboost"
    tllboost.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tllboost "$@"\n')
    tllboost.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    shown = subprocess.run(
        [tllboost, "--show-completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    ).stdout
    script = tmp_path / "completion.sh"
    script.write_text(shown)
    ask = (
        f"source {script}; COMP_WORDS=(tllboost grid -c xg); COMP_CWORD=3; "
        "$(complete -p tllboost | sed 's/.*-F \\([^ ]*\\).*/\\1/') tllboost xg -c; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", ask],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.split() == ["xgboost", "xgboost-rank"], done.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_completes_with_what_each_name_is(tmp_path: Path) -> None:
    tllboost = tmp_path / "tllboost"
    tllboost.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tllboost "$@"\n')
    tllboost.chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    ask = 'tllboost --show-completion fish | source; complete -C "tllboost grid -c xg"'
    done = subprocess.run(
        ["fish", "-c", ask],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    offered = dict(line.split("\t") for line in done.stdout.splitlines())
    assert set(offered) == {"xgboost", "xgboost-rank"}
    assert offered["xgboost"] == HEADS["xgboost"].description
