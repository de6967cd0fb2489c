"""The package's public names, and the ways to start it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tllboost

ROOT = Path(__file__).resolve().parents[1]


def test_public_names_are_sorted_and_unique() -> None:
    assert tllboost.__all__ == sorted(set(tllboost.__all__))


@pytest.mark.parametrize("name", tllboost.__all__)
def test_public_names_exist_and_are_listed(name: str) -> None:
    assert getattr(tllboost, name) is not None
    assert name in dir(tllboost)


@pytest.mark.parametrize(
    "name", [name for name in tllboost.__all__ if name != "__version__"]
)
def test_public_names_explain_themselves(name: str) -> None:
    assert len(getattr(tllboost, name).__doc__) > 80


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="'tllboost' has no attribute 'no_such'"):
        _ = tllboost.no_such


def test_the_version_is_that_of_the_project_file_and_of_the_citation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert tllboost.__version__ == project["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {tllboost.__version__}" in citation


@pytest.mark.parametrize("start", [["-m", "tllboost"], ["cli.py"]], ids=" ".join)
def test_module_and_checkout_shim_start_the_command(start: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *start, "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"tllboost {tllboost.__version__}\n"
