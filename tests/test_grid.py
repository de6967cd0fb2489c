"""The grid from images to files: complete, resumable, honest about what failed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image

from tllboost.demo import make_scenes
from tllboost.errors import DataError, UnknownNameError, UsageError
from tllboost.files import write_vectors
from tllboost.grid.outputs import RESULT_COLUMNS
from tllboost.grid.run import run_grid
from tllboost.pairs import PairTable, read_pairs
from tllboost.splits import Protocol
from tllboost.vectorizers import make_vectorizer

COSTS = {"vectorize_s", "fit_s", "score_s", "peak_memory_mb"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(
        tmp_path_factory.mktemp("scenes"), n_scenes=60, n_views=3
    ).resolve()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def table(scenes: Path) -> PairTable:
    return read_pairs(scenes, images=scenes.parent)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_costs(path: Path) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name not in COSTS}
        for row in read_csv(path)
    ]


@pytest.fixture(scope="module")
def finished(table: PairTable, store: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("grid") / "out"
    heads = ["cosine", "logistic", "naive-bayes", "xgboost"]
    return run_grid(
        table, ["pocket"], ["dot", "l1"], heads, out=out, store=store, seeds=[0, 1]
    )


def test_a_grid_writes_every_file_that_the_documentation_names(finished) -> None:
    found = {path.name for path in finished.out.iterdir()}
    assert found >= {
        *("run.toml", "environment.json", "splits.csv", "cells", "matrix.csv"),
        *("results.csv", "failures.csv", "best.tllb"),
    }
    assert finished.exit_code == 0


def test_results_begin_with_the_promised_columns_and_have_a_row_a_cell(
    finished,
) -> None:
    rows = read_csv(finished.out / "results.csv")
    assert tuple(rows[0]) == RESULT_COLUMNS
    assert list(rows[0])[:11] == (
        [
            "vectorizer",
            "projection",
            "merge",
            "head",
            "name",
            "status",
            "top1",
            "top2",
            "top5",
            "mrr",
            "roc_auc",
        ]
    )
    assert len(rows) == 1 + 2 * 3
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["n_seeds"] for row in rows} == {"2"}


def test_every_figure_stands_inside_its_interval(finished) -> None:
    for row in finished.rows:
        for name in ("top1", "top2", "top5", "mrr", "roc_auc", "accuracy"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_the_cosine_is_one_row_gains_nothing_on_itself_and_fills_its_column(
    finished,
) -> None:
    (cosine,) = (row for row in finished.rows if row["head"] == "cosine")
    assert cosine["merge"] == "none"
    assert (cosine["gain"], cosine["gain_low"], cosine["gain_high"]) == (0, 0, 0)
    matrix = read_csv(finished.out / "matrix.csv")
    assert {row["cosine"] for row in matrix} == {f"{cosine['top2']:.4f}"}
    assert [row["merge"] for row in matrix] == ["dot", "l1"]


def test_exactly_one_cell_is_best_and_it_has_the_highest_figure(finished) -> None:
    best = [row for row in finished.rows if row["tied_with_best"] == "best"]
    assert len(best) == 1
    assert best[0]["top2"] == max(row["top2"] for row in finished.rows)


def test_what_choosing_gave_is_told_beside_the_cell_of_the_bundle(finished) -> None:
    chosen, gave = finished.chosen, finished.choosing_gave
    summary = json.loads((finished.out / "summary.json").read_text())
    assert summary["choosing_gave"] == gave
    assert summary["chosen_on_validation"]["head"] == chosen["head"]
    assert sum(gave["cells"].values()) == gave["n_choices"] == 2  # seeds
    # Cells are of the grid, and the figure is the mean of theirs.
    figures = {" × ".join([*row.values()][:4]): row["top2"] for row in finished.rows}
    assert set(gave["cells"]) <= set(figures)
    assert gave["top2_low"] <= gave["top2"] <= gave["top2_high"]
    lines = [line for line in finished.notes if f"{gave['top2']:.3f} [" in line]
    assert lines[0].startswith("what choosing on validation gave: top2 ")


def test_boosting_from_the_cosine_is_at_least_the_cosine_within_the_interval(
    finished,
) -> None:
    boosted = [row for row in finished.rows if row["head"] == "xgboost"]
    assert boosted
    for row in boosted:
        assert row["gain_high"] >= 0


def test_a_second_run_vectorizes_nothing_and_fits_nothing(
    finished, table: PairTable, store: Path
) -> None:
    before = (finished.out / "results.csv").read_bytes()
    lines: list[str] = []
    heads = ["cosine", "logistic", "naive-bayes", "xgboost"]
    again = run_grid(
        table,
        ["pocket"],
        ["dot", "l1"],
        heads,
        out=finished.out,
        store=store,
        seeds=[0, 1],
        resume=True,
        message=lines.append,
    )
    assert again.n_run == 0
    assert again.n_reused == 14
    assert any("0 vectors computed" in line for line in lines)
    assert (finished.out / "results.csv").read_bytes() == before


def test_a_head_that_fails_is_a_failed_row_and_the_rest_goes_on(
    table: PairTable, store: Path, tmp_path: Path
) -> None:
    bad = "sklearn.preprocessing:StandardScaler"
    result = run_grid(
        table, ["pocket"], ["dot"], [bad, "logistic"], out=tmp_path / "o", store=store
    )
    status = {row["head"]: row["status"] for row in result.rows}
    assert status == {"cosine": "ok", bad: "failed", "logistic": "ok"}
    assert result.exit_code == 4
    (failure,) = read_csv(tmp_path / "o" / "failures.csv")
    assert bad in failure["where"]
    assert failure["why"]
    assert "failed" in (tmp_path / "o" / "matrix.csv").read_text()


def test_a_grid_of_the_cosine_alone_writes_a_bundle(
    table: PairTable, store: Path, tmp_path: Path
) -> None:
    result = run_grid(table, ["pocket"], [], ["cosine"], out=tmp_path, store=store)
    assert result.chosen is not None
    assert (tmp_path / "best.tllb").exists()


@pytest.mark.parametrize("protocol", ["holdout", "kfold", "holidays2017"])
def test_every_protocol_runs_and_is_named_in_the_results(
    protocol: str, table: PairTable, store: Path, tmp_path: Path
) -> None:
    result = run_grid(
        table,
        ["pocket"],
        ["l1"],
        ["logistic"],
        out=tmp_path,
        store=store,
        protocol=Protocol(protocol),
    )
    assert {row["protocol"] for row in result.rows} == {protocol}
    learned = result.rows[-1]
    if protocol == "holidays2017":
        assert learned["best_of_folds"] >= 0.5
        assert any("share an image with training" in note for note in result.notes)
        assert np.isnan(learned["top2"])
        assert result.metric == "accuracy"
    else:
        assert not any("leaks" in note for note in result.notes)
        assert np.isnan(learned["best_of_folds"])
        assert learned["top2"] > 0.3


def test_a_given_split_is_taken_by_default(
    finished, table: PairTable, store: Path, tmp_path: Path
) -> None:
    rows = [r for r in read_csv(finished.out / "splits.csv") if r["seed"] == "0"]
    again = tmp_path / "split.csv"
    with again.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["left", "right", "label", "split"])
        writer.writeheader()
        writer.writerows({k: r[k] for k in writer.fieldnames} for r in rows)
    given = read_pairs(again, images=Path(table.paths[0]).parent)
    result = run_grid(
        given, ["pocket"], [], ["cosine"], out=tmp_path / "o", store=store
    )
    assert result.rows[0]["protocol"] == "given"
    tested = sum(row["split"] == "test" for row in rows)
    assert result.rows[0]["n_test_queries"] == tested


def test_other_data_in_the_same_folder_is_refused(
    finished, table: PairTable, store: Path
) -> None:
    with pytest.raises(UsageError, match=r"other pairs or images.*--overwrite"):
        run_grid(
            table.take(slice(100)),
            ["pocket"],
            [],
            ["cosine"],
            out=finished.out,
            store=store,
            resume=True,
        )


def test_a_folder_of_other_files_is_refused(
    table: PairTable, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(UsageError, match="holds other files than a run's"):
        run_grid(table, ["pocket"], [], ["cosine"], out=tmp_path, store=store)


def test_an_unknown_name_fails_before_anything_is_written(
    table: PairTable, store: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'logistic'"):
        run_grid(
            table, ["pocket"], ["dot"], ["logistc"], out=tmp_path / "o", store=store
        )
    assert not (tmp_path / "o").exists()


def test_no_seed_is_a_clear_error(table: PairTable, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be one or more"):
        run_grid(table, ["pocket"], [], ["cosine"], out=tmp_path / "o", seeds=[])


def test_too_few_pairs_are_a_clear_error(
    table: PairTable, store: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="give more pairs"):
        run_grid(
            table.take(slice(2)),
            ["pocket"],
            [],
            ["cosine"],
            out=tmp_path / "o",
            store=store,
        )


def test_a_killed_grid_goes_on_and_ends_with_the_same_results(
    scenes: Path, store: Path, run: Run, tmp_path: Path
) -> None:
    command = [
        *("grid", scenes, "--images", scenes.parent, "--store", store, "--seeds", 2),
        *("-v", "pocket", "-m", "l1", "-c", "naive-bayes", "-c", "xgboost"),
        *("--jobs", 1, "--quiet", "--out"),
    ]
    assert run(*command, tmp_path / "whole").returncode == 0

    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "tllboost", *map(str, [*command, killed])],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(killed.glob("cells/*.json")):  # the slow ones come first
        assert process.poll() is None, "the grid ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in killed.glob("cells/*.json")}
    assert not (killed / "results.csv").exists()

    assert run(*command, killed, "--resume").returncode == 0
    for path, written in before.items():
        assert path.stat().st_mtime_ns == written
    whole = tmp_path / "whole"
    assert (killed / "matrix.csv").read_bytes() == (whole / "matrix.csv").read_bytes()
    assert without_costs(killed / "results.csv") == without_costs(whole / "results.csv")
    assert not list(killed.glob("**/.*.json.*"))


@pytest.mark.shared
def test_shuffled_labels_give_chance_on_real_images(
    tll: Path, store: Path, tmp_path: Path
) -> None:
    lines = (tll / "pairs.csv").read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join(lines[:301]))
    table = read_pairs(tmp_path / "few.csv", left=tll / "left", right=tll / "right")
    order = np.random.default_rng(0).permutation(table.n_pairs)
    # Each left gets another's right: the images and all that is computed from them
    # are real, only who belongs to whom is not.
    shuffled = PairTable(
        **{**vars(table), "right": table.right[order], "source": "shuffled"}
    )
    result = run_grid(
        shuffled,
        ["pocket"],
        ["l1"],
        ["cosine", "logistic", "xgboost", "xgboost-rank", "naive-bayes"],
        out=tmp_path / "out",
        store=store,
        protocol=Protocol(test_fraction=0.4),
    )
    for row in result.rows:
        for metric, chance in (("roc_auc", 1 / 2), ("top1", 1 / 20), ("top2", 1 / 10)):
            # Half of the interval is two standard errors. Fifteen figures are asked
            # about, so three are allowed; and a head that keeps no tree ties all its
            # scores, which counts against it.
            width = (row[f"{metric}_high"] - row[f"{metric}_low"]) * 3 / 4
            assert row[metric] <= chance + width, (row["head"], metric)
            if row["roc_auc"] != 0.5:
                assert row[metric] >= chance - width, (row["head"], metric)


class Locked:
    """A vectorizer of one's own that no other process can be sent."""

    fingerprint = "locked 1"

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def transform(self, images: list[Image.Image]) -> list[np.ndarray]:
        return [np.asarray(image.resize((8, 8)), float).ravel() for image in images]


def test_a_vectorizer_that_no_process_can_be_sent_is_measured_and_in_no_bundle(
    table: PairTable, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run_grid(
        table, [make_vectorizer(Locked())], heads=["cosine"], out=out, store=store
    )
    assert [row["status"] for row in result.rows] == ["ok"]
    assert result.chosen is None
    assert not (out / "best.tllb").exists()
    (note,) = (note for note in result.notes if note.startswith("best.tllb"))
    assert "can't go to another process: cannot pickle" in note


def test_a_vectorizer_that_changed_after_its_vectors_is_in_no_bundle(
    table: PairTable, store: Path, tmp_path: Path
) -> None:
    ids = sorted(table.ids)
    rng = np.random.default_rng(0)
    file = tmp_path / "v.npz"
    write_vectors(file, ids, rng.normal(size=(len(ids), 4)).astype(np.float32))

    def change(line: str) -> None:
        if line.startswith("vectors:"):  # they are in memory by now
            write_vectors(file, ids, np.ones((len(ids), 4), dtype=np.float32))

    out = tmp_path / "out"
    result = run_grid(
        table,
        [f"vectors:{file}"],
        heads=["cosine"],
        out=out,
        store=store,
        message=change,
    )
    assert result.chosen is None
    (note,) = (note for note in result.notes if note.startswith("best.tllb"))
    assert "no longer what its vectors were made with" in note
