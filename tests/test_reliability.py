"""Counting what tests did, and the page that quotes it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

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


def page_script() -> ModuleType:
    """Return the script that writes docs/reliability.md."""
    script = TESTS.parent / "benchmarks" / "reliability_page.py"
    spec = importlib.util.spec_from_file_location("reliability_page", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_fault_names_a_test_that_there_is() -> None:
    faults = page_script().read_faults()
    assert len({one.fault for one in faults}) == len(faults) > 40
    for one in faults:
        file, _, name = one.test.partition("::")
        assert f"\ndef {name}(" in (TESTS / file).read_text(encoding="utf-8"), one.test


def test_the_page_is_what_was_counted() -> None:
    script = page_script()
    counts = json.loads(script.COUNTS.read_text(encoding="utf-8"))
    assert list(counts) == list(COUNTED)
    wanted = script.page(script.read_faults(), counts)
    assert script.PAGE.read_text(encoding="utf-8") == wanted
