"""``make audit``: what it says, and its exit code, with and without an index."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "audit.py"


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, **how: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": []} | how


BUG = {"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}
ABSENT = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("found", "said", "code"),
    [
        (
            [package("a"), ABSENT],
            ["1 packages looked up, 1 not in the list; 0 known vulnerabilities."],
            0,
        ),
        (
            [package("a", vulns=[BUG]), package("b")],
            [
                "a 1.0: PYSEC-1, fixed in 1.1, 2.0",
                "2 packages looked up, 0 not in the list; 1 known vulnerabilities.",
            ],
            1,
        ),
        (
            [ABSENT],
            [
                "Not audited: the list knows none of 1 packages; run make audit with "
                "the package index."
            ],
            3,
        ),
    ],
)
def test_an_audit_is_told_in_lines_and_an_exit_code(
    audit: ModuleType, found: list[dict[str, Any]], said: list[str], code: int
) -> None:
    assert audit.report(found) == (said, code)


def test_where_nothing_can_be_looked_up_it_is_one_line_and_3(tmp_path: Path) -> None:
    # Whether pip-audit is there or not: this index can't be reached by anybody.
    code = (
        "import os, runpy, sys\n"
        "os.environ |= {\n"
        "    'HTTPS_PROXY': 'http://127.0.0.1:9', 'PIP_INDEX_URL': 'http://127.0.0.1:9'}\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 3, done.stdout
    assert done.stdout.startswith("Not audited: ")
    assert len(done.stdout.splitlines()) == 1
