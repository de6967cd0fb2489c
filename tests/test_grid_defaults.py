"""What a grid tries where nobody says it: --quick, the default and --full."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from killed_work import make_image_pairs

from tllboost.grid.cells import RECIPES, plan_cells
from tllboost.report import read_run

NAMES = ("vectorizer", "projection", "merge", "head", "ensemble")


def printed(run: Run, *given: Any) -> dict[str, Any]:
    done = run("grid", *given, "--print-config")
    assert done.returncode == 0, done.stderr
    return tomllib.loads(done.stdout)


@pytest.mark.parametrize(
    ("flags", "recipe"),
    [((), "default"), (("--quick",), "quick"), (("--full",), "full")],
)
def test_a_grid_that_is_told_nothing_tries_a_recipe(
    flags: tuple[str, ...], recipe: str, run: Run
) -> None:
    found = printed(run, *flags)
    assert {name: found[name] for name in NAMES} == RECIPES[recipe]


def test_each_recipe_has_the_cells_of_the_one_before() -> None:
    quick, usual, full = (
        set(
            plan_cells(
                *(one[kind] for kind in ("vectorizer", "merge", "head")),
                one["projection"],
            )
        )
        for one in (RECIPES[name] for name in ("quick", "default", "full"))
    )
    assert quick < usual < full


def test_vectorizers_of_ones_own_are_tried_by_the_recipe(run: Run) -> None:
    found = printed(run, "-v", "pixels", "--ensemble", 0)
    assert found["vectorizer"] == ["pixels"]
    assert found["ensemble"] == 0
    assert found["projection"] == RECIPES["default"]["projection"]


@pytest.mark.parametrize("given", [("-p", "none"), ("-m", "dot"), ("-c", "cosine")])
def test_names_of_ones_own_take_the_place_of_the_recipe(
    given: tuple[str, str], run: Run
) -> None:
    found = printed(run, *given)
    assert found["projection"] == ["none"]
    assert found["ensemble"] == 0
    assert found["merge"] in (["dot"], ["dot", "cosdot", "l1", "l2"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--quick", "--full"), "--quick and --full: give one of the two"),
        (("--full", "-c", "mlp"), "--full says what is tried: leave it out, or --head"),
        (
            ("--quick", "-p", "none", "-m", "l1"),
            "--quick says what is tried: leave it out, or --projection, --merge",
        ),
    ],
)
def test_a_recipe_beside_names_is_refused(
    given: tuple[str, ...], told: str, run: Run
) -> None:
    done = run("grid", *given, "--print-config")
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_recipe_ends_with_commands_that_go_further(run: Run, tmp_path: Path) -> None:
    pairs = make_image_pairs(tmp_path)
    out = tmp_path / "my results"
    done = run(
        *("grid", pairs, "--images", tmp_path, "--quick", "--out", out),
        *("--store", tmp_path / "store", "--no-report", "--no-refit"),
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("stronger"))
    further = [
        re.fullmatch(r"  \d+ min: tllboost (.*)", one) for one in lines[begin + 1 :]
    ]
    words = [shlex.split(one[1]) for one in further if one]
    assert len(words) == 4
    assert all("--resume" in one or str(out) not in one for one in words)
    for one in words:  # each is understood
        one[one.index("--out") + 1] = str(tmp_path / "other")
        told = run(*(word for word in one if word != "--resume"), "--print-config")
        assert told.returncode == 0, told.stderr
    (asked,) = (one for one in words if "--seeds" in one)
    assert asked[:4] == ["grid", str(pairs), "--images", str(tmp_path)]
    assert {cell.vectorizer for cell in read_run(out).cells} >= {"classic", "pocket"}


def test_names_of_ones_own_end_without_advice(run: Run, tmp_path: Path) -> None:
    pairs = make_image_pairs(tmp_path)
    done = run(
        *("grid", pairs, "--images", tmp_path, "-v", "pixels", "-c", "cosine"),
        *("--out", tmp_path / "out", "--store", tmp_path / "store", "--no-report"),
    )
    assert done.returncode == 0, done.stderr
    assert "stronger" not in done.stderr


def test_the_default_recipe_runs_on_a_vectorizer_of_ones_own(
    run: Run, tmp_path: Path
) -> None:
    pairs = make_image_pairs(tmp_path)
    done = run(
        *("grid", pairs, "--images", tmp_path, "-v", "pocket", "--negatives", 4),
        *("--out", tmp_path / "out", "--store", tmp_path / "store", "--no-report"),
    )
    assert done.returncode == 0, done.stderr
    further = [line for line in done.stderr.splitlines() if " min: tllboost" in line]
    full, seeds, clip, tuned = map(shlex.split, further)
    for one in (full, seeds, clip, tuned):  # what was typed, but for what is changed
        assert one[one.index("--negatives") + 1] == "4"
        assert ("pocket" in one) == (one in (full, seeds))
    rows = read_run(tmp_path / "out").rows()
    tried = RECIPES["default"]
    for name in ("projection", "merge", "head"):
        assert {row[name] for row in rows} >= set(tried[name])
    assert [r["head"] for r in rows if r["vectorizer"] == "ensemble"] == ["best-5"]
    assert {row["status"] for row in rows} == {"ok"}
    scored = run(
        *("score", tmp_path / "out" / "ensemble.tllb"),
        *(tmp_path / "l0.png", tmp_path / "r0.png"),
    )
    assert scored.returncode == 0, scored.stderr
