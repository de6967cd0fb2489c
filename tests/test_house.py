"""The house stays small: modules, code, rooms and the way of one pair table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def house(*options: str) -> dict[str, Any]:
    script = ROOT / "benchmarks" / "house.py"
    done = subprocess.run(
        [sys.executable, script, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return house()


@pytest.mark.parametrize(
    ("name", "most"),
    [("modules", 140), ("code_lines", 17_500), ("rooms", 34), ("floors", 15)],
)
def test_the_house_keeps_within_its_limits(
    figures: dict[str, Any], name: str, most: int
) -> None:
    assert 0 < figures[name] <= most


def test_no_modules_import_each_other(figures: dict[str, Any]) -> None:
    assert figures["cycles"] == []


def test_a_pair_table_goes_no_longer_way_than_it_went() -> None:
    """Half of what it was at first: 475 functions, 102 modules, 1,854 changes."""
    found = house("--follow")
    assert found["functions"] <= 237
    assert found["modules"] <= 51
    assert found["changes_of_module"] <= 832


def test_a_cycle_and_its_lines_are_found(tmp_path: Path) -> None:
    package = tmp_path / "small"
    package.mkdir()
    (package / "__init__.py").write_text('"""Two that need each other."""\n')
    (package / "one.py").write_text('"""One."""\n\nfrom small.two import b\n\na = b\n')
    (package / "two.py").write_text(
        '"""Two."""\n\n\ndef b():\n    """Why."""\n\n    # a comment\n'
        "    from small.one import a\n\n    return a\n"
    )
    found = house(str(package))
    assert found["cycles"] == [["small.one", "small.two"]]
    assert (found["modules"], found["code_lines"], found["rooms"]) == (3, 5, 2)
