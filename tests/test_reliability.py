"""Counting what tests did, and the page that quotes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reliability import COUNTED, VARIABLE, count, totals

TESTS = Path(__file__).resolve().parent
COUNTING = """
from reliability import count

def test_a():
    count("kills survived", 3)

def test_b():
    count("kills survived")
    count("wrong results served", 0)
"""


def test_only_known_names_are_counted() -> None:
    with pytest.raises(ValueError, match="'kils survived' is not counted"):
        count("kils survived")


def test_counts_of_all_processes_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "test_counting.py").write_text(COUNTING, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(
        "from reliability import VARIABLE, write_counts\n"
        "import os\n"
        "def pytest_sessionfinish():\n"
        "    worker = os.environ.get('PYTEST_XDIST_WORKER', 'alone')\n"
        "    write_counts(os.environ[VARIABLE], worker)\n",
        encoding="utf-8",
    )
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        VARIABLE: str(tmp_path / "counts"),
        "PYTHONPATH": str(TESTS),
    }
    quiet = ["-q", "-p", "no:cacheprovider", "-n", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, "test_counting.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found = totals(tmp_path / "counts")
    assert found == dict.fromkeys(COUNTED, 0) | {"kills survived": 4}
