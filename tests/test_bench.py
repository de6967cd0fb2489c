"""How figures of speed are taken, and the page that quotes them."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tllboost.demo import make_scenes

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
RESULTS = BENCHMARKS.parent / "results" / "bench"
GPUS_OF_AMD = "HIP_VISIBLE_DEVICES"


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


def test_what_the_machine_bounds_is_shown_beside_it_without_a_bar() -> None:
    bench, page = load("bench"), load("bench_page")
    runs: list[str] = []

    def work(who: str, seconds: float) -> None:
        runs.append(who)
        time.sleep(seconds)

    record = bench.compare(
        *("product", lambda: work("ours", 0.004), lambda: time.sleep(0.002)),
        check=lambda a, b: None,
        runs=2,
        bounds=[bench.Bound("bare", "GFLOP/s", 2.0, lambda: work("bare", 0.002))],
        folder=None,
    )
    (bound,) = record["bounds"]
    assert runs[-4:] == ["ours", "bare", "bare", "ours"]
    assert bound["bound"]["max"] <= 2.0 / 0.002
    assert bound["ours"]["max"] <= 2.0 / 0.004
    assert 0 < bound["share"]["min"] <= bound["share"]["max"]
    text = page.page([record])
    assert "| product |  | its bound | " in text
    assert "| product | bare | " in text
    assert "GFLOP/s" in text
    assert "NOT" not in text


def test_a_limit_below_the_bare_work_is_shown_beside_its_bound() -> None:
    bench, page = load("bench"), load("bench_page")
    bound = bench.Bound("bare", "steps/s", 1.0, lambda: time.sleep(0.01))

    def limited(at_most: float, **more: Any) -> str:
        record = bench.limit(
            *("steps", lambda: time.sleep(0.06)),
            at_most=at_most,
            runs=2,
            bounds=[bound],
            profile="all of it is sleep",
            folder=None,
            **more,
        )
        return str(page.page([record]))

    beyond = limited(0.005)
    assert "its bound alone takes 0.0" in beyond
    assert "NOT" not in beyond
    assert "- steps: all of it is sleep" in beyond
    assert "**NOT reached**" in limited(0.03)  # which the bare work does reach
    assert "**NOT reached**" in limited(0.005, memory_at_most_mb=-1.0)
    assert "its bound alone" not in limited(1.0)


def test_a_short_work_is_repeated_and_its_mean_taken() -> None:
    bench = load("bench")
    runs: list[int] = []

    def work() -> int:
        runs.append(1)
        time.sleep(0.001)
        return len(runs)

    result, cost = bench.timed(work, least=0.03)
    assert result == len(runs) >= 2
    assert 0.001 <= cost["wall"] <= 0.03


def test_results_take_no_fewer_pairs_than_five(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = load("bench")
    monkeypatch.setattr(sys, "argv", ["bench_rank.py", "--runs", "4"])
    with pytest.raises(SystemExit):
        bench.options("")
    assert "takes 5 pairs or more" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["x", "--runs", "4", "--out", str(tmp_path)])
    assert bench.options("").runs == 4
    compared = [r for r in load("bench_page").read_records(RESULTS) if "ratio" in r]
    assert compared
    assert all(len(record["pairs"]) >= 5 for record in compared)


def test_time_and_memory_of_children_count() -> None:
    bench = load("bench")
    burn = (
        # Memory is looked at once in twenty times as long as a look takes.
        "import time; end = time.process_time() + 1.5\n"
        "block = b'x' * (64 << 20)\n"
        "while time.process_time() < end: pass\n"
    )
    command = [sys.executable, "-c", burn]
    _, cost = bench.timed(lambda: subprocess.run(command, check=True))
    assert cost["cpu"] > 1.45
    peak = bench.peak_memory(lambda: subprocess.run(command, check=True))
    assert 50 < peak < 500


def test_phases_of_a_grid_add_up_to_what_it_takes(tmp_path: Path) -> None:
    bench, phases = load("bench"), load("phases")
    make_scenes(tmp_path / "images", n_scenes=40, n_views=2)
    words = [
        *("grid", tmp_path / "images", "--groups", "^(.*)_[0-9]", "-v", "pixels"),
        *("-m", "dot", "-c", "naive-bayes", "--store", "STORE", "--out", "OUT", "-q"),
    ]
    found, cost = bench.timed(lambda: phases.phases(words))
    assert phases.START in found
    assert {*found} >= {name for of in phases.PHASES.values() for name in of.values()}
    assert phases.CELLS in found
    wall, cpu = (sum(one) for one in zip(*found.values(), strict=True))
    assert wall == pytest.approx(cost["wall"], rel=0.1)
    assert 0.5 * cost["cpu"] < cpu < 1.1 * cost["cpu"]
    assert all(min(one) >= 0 for one in found.values())
    assert "cells " in phases.as_text(found)


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
@pytest.mark.parametrize(
    "name",
    [
        *("bench_many_images", "bench_pocket", "bench_rank", "bench_similar"),
        "bench_vectorize",
    ],
)
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


def test_the_first_ten_lines_say_what_a_user_gains() -> None:
    page = load("bench_page")
    records = page.read_records(RESULTS)
    first = page.page(records).splitlines()[:10]
    assert sum(line.startswith("- ") for line in first) >= 5
    grid = next(record for record in records if record["name"] == "grid")
    (line,) = (line for line in first if "a notebook" in line)
    assert f"{grid['ratio']['median']:.3g} × as fast" in line
    assert grid["what"] in line
    slower = grid | {"ratio": {"min": 1.0, "median": 1.5, "max": 2.0}}
    assert "1.5 × as fast as a notebook" in page.gains([slower])[0]
    without = page.page([record for record in records if record["name"] != "grid"])
    assert not any("as a notebook" in line for line in without.splitlines()[:10])


def test_the_gpu_script_measures_vectorizing_fine_tuning_and_every_projection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu, page = load("gpu"), load("bench_page")
    for name, few in (("PAIRS", 1), ("EPOCHS", 1), ("SIDE", 64), ("N_LEARNT", 24)):
        monkeypatch.setattr(gpu, name, few)
    words = ["--device", "cpu", "--images", "8", "--out", str(tmp_path)]
    code = gpu.main([*words, "--networks", "timm:test_efficientnet"])
    (record,) = page.read_records(tmp_path)
    rows = {row["what"].partition(",")[0]: row for row in record["rows"]}
    named = ["`infonce`", "`triplet`", "`contrastive`", "`siamese-cnn`", "`finetune`"]
    assert all(any(what.startswith(name) for what in rows) for name in named)
    assert any(what.startswith("`vectorize`") for what in rows)
    # On the CPU itself float32 is the same; how bfloat16 rounds is the machine's.
    exact = [row for row in record["rows"] if row["within"] != 1e-2]
    assert all(row["apart"] <= 1e-4 for row in exact)
    rounded = [row for row in record["rows"] if row["within"] == 1e-2]
    assert all(0 < row["apart"] < 0.1 for row in rounded)
    assert code == (page.reached(record) is False)
    text = page.page([record])
    assert (
        "| `finetune` of `timm:test_efficientnet`, 1 epochs; then its vectors" in text
    )
    assert "Not measured" not in text


def test_without_a_gpu_the_script_says_so_and_writes_nothing(tmp_path: Path) -> None:
    hidden = os.environ | dict.fromkeys(("CUDA_VISIBLE_DEVICES", GPUS_OF_AMD), "")
    command = [sys.executable, BENCHMARKS / "gpu.py", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=hidden)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no GPU: torch sees none here")
    assert not list(tmp_path.iterdir())


def test_the_page_is_that_of_the_records() -> None:
    page = load("bench_page")
    records = page.read_records(RESULTS)
    assert records
    expected = page.page(records)
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == expected
