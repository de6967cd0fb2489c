"""How figures of speed are taken, and the page that quotes them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
RESULTS = BENCHMARKS.parent / "results" / "bench"


def load(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def same(ours: Any, peer: Any) -> None:
    assert ours == peer, "not the same work"


def test_a_comparison_records_ratios_of_pairs_of_runs(tmp_path: Path) -> None:
    def work(seconds: float) -> int:
        time.sleep(seconds)
        return 1

    bench = load("bench")
    bench.compare(
        "sleep",
        lambda: work(0.01),
        lambda: work(0.05),
        check=same,
        runs=3,
        bar=2,
        memory=True,
        folder=tmp_path,
    )
    record = json.loads((tmp_path / "sleep.json").read_text())
    assert len(record["pairs"]) == 3
    ratio = record["ratio"]
    assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
    assert ratio["median"] > 1  # five times as long, whatever else the machine does
    assert record["machine"]["cores"] >= 1
    assert set(record["peak_mb"]) == {"ours", "peer"}
    page = load("bench_page").page([record])
    assert "≥ 2 ×" in page
    assert page.count("reached") == 1


def test_work_that_is_not_the_same_is_not_recorded(tmp_path: Path) -> None:
    bench = load("bench")
    for warm_up in (True, False):
        with pytest.raises(AssertionError, match="not the same work"):
            bench.compare(
                "two",
                lambda: 1,
                lambda: 2,
                check=same,
                runs=1,
                warm_up=warm_up,
                folder=tmp_path,
            )
    assert not list(tmp_path.iterdir())


def test_a_bar_that_is_missed_is_shown_with_its_profile() -> None:
    bench, page = load("bench"), load("bench_page")
    record = bench.compare(
        *("slow", lambda: time.sleep(0.02), lambda: time.sleep(0.01)),
        check=same,
        runs=1,
        bar=3,
        profile="all of it is sleep",
        folder=None,
    )
    text = page.page([record])
    assert "**NOT reached**" in text
    assert "- slow: all of it is sleep" in text
    at_most = page.page([record | {"bar": 1 / 6}])
    assert "at most 6 × its time" in at_most
    assert "NOT" not in at_most


def test_time_and_memory_of_children_count() -> None:
    bench = load("bench")
    burn = (
        "import time; end = time.process_time() + 0.3\n"
        "block = b'x' * (64 << 20)\n"
        "while time.process_time() < end: pass\n"
    )
    command = [sys.executable, "-c", burn]
    _, cost = bench.timed(lambda: subprocess.run(command, check=True))
    assert cost["cpu"] > 0.25
    peak = bench.peak_memory(lambda: subprocess.run(command, check=True))
    assert 50 < peak < 500


def test_limits_and_curves_stand_on_the_page() -> None:
    bench, page = load("bench"), load("bench_page")
    fast = bench.limit("fast", lambda: None, at_most=1, runs=2, folder=None)
    grown = bench.curve(
        "grown", ["pairs", "seconds"], [[1, 2], [4, 8], [16, 32]], folder=None
    )
    text = page.page([fast, grown])
    assert "| 1 s |" in text
    assert "| exponent | 1.00 |" in text


@pytest.mark.filterwarnings("default")  # what other libraries warn of is theirs
@pytest.mark.parametrize("name", ["bench_pocket", "bench_rank", "bench_vectorize"])
def test_scripts_run_with_tiny_sizes(
    name: str,
    shared_or_made: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--quick", "--out", str(tmp_path)])
    load(name).main()
    page = load("bench_page")
    records = page.read_records(tmp_path)
    assert records
    assert page.page(records)


def test_the_page_is_that_of_the_records() -> None:
    page = load("bench_page")
    records = page.read_records(RESULTS)
    assert records
    expected = page.page(records)
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == expected
