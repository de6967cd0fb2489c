"""A run whose files were damaged or forged: it goes on, is shown, or says why not."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from killed_work import grid_of, make_pairs
from reliability import count

from tllboost.errors import TllboostError
from tllboost.processes import Processes
from tllboost.report import write_report

COSTS = {"vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb"}
GRID: dict[str, Any] = {
    "heads": ["naive-bayes"],
    "projections": ["none", "infonce?epochs=1"],
    "backend": Processes(1),
}
DAMAGE: tuple[Callable[[bytes], bytes], ...] = (
    lambda content: content[: len(content) // 2],
    lambda content: random.Random(len(content)).randbytes(200),
)


def results_of(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in COSTS} for row in rows]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("run"), 40)


@pytest.fixture(scope="module")
def whole(pairs: Path) -> Path:
    out = pairs.parent / "whole"
    grid_of(pairs, out, **GRID)
    write_report(out)
    return out


def refusal(function: Callable[[], Any]) -> str:
    """Return what a function refuses with; nothing where it does not."""
    try:
        function()
    except TllboostError as error:
        return str(error)
    return ""


def is_one_line(said: str, out: Path) -> str:
    assert "\n" not in said
    assert not said or str(out) in said
    return said


def kinds(out: Path) -> list[Path]:
    """Return a file of each kind that a run writes."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = path.name if path.parent == out else path.parent.name
        found[name, path.suffix] = path.relative_to(out)
    return list(found.values())


def test_a_damaged_run_goes_on_to_the_same_results_or_says_why_not(
    pairs: Path, whole: Path, tmp_path: Path
) -> None:
    files = kinds(whole)
    assert len(files) >= 15
    n_right = 0
    for number, file in enumerate(files):
        out = tmp_path / str(number)
        shutil.copytree(whole, out)
        damaged = DAMAGE[number % len(DAMAGE)]((out / file).read_bytes())
        (out / file).write_bytes(damaged)
        is_one_line(refusal(partial(write_report, out)), out)
        again = partial(grid_of, pairs, out, resume=True, **GRID)
        if file.name == "run.toml":
            assert "run.toml can't be read" in is_one_line(refusal(again), out)
        else:
            result = again()
            assert result.exit_code == 0, file
            assert results_of(out) == results_of(whole), file
            n_right += 1
            count("results compared", len(result.rows))
        count("bad runs tried")
    assert n_right >= len(files) - 1


FORGED = (None, "x", [], {}, -1, float("inf"), "<script>", [[]], 10**30, True)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value in a JSON document, three of each list."""
    yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = list(enumerate(value))[:3]
    for key, inner in items:
        yield from places(inner, (*path, key))


def forged(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


@pytest.mark.parametrize("name", ["cells", "summary", "environment", "images"])
def test_a_forged_run_is_shown_without_what_is_wrong_or_refused(
    whole: Path, tmp_path: Path, name: str
) -> None:
    rng = random.Random(name)
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    pattern = "cells/*.json" if name == "cells" else f"{name}.json"
    file = sorted(out.glob(pattern))[0]
    before = file.read_text(encoding="utf-8")
    for _ in range(15):
        document = json.loads(before)
        path = rng.choice(list(places(document)))
        file.write_text(json.dumps(forged(document, path, rng.choice(FORGED))))
        is_one_line(refusal(partial(write_report, out)), out)
        count("bad runs tried")
