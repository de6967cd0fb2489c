"""Two runs cell by cell: pairing, verdicts, and what else differs is told."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from killed_work import make_image_pairs
from makers import record
from recorded_runs import COSINE, DOT, L1, write_run

from tllboost import read_pairs, run_grid
from tllboost.errors import DataError, UsageError
from tllboost.files import write_json
from tllboost.grid.cells import Cell
from tllboost.grid.outputs import write_csv
from tllboost.processes import Processes
from tllboost.report.compare import Change, compare_runs
from tllboost.report.run import read_table
from tllboost.splits import Protocol


def runs(
    tmp_path: Path, before: list[Any], after: list[Any], **changed: Any
) -> tuple[Path, Path]:
    one = write_run(tmp_path / "before", before)
    return one, write_run(tmp_path / "after", after, **changed)


def verdicts(changes: list[Change]) -> dict[Cell, str]:
    return {change.cell: change.verdict for change in changes}


def test_a_paired_difference_sees_what_the_intervals_hide(tmp_path: Path) -> None:
    before = [record(COSINE, 0.5), record(DOT, 0.5), record(L1, 0.5)]
    after = [record(COSINE, 0.51), record(DOT, 0.49), record(L1, 0.5)]
    found = compare_runs(*runs(tmp_path, before, after))
    assert found.method == "paired"
    assert verdicts(found.changes) == {COSINE: "better", DOT: "worse", L1: "same"}
    first = found.changes[0]
    assert (first.before, first.after) == pytest.approx((0.5, 0.51))
    told = (first.difference, first.low, first.high)
    assert told == pytest.approx((0.01,) * 3)
    assert found.counts == {"better": 1, "worse": 1, "same": 1}
    assert found.notes == []


@pytest.mark.parametrize(
    ("changed", "method", "note"),
    [
        ({"protocol": Protocol(n_negatives=9)}, "paired", "n_negatives 5 → 9"),
        (
            {"protocol": Protocol(n_distractors=9)},
            "independent",
            "n_distractors 19 → 9",
        ),
        ({"protocol": Protocol("kfold")}, "independent", "name holdout → kfold"),
        ({"data": "d2"}, "independent", "the data differs"),
        ({"tables_only": True}, "independent", ""),
        ({"alias": {"a": "classic"}}, "paired", ""),
    ],
)
def test_runs_are_paired_where_their_test_pairs_are_the_same(
    changed: dict[str, Any], method: str, note: str, tmp_path: Path
) -> None:
    folders = runs(tmp_path, [record(DOT, 0.5)], [record(DOT, 0.53)], **changed)
    found = compare_runs(*folders)
    assert found.method == method
    assert note in "\n".join(found.notes)
    assert bool(found.notes) == bool(note)
    paired = method == "paired"
    assert verdicts(found.changes) == {DOT: "better" if paired else "same"}


def test_without_pairing_both_spreads_count(tmp_path: Path) -> None:
    made = [record(DOT, 0.5, spread=0.03)], [record(DOT, 0.6, spread=0.04, shared=1)]
    wide = compare_runs(*runs(tmp_path, *made, data="d2")).changes[0]
    # Widths of independent noises add as squares: 0.05 by Pythagoras.
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * 0.05, rel=0.1)
    assert wide.difference == pytest.approx(0.1)
    shutil.rmtree(tmp_path / "before" / "cells")
    tables = compare_runs(tmp_path / "before", tmp_path / "after")
    assert tables.method == "independent"
    (change,) = tables.changes
    assert change.low == pytest.approx(wide.low, abs=0.01)
    assert change.high == pytest.approx(wide.high, abs=0.01)


def test_of_uneven_intervals_the_ends_that_face_each_other_count(
    tmp_path: Path,
) -> None:
    folders = runs(tmp_path, [record(DOT, 0.5)], [record(DOT, 0.6)])
    for folder, ends in zip(folders, [(0.4, 0.52), (0.57, 0.68)], strict=True):
        shutil.rmtree(folder / "cells")  # tables alone are left
        (row,) = read_table(folder / "results.csv")
        row |= dict(zip(("top2_low", "top2_high"), ends, strict=True))
        write_csv(folder / "results.csv", list(row), [list(row.values())])
    (change,) = compare_runs(*folders).changes
    # By hand: 0.57 may be 0.03 too high and 0.52 0.02 too low, 0.68 0.08, 0.4 0.10.
    assert change.low == pytest.approx(0.1 - math.hypot(0.03, 0.02))
    assert change.high == pytest.approx(0.1 + math.hypot(0.08, 0.10))


def test_runs_of_data_that_nobody_knows_are_not_paired(tmp_path: Path) -> None:
    folders = runs(tmp_path, [record(DOT, 0.5)], [record(DOT, 0.53)])
    assert compare_runs(*folders).method == "paired"
    for folder in folders:
        (folder / "run.toml").unlink()
    found = compare_runs(*folders)
    assert found.method == "independent"
    assert "it is unknown whether the data is the same" in found.notes[0]


@pytest.mark.parametrize("tables_only", [False, True])
@pytest.mark.parametrize("metric", ["brier", "ece"])
def test_lower_is_better_where_it_is(
    metric: str, tables_only: bool, tmp_path: Path
) -> None:
    made = [record(DOT, 0.5), record(L1, 0.2)], [record(DOT, 0.3), record(L1, 0.4)]
    folders = runs(tmp_path, *made, tables_only=tables_only)
    found = compare_runs(*folders, metric)
    assert verdicts(found.changes) == {DOT: "better", L1: "worse"}
    for change in found.changes:
        assert change.low <= change.difference <= change.high
        assert change.difference == pytest.approx(change.after - change.before)


def test_paired_seeds_are_those_that_both_runs_have(tmp_path: Path) -> None:
    before = [record(DOT, 0.5, seed=seed) for seed in (0, 1)]
    after = [record(DOT, 0.6, seed=1), record(DOT, 0.9, seed=2)]
    found = compare_runs(*runs(tmp_path, before, after))
    assert found.method == "paired"
    assert found.changes[0].difference == pytest.approx(0.1)
    assert found.changes[0].after == pytest.approx(0.6)
    assert found.notes == ["the seeds differ: 2 before, 2 after, in both seed 1"]


def test_figures_of_several_seeds_are_their_mean(tmp_path: Path) -> None:
    before = [record(DOT, value, seed=seed) for seed, value in enumerate((0.4, 0.6))]
    after = [record(DOT, value, seed=seed) for seed, value in enumerate((0.6, 0.9))]
    (change,) = compare_runs(*runs(tmp_path, before, after)).changes
    assert (change.before, change.after) == pytest.approx((0.5, 0.75))
    assert change.difference == pytest.approx(0.25)


def test_no_seed_in_both_is_no_pair(tmp_path: Path) -> None:
    made = [record(DOT, 0.5)], [record(DOT, 0.6, seed=1)]
    found = compare_runs(*runs(tmp_path, *made))
    assert found.method == "independent"
    assert "none in both" in found.notes[0]


def test_cells_that_failed_or_are_in_one_run_say_so(tmp_path: Path) -> None:
    lost = {"status": "failed", "error": "no memory"}
    mlp = Cell("classic", "none", "dot", "mlp")
    new = Cell("classic", "none", "l2", "mlp")
    before = [record(COSINE, 0.2), record(DOT, 0.2), record(L1, 0.2, **lost)]
    before += [record(mlp, 0.2, **lost), record(new, 0.2)]
    after = [record(DOT, 0.2, **lost), record(L1, 0.3), record(mlp, 0.2, **lost)]
    after += [record(new, math.nan), record(Cell("x", "none", "none", "cosine"), 0.2)]
    after[3]["resampled"]["top2"] = [math.nan] * 500
    found = compare_runs(*runs(tmp_path, before, after))
    assert sorted(verdicts(found.changes).values()) == [
        *("failed", "failed after", "failed before", "no figure"),
        *("only after", "only before"),
    ]
    by_cell = {change.cell: change for change in found.changes}
    assert by_cell[DOT].verdict == "failed after"
    assert by_cell[DOT].why == "no memory"
    assert by_cell[COSINE].verdict == "only before"
    assert {c.cell for c in found.changes if c.changed} == {L1, DOT}
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_largest_difference_comes_first(tmp_path: Path) -> None:
    before = [record(cell, 0.5) for cell in (COSINE, DOT, L1)]
    after = [record(COSINE, 0.52), record(DOT, 0.4), record(L1, 0.5)]
    found = compare_runs(*runs(tmp_path, before, after))
    assert [change.cell for change in found.changes] == [DOT, COSINE, L1]


def test_chance_is_counted_over_the_cells_that_moved(tmp_path: Path) -> None:
    cells = [Cell("classic", "none", "dot", f"m:{n}") for n in range(40)]
    before = [record(cell, 0.5) for cell in (COSINE, *cells)]
    after = [record(COSINE, 0.5)]
    after += [record(cell, 0.5, shared=n + 1) for n, cell in enumerate(cells)]
    found = compare_runs(*runs(tmp_path, before, after))
    assert found.expected_by_chance == pytest.approx(2)
    assert found.counts["same"] >= 36


def test_a_short_name_of_another_network_and_other_versions_are_told(
    tmp_path: Path,
) -> None:
    one = write_run(tmp_path / "a", [record(DOT, 0.5)], alias={"net": "onnx:a"})
    two = write_run(tmp_path / "b", [record(DOT, 0.5)], alias={"net": "onnx:b"})
    write_json(two / "environment.json", {"versions": {"numpy": "2.2"}})
    notes = compare_runs(one, two, "mrr").notes
    assert notes[:2] == [f"{run} shows top2; compared in mrr" for run in (one, two)]
    assert notes[2].endswith("another vectorizer: net onnx:a → onnx:b")
    assert notes[3] == "versions differ: numpy 2.1 → 2.2"


def test_tables_alone_are_enough(tmp_path: Path) -> None:
    one, two = runs(tmp_path, [record(DOT, 0.5)], [record(DOT, 0.7)])
    for run in (one, two):
        for path in run.iterdir():
            if path.name != "results.csv":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = compare_runs(one, two)
    assert found.method == "independent"
    assert verdicts(found.changes) == {DOT: "better"}
    assert "it is unknown whether the data is the same" in found.notes[0]


@pytest.mark.parametrize("damage", ["{", "[]", '{"cells": 3}', '{"cells": [3]}'])
def test_a_damaged_summary_leaves_the_tables(damage: str, tmp_path: Path) -> None:
    one, two = runs(tmp_path, [record(DOT, 0.5)], [record(DOT, 0.7)])
    (two / "summary.json").write_text(damage)
    found = compare_runs(one, two)
    assert (found.method, found.counts) == ("independent", {"better": 1})


@pytest.mark.parametrize("key", ["cell", "seed", "figures", "resampled", "status"])
@pytest.mark.parametrize("value", [None, "no table"])
def test_a_damaged_record_leaves_the_tables(
    key: str, value: Any, tmp_path: Path
) -> None:
    one, two = runs(tmp_path, [record(DOT, 0.5)], [record(DOT, 0.7)])
    edit(two, lambda kept: kept | {key: value})
    found = compare_runs(one, two)
    assert (found.method, found.counts) == ("independent", {"better": 1})


def edit(run: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the one record of a run."""
    (path,) = (run / "cells").iterdir()
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize("table", ["figures", "resampled"])
def test_a_metric_that_an_older_record_lacks_has_no_figure(
    table: str, tmp_path: Path
) -> None:
    one, two = runs(tmp_path, [record(DOT, 0.5)], [record(DOT, 0.7)])
    edit(one, lambda kept: kept | {table: {"mrr": kept[table]["mrr"]}})
    assert compare_runs(one, two).counts == {"no figure": 1}
    found = compare_runs(one, two, "mrr")
    assert (found.method, found.counts) == ("paired", {"better": 1})


def test_another_number_of_resamples_is_not_paired_and_still_compared(
    tmp_path: Path,
) -> None:
    one, two = runs(tmp_path, [record(DOT, 0.5)], [record(DOT, 0.7)])
    (wide,) = compare_runs(one, two).changes
    edit(
        two, lambda kept: kept | {"resampled": {"top2": kept["resampled"]["top2"][:99]}}
    )
    (change,) = compare_runs(one, two).changes
    assert change.verdict == "better"
    assert change.high - change.low > wide.high - wide.low


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no finished run is here"),
        ("", "holds no cell"),
        ("vectorizer,head\na,b\n", "not the results of a grid"),
        ("a\0b", "not the results of a grid|holds no cell"),
    ],
)
def test_a_folder_of_no_run_is_named(
    text: str | None, reason: str, tmp_path: Path
) -> None:
    one = write_run(tmp_path / "before", [record(DOT, 0.5)])
    two = tmp_path / "after"
    two.mkdir()
    if text is not None:
        (two / "results.csv").write_text(text)
    with pytest.raises(DataError, match=reason) as caught:
        compare_runs(one, two)
    assert str(two) in str(caught.value)
    with pytest.raises(UsageError, match="unknown metric 'top3': known: top1"):
        compare_runs(one, one, "top3")


def one_spaced(line: str) -> str:
    return " ".join(line.split())


def test_compare_prints_what_changed_in_eighty_columns(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Cell("onnx:" + "very-long" * 12 + "[red]\x1b[31m", "none", "none", "cosine")
    before = [record(cell, 0.5) for cell in (COSINE, DOT, L1, long)]
    after = [record(COSINE, 0.5), record(DOT, 0.61), record(long, 0.4)]
    lost = {"status": "failed", "error": "no memory\nat all"}
    one, two = runs(tmp_path, before, [*after, record(L1, 0.5, **lost)])
    monkeypatch.setenv("COLUMNS", "80")
    done = run("compare", one, two)
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    figures = "0.500 0.610 +0.110 [+0.110, +0.110] better"
    assert f"classic × dot × logistic {figures}" in map(one_spaced, lines)
    assert "-0.100 [-0.100, -0.100]  worse" in done.stdout
    assert "[red]" in done.stdout
    assert "\x1b" not in done.stdout
    assert not any(line.startswith("classic × cosine") for line in lines)
    assert r"failed after: classic × l1 × logistic: no memory\nat all" in lines
    table = done.stdout.split("failed after: ")[0].splitlines()
    assert max(map(len, table)) <= 80
    assert "top2: 1 better, 1 worse, 1 same, 1 failed after" in done.stdout
    assert "classic × cosine " in run("compare", one, two, "--all").stdout


def test_compare_writes_one_document_of_json(run: Run, tmp_path: Path) -> None:
    one, two = runs(tmp_path, [record(DOT, 0.5)], [record(DOT, 0.6)], data="d2")
    found = run("compare", one, two, "--metric", "mrr", "--json").json
    assert found["method"] == "independent"
    assert found["notes"]
    (cell,) = found["cells"]
    assert (cell["head"], cell["verdict"]) == ("logistic", "better")
    assert cell["difference"] == pytest.approx(0.1)


def test_a_folder_without_a_run_ends_in_one_line(run: Run, tmp_path: Path) -> None:
    done = run("compare", tmp_path, tmp_path)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "no finished run is here" in done.stderr


def test_two_real_runs_are_paired_and_a_run_is_the_same_as_itself(
    tmp_path: Path,
) -> None:
    pairs = make_image_pairs(tmp_path)
    table = read_pairs(pairs, images=pairs.parent)
    for name, negatives in (("one", 1), ("two", 3)):
        result = run_grid(
            table,
            ["pixels"],
            merges=["l1"],
            heads=["cosine", "naive-bayes"],
            protocol=Protocol(n_negatives=negatives),
            out=tmp_path / name,
            store=tmp_path / "store",
            backend=Processes(1),
        )
        for form in ("csv", "md"):
            assert (result.out / f"matrix.{form}").stat().st_size > 50
    found = compare_runs(tmp_path / "one", tmp_path / "two")
    assert found.method == "paired"
    cosine = next(c for c in found.changes if c.cell.head == "cosine")
    assert (cosine.difference, cosine.low, cosine.high) == (0, 0, 0)
    other = next(c for c in found.changes if c.cell.head == "naive-bayes")
    after = {row["head"]: row for row in result.rows}["naive-bayes"]
    assert other.after == pytest.approx(after["top2"])
    same = compare_runs(tmp_path / "one", tmp_path / "one")
    assert set(same.counts) == {"same"}
    assert same.expected_by_chance == 0
    assert np.isfinite([c.low for c in same.changes]).all()
