"""Imports point one way, and the quick commands import no big library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIG = {"onnxruntime", "open_clip", "skimage", "sklearn", "timm", "torch", "xgboost"}

LOADED_BY_COMMAND = """
import json, sys
from tllboost.cli import main
sys.argv = ["tllboost", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit as leaving:
    assert not leaving.code, leaving.code
sys.stderr.write(json.dumps(sorted(sys.modules)))
"""


def test_modules_import_only_from_lower_layers() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_importing_tllboost_imports_next_to_nothing() -> None:
    code = "import json, sys, tllboost; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stdout))
    assert not loaded & {*BIG, "numpy", "PIL", "typer"}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["grid", "--help"], ["list"], ["store", "--help"]],
    ids=" ".join,
)
def test_quick_commands_import_no_big_library(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED_BY_COMMAND, json.dumps(arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert not loaded & BIG
    if arguments != ["list"]:
        assert "numpy" not in loaded
