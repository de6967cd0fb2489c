"""The script behind `make mutants`: what it changes, and what its page rests on."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    file = ROOT / "benchmarks" / "mutants.py"
    spec = importlib.util.spec_from_file_location("mutants", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


def test_a_mutant_is_the_module_with_one_place_changed(mutants: ModuleType) -> None:
    path = ROOT / "tllboost" / "calibration.py"
    source = path.read_bytes()
    found = mutants.mutants_of(path)
    assert len(found) > 50
    for one in found:
        ast.parse(source[: one.start] + one.new.encode() + source[one.end :])
    assert len({(one.start, one.end, one.new) for one in found}) == len(found)
    assert all(one.key.startswith("calibration.py: ") for one in found)


def test_the_tests_of_every_module_are_there(mutants: ModuleType) -> None:
    assert {path.name for path in mutants.modules()} >= {"metrics.py", "sets.py"}
    for tests in mutants.TESTS.values():
        for name in tests.split():
            assert (ROOT / "tests" / f"test_{name}.py").is_file()
    for glob in " ".join(mutants.TESTS).split():
        assert [*(ROOT / "tllboost").glob(glob)], glob


def test_the_page_counts_by_module_and_names_what_is_alive(mutants: ModuleType) -> None:
    found = mutants.mutants_of(ROOT / "tllboost" / "calibration.py")
    (one, why), *_ = mutants.read_known().items()
    same = found[0]._replace(module=one.partition(":")[0], key=one)
    told = {"killed": found[:3], "alive": found[3:4], "equivalent": [same]}
    page = mutants.page(told, "5 drawn")
    assert "| `calibration.py` | 3 | 1 | 0 | 75% |\n" in page
    assert "| **all** | 3 | 1 | 1 | 75% |\n\n## Alive\n" in page
    assert f"- `{found[3].key}`\n\n" in page
    assert page.endswith(f"- `{one}`: {why}\n")


def test_what_is_said_to_be_equivalent_can_still_be_drawn(mutants: ModuleType) -> None:
    known = mutants.read_known()
    named = {key.partition(":")[0] for key in known}
    paths = [ROOT / "tllboost" / name for name in named]
    assert {*known} <= {one.key for path in paths for one in mutants.mutants_of(path)}
