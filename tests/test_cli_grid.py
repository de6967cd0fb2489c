"""The commands grid and report, as a user meets them."""

from __future__ import annotations

import csv
import shutil
import tomllib
from pathlib import Path

import pytest
from conftest import Run, write_image

from tllboost.bundle import read_manifest

COSINE = ("-c", "cosine", "--quiet")


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """Twelve groups of three views, named as INRIA Holidays names its files."""
    folder = tmp_path / "views"
    folder.mkdir()
    for group in range(12):
        for view in range(3):
            size = (90 + 2 * view, 80)
            path = folder / f"{1000 + group}{view:02d}.jpg"
            write_image(path, seed=group, size=size)
    return folder


def table_of(
    tll: Path, out: Path, *, n_rows: int, wrong_line: int | None = None
) -> Path:
    lines = (tll / "pairs.csv").read_text().splitlines()[: n_rows + 1]
    if wrong_line:
        lines[wrong_line - 1] = "aaa,not-there"
    out.write_text("\n".join(lines) + "\n")
    return out


def test_grid_reads_groups_by_a_pattern_and_prints_the_matrix(
    run: Run, groups: Path, tmp_path: Path
) -> None:
    done = run(
        *("grid", groups, "--groups", r"^(\d{4})", "-m", "l1", "-c", "logistic"),
        *("--protocol", "kfold", "--folds", "3", "--out", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    assert "classic l1" in done.stdout
    assert "*" in done.stdout
    assert "computed" in done.stderr
    shown = run("bundle", "show", tmp_path / "out" / "best.tllb").stdout
    assert "fitted       on all " in shown


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "n", "pattern"),
    [("dvd-covers", 30, "folder"), ("ukbench", 56, r"^(\d{4})")],
)
def test_grid_runs_on_real_groups(
    run: Run, shared: Path, tmp_path: Path, folder: str, n: int, pattern: str
) -> None:
    net = f"onnx:{shared / 'weights' / 'squeezenet1_1.onnx'}"
    (tmp_path / folder).mkdir()
    for one in sorted((shared / "data" / folder).iterdir())[:n]:
        (tmp_path / folder / one.name).symlink_to(one)
    done = run(
        *("grid", tmp_path / folder, "--groups", pattern, "-v", net),
        *("--protocol", "kfold", *COSINE, "--out", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    chance = 1 / float(row["n_candidates"])
    assert float(row["top1_low"]) > 2 * chance


@pytest.mark.shared
def test_a_wrong_id_names_file_line_and_value(
    run: Run, tll: Path, tmp_path: Path
) -> None:
    pairs = table_of(tll, tmp_path / "pairs.csv", n_rows=40, wrong_line=17)
    sides = ("--left", tll / "left", "--right", tll / "right")
    done = run("grid", pairs, *sides, *COSINE, "--out", tmp_path / "out")
    assert done.returncode == 3
    assert f"{pairs}:17" in done.stderr
    assert "'not-there'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.shared
def test_a_truncated_image_is_reported_once_and_the_rest_goes_on(
    run: Run, tll: Path, tmp_path: Path
) -> None:
    pairs = table_of(tll, tmp_path / "pairs.csv", n_rows=30)
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
    for line in pairs.read_text().splitlines()[1:]:
        for side, name in zip(("left", "right"), line.split(","), strict=True):
            shutil.copy(tll / side / f"{name}.jpg", tmp_path / side)
    bad = next((tmp_path / "left").iterdir())
    bad.write_bytes(bad.read_bytes()[:900])
    sides = ("--left", tmp_path / "left", "--right", tmp_path / "right")
    done = run("grid", pairs, *sides, *COSINE, "--out", tmp_path / "out")
    assert done.returncode == 4
    with (tmp_path / "out" / "failures.csv").open(newline="") as file:
        (failure,) = csv.DictReader(file)
    assert failure["where"] == str(bad)
    assert "truncated" in failure["why"]
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("{pairs}", "--images", "{folder}/none"), 3, "no such folder"),
        (("{folder}/none.csv", "--images", "{folder}"), 3, "no such file"),
        (("{pairs}", "--left", "{folder}"), 2, "right"),
        (("{pairs}", "--images", "{folder}", "-c", "logistc"), 2, "did you mean"),
        (("{pairs}", "--images", "{folder}", "-m", "dott"), 2, "did you mean"),
        (("{pairs}", "--images", "{folder}", "-v", "clasic"), 2, "did you mean"),
        (("{pairs}", "--images", "{folder}", "--protocol", "x"), 2, "holdout"),
        (("{pairs}", "--images", "{folder}", "--metric", "x"), 2, "top2"),
        (("{folder}", "--images", "{folder}"), 2, "--groups"),
        (("{pairs}", "--images", "{folder}", "--config", "{folder}/x"), 3, "read"),
        (("{pairs}", "--images", "{folder}", "-v", "onnx:none.onnx"), 3, "none.onnx"),
    ],
)
def test_bad_input_is_one_line_and_its_exit_code(
    run: Run,
    groups: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    pairs = tmp_path / "pairs.csv"
    rows = [f"{1000 + g}00,{1000 + g}01" for g in range(12)]
    pairs.write_text("\n".join(["left,right", *rows]))
    filled = [a.format(pairs=pairs, folder=groups) for a in arguments]
    done = run("grid", *filled, "--out", tmp_path / "out")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "results.csv").exists()


def test_run_toml_runs_again_to_the_same_matrix(
    run: Run, groups: Path, tmp_path: Path
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    made = run(
        *("grid", groups, "--groups", r"^(\d{4})", "-v", "pixels", "-m", "l1"),
        *("-c", "naive-bayes", "--protocol", "kfold", "--folds", "3", "--seeds", "2"),
        *("--out", first, "--no-refit"),
    )
    assert made.returncode == 0, made.stderr
    done = run("grid", "--config", first / "run.toml", "--out", again, "--quiet")
    assert done.returncode == 0, done.stderr
    for name in ("matrix.csv", "splits.csv"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    settings = tomllib.loads((first / "run.toml").read_text())
    assert settings["seeds"] == 2
    assert settings["run"]["protocol"]["n_folds"] == 3
    for out in (first, again):
        assert read_manifest(out / "best.tllb")["refitted"] is None


def test_an_unknown_key_in_the_config_names_the_known_ones(
    run: Run, tmp_path: Path
) -> None:
    config = tmp_path / "grid.toml"
    config.write_text('vectoriser = ["classic"]\n')
    done = run("grid", "--config", config)
    assert done.returncode == 2
    assert "did you mean 'vectorizer'" in done.stderr


def test_report_shows_another_metric_of_a_finished_run(
    run: Run, groups: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    pixels = ("-v", "pixels", *COSINE, "--out", out)
    run("grid", groups, "--groups", r"^(\d{4})", *pixels)
    shown = run("report", out, "--metric", "mrr", "--format", "csv")
    assert shown.returncode == 0
    assert 0 < float(shown.table[0]["cosine"]) <= 1
    assert "roc_auc" in run("report", out, "--metric", "roc_auc").stdout
    refused = run("report", tmp_path)
    assert refused.returncode == 3
    assert "no finished run" in refused.stderr
