"""Run the tests that docs/faults.txt names and write docs/reliability.md from them.

Run it as ``make reliability``. Every figure of the page was counted by the tests
themselves, see tests/reliability.py; the page is written only if all of them pass.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FAULTS = ROOT / "docs" / "faults.txt"
COUNTS = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"

sys.path.insert(0, str(ROOT / "tests"))


class Fault(NamedTuple):
    """One line of docs/faults.txt."""

    section: str
    fault: str
    test: str
    seen: str


def read_faults(path: Path = FAULTS) -> list[Fault]:
    """Return the faults; a line is ``fault | file::test | what the user sees``."""
    faults, section = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            section = line.removeprefix("# ")
        elif line.strip():
            fault, test, seen = (part.strip() for part in line.split(" | "))
            faults.append(Fault(section, fault, test, seen))
    return faults


def run_tests(faults: list[Fault], folder: Path, jobs: str) -> int:
    """Run every test that is named, each counting into `folder`."""
    tests = sorted({f"tests/{one.test}" for one in faults})
    kills = os.environ.get("TLLBOOST_KILLS", "50")
    own = {"TLLBOOST_RELIABILITY": str(folder), "TLLBOOST_KILLS": kills}
    environment = {**os.environ, **own}
    command = [sys.executable, "-m", "pytest", "-q", "-n", jobs, *tests]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def page(faults: list[Fault], counts: dict[str, int]) -> str:
    """Return the whole page."""
    from reliability import COUNTED

    lines = [
        "# What can go wrong, and what happens then",
        "",
        "tllboost trusts no image, table, store, bundle or file of weights. It expects",
        "full disks and processes that die at any moment. Each row names a fault, what",
        "the user sees, and the test that causes it. `make test` runs them all.",
        "`make fuzz` feeds the readers many more damaged files, and `make audit` looks",
        "up known vulnerabilities of the installed libraries.",
        "",
        "Exit codes: 2 a wrong option, 3 bad input, 4 partly done, 5 a store or bundle",
        "that must not be used, 130 interrupted.",
        "",
        "## What the tests count",
        "",
        "| what | how many | |",
        "|---|---:|---|",
        *(f"| {name} | {counts[name]:,} | {COUNTED[name]} |" for name in counts),
    ]
    for section in dict.fromkeys(one.section for one in faults):
        lines += ["", f"## {section}", "", "| fault | what the user sees | test |"]
        lines += ["|---|---|---|"]
        lines += [
            f"| {one.fault} | {one.seen} | `{one.test}` |"
            for one in faults
            if one.section == section
        ]
    made = "Written by `make reliability` from `docs/faults.txt` and those tests."
    return "\n".join([*lines, "", made, ""])


def main() -> int:
    """Run the tests, count, and write the page."""
    from reliability import totals

    faults = read_faults()
    with tempfile.TemporaryDirectory() as folder:
        code = run_tests(faults, Path(folder), os.environ.get("JOBS", "2"))
        if code:
            print("A test failed: docs/reliability.md stays as it was.")
            return code
        counts = totals(folder)
    COUNTS.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(faults, counts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
