"""The learned axis on the command line: -p, recipes, ensembles, hard negatives."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, write_image
from planted_grid import write_planted

QUIET = ("--quiet", "-j", "1")
QUICK = "epochs=3&components=6"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def base(folder: Path, tmp_path: Path) -> tuple[object, ...]:
    """Return the beginning of every command: pairs, vectors, where to put results."""
    vectors = f"vectors:{folder / 'planted.npz'}"
    return ("grid", folder / "pairs.csv", "-v", vectors, "--out", tmp_path / "out")


def results(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def recipe(folder: Path, path: Path, text: str = "") -> Path:
    """Write a recipe with an alias and two named cells."""
    path.write_text(
        f"""
pairs = "{folder / "pairs.csv"}"
merge = ["dot"]
head = ["cosine", "logistic"]
seeds = 2
ensemble = 2
vectorizer = ["mine"]

[alias]
mine = "vectors:{folder / "planted.npz"}"
"mine+other" = "vectors:{folder / "planted.npz"}+vectors:{folder / "other.npz"}"

[[cell]]
name = "A1"
vectorizer = "mine"
projection = "triplet?{QUICK}"
head = "cosine"

[[cell]]
name = "A8, side by side"
vectorizer = "mine+other"
projection = "contrastive?{QUICK}"
head = "joined"
"""
        + text
    )
    return path


def refused(run: Run, *arguments: object, code: int = 2) -> str:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


# --- -p


def test_projections_are_rows_of_the_printed_matrix(
    run: Run, base: tuple[object, ...], tmp_path: Path
) -> None:
    done = run(
        *(*base, "-p", "none", "-p", f"infonce?{QUICK}", "-p", "triplet?epochs=2"),
        *("-m", "dot", "-c", "logistic", "-j", "1"),
    )
    assert done.returncode == 0, done.stderr
    assert "triplet?epochs=2" in done.stdout
    rows = results(tmp_path / "out")
    assert [(row["projection"], row["head"]) for row in rows] == [
        ("none", "cosine"),
        ("none", "logistic"),
        (f"infonce?{QUICK}", "cosine"),
        (f"infonce?{QUICK}", "logistic"),
        ("triplet?epochs=2", "cosine"),
        ("triplet?epochs=2", "logistic"),
    ]


def test_the_second_run_says_what_is_finished(
    run: Run, base: tuple[object, ...]
) -> None:
    command = (*base, "-p", f"infonce?{QUICK}", "-c", "cosine", "-j", "1")
    assert "finished already" not in run(*command).stderr
    assert "2 of 2 cells are finished already" in run(*command, "--resume").stderr


def test_a_projection_that_fails_is_told_with_exit_code_4(
    run: Run, base: tuple[object, ...], tmp_path: Path
) -> None:
    easy = "triplet?margin=1e-06&negatives=semi-hard"
    done = run(*base, "-p", easy, "-p", f"infonce?{QUICK}", "-c", "cosine", "-j", "1")
    assert done.returncode == 4
    (line,) = [line for line in done.stderr.splitlines() if "failed:" in line]
    assert easy in line
    assert "no triplet" in line
    assert [row["status"] for row in results(tmp_path / "out")] == [
        *("ok", "failed", "ok")
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-p", "finetune"), "goes with none of the vectorizers"),
        (("-p", "infonec"), "did you mean 'infonce'"),
        (("-p", "infonce?x=1"), "unknown option 'x'"),
        (("-p", "infonce", "-p", "infonce"), "given twice"),
        (("-p", "infonce", "-c", "joined"), "-p contrastive"),
        (("-c", "cosine", "--ensemble", "2"), "from 0 to 1, the number of cells"),
        (("--hard-negatives", "6"), "n_hard"),
        (("--negatives", "2", "--hard-negatives", "3"), "n_hard"),
        (
            ("--hard-negatives", "-1"),
            "'--hard-negatives': must be at least 0: see tllboost grid --help",
        ),
    ],
)
def test_what_goes_with_nothing_is_one_line_and_writes_nothing(
    run: Run,
    base: tuple[object, ...],
    tmp_path: Path,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    assert said in refused(run, *base, *arguments, *QUIET)
    assert not (tmp_path / "out").exists()


def test_hard_negatives_are_told_in_the_protocol_of_the_run(
    run: Run, base: tuple[object, ...], tmp_path: Path
) -> None:
    command = (*base, "-m", "dot", "-c", "logistic", *QUIET)
    done = run(*command, "--hard-negatives", 2)
    assert done.returncode == 0, done.stderr
    settings = tomllib.loads((tmp_path / "out" / "run.toml").read_text())
    assert settings["run"]["protocol"]["n_hard"] == 2
    assert settings["hard_negatives"] == 2
    assert "another protocol" in refused(run, *command, "--resume")


def test_list_names_every_projection(run: Run) -> None:
    shown = run("list", "projections").stdout
    for name in ("none", "infonce", "triplet", "contrastive", "siamese-cnn"):
        assert f"{name} " in shown
    assert "finetune" in shown


# --- recipes


def test_a_recipe_names_its_cells_and_runs_again_from_run_toml(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    config = recipe(folder, tmp_path / "recipe.toml")
    first, again = tmp_path / "first", tmp_path / "again"
    done = run("grid", "--config", config, "--out", first, *QUIET)
    assert done.returncode == 0, done.stderr
    found = {row["name"]: row for row in results(first) if row["name"]}
    assert set(found) == {"A1", "A8, side by side"}
    assert found["A1"]["vectorizer"] == "mine"
    assert found["A8, side by side"]["vectorizer"] == "mine+other"
    assert (first / "ensemble.tllb").is_file()

    done = run("grid", "--config", first / "run.toml", "--out", again, *QUIET)
    assert done.returncode == 0, done.stderr
    for name in ("matrix.csv", "splits.csv"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    names = [(row["name"], row["top2"]) for row in results(first)]
    assert names == [(row["name"], row["top2"]) for row in results(again)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[cell]]\nname = "x"\nvectoriser = "mine"', "unknown key 'vectoriser'"),
        ('[[cell]]\nname = "x"\nvectorizer = "mine"', "it has no head"),
        (
            '[[cell]]\nname = "A1"\nvectorizer = "mine"\nhead = "cosine"',
            "the name 'A1'",
        ),
        ('[[cell]]\nname = "x"\nvectorizer = 1\nhead = "cosine"', "vectorizer = 1"),
        ('[[cell]]\nname = ""\nvectorizer = "mine"\nhead = "cosine"', "name = ''"),
    ],
)
def test_a_wrong_cell_is_told_by_file_number_and_key(
    run: Run, folder: Path, tmp_path: Path, text: str, said: str
) -> None:
    config = recipe(folder, tmp_path / "recipe.toml", text)
    line = refused(run, "grid", "--config", config, "--out", tmp_path / "out")
    assert f"{config}: cell number 3: " in line
    assert said in line
    assert len(line) < 300 + len(str(config))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alais = 1", "did you mean 'alias'"),
        ("cell = 1", "[[cell]]"),
        ("[cell]\nname = 'x'", "[[cell]]"),
        ("cell = ['x']", "cell number 1: 'x' must be a table"),
        ("[alias]\nx = 1", "[alias]"),
        ("ensemble = -1", "ensemble = -1: must be at least 0"),
        ("hard_negatives = 1.5", "whole number"),
        ("projection = 1", "text, or a list of text"),
    ],
)
def test_a_wrong_key_is_told_by_file_and_key(
    run: Run, tmp_path: Path, text: str, said: str
) -> None:
    config = tmp_path / "wrong.toml"
    config.write_text(text)
    line = refused(run, "grid", "--config", config)
    assert str(config) in line
    assert said in line


# --- networks that a hub has, and this machine has not


def test_a_network_that_can_not_be_had_is_failed_rows_and_the_rest_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "hub"))
    images = tmp_path / "images"
    images.mkdir()
    for number in range(12):
        for side in "ab":
            write_image(images / f"{side}{number:02d}.jpg", seed=number)
    pairs = tmp_path / "pairs.csv"
    rows = [f"a{number:02d},b{number:02d}" for number in range(12)]
    pairs.write_text("\n".join(["left,right", *rows]))
    config = tmp_path / "recipe.toml"
    config.write_text(
        """
[alias]
RN50 = "clip:RN50:openai"

[[cell]]
name = "A1 RN50"
vectorizer = "RN50"
projection = "triplet"
head = "cosine"

[[cell]]
name = "A9 RN50"
vectorizer = "RN50"
projection = "finetune"
head = "cosine"
"""
    )
    done = run(
        *("grid", pairs, "--images", images, "-v", "classic", "-c", "cosine"),
        *("--config", config, "--offline", "--out", tmp_path / "out", "-j", "1"),
    )
    assert done.returncode == 4, done.stderr
    found = results(tmp_path / "out")
    assert [(row["vectorizer"], row["name"], row["status"]) for row in found] == [
        ("classic", "", "ok"),
        ("RN50", "", "failed"),
        ("RN50", "A1 RN50", "failed"),
        ("RN50", "A9 RN50", "failed"),
    ]
    assert all("offline" in row["error"] for row in found[1:])
    assert "RN50: left out: " in done.stderr
    assert (tmp_path / "out" / "best.tllb").is_file()
    only = run(
        *("grid", pairs, "--images", images, "-v", "clip:RN50:openai", *QUIET),
        *("-c", "cosine", "--offline", "--out", tmp_path / "none"),
    )
    assert only.returncode == 3
    assert len(only.stderr.splitlines()) == 1
    assert not (tmp_path / "none").exists()


# --- ensembles


def test_an_ensemble_is_a_row_and_a_bundle_that_scores_new_pairs(
    run: Run, base: tuple[object, ...], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run(
        *(*base, "-p", "none", "-p", f"infonce?{QUICK}", "-m", "dot"),
        *("-c", "logistic", "-c", "naive-bayes", "--ensemble", 3, *QUIET),
    )
    assert done.returncode == 0, done.stderr
    assert "best-3" in done.stdout
    row = results(out)[-1]
    assert (row["vectorizer"], row["head"]) == ("ensemble", "best-3")
    assert row["status"] == "ok"
    shown = run("bundle", "show", out / "ensemble.tllb")
    assert shown.returncode == 0, shown.stderr

    new = tmp_path / "new.csv"
    new.write_text("left,right\na000,b000\na000,b001\n")
    weights = ("--weights", folder / "planted.npz")
    scored = run("score", out / "ensemble.tllb", "--pairs", new, *weights)
    assert scored.returncode == 0, scored.stderr
    probability = [float(one["probability"]) for one in scored.table]
    assert np.isfinite(probability).all()
    assert len(probability) == 2
    verified = run("bundle", "verify", out / "ensemble.tllb")
    assert verified.returncode == 0, verified.stderr


def test_the_summary_names_what_was_chosen_on_validation(
    run: Run, base: tuple[object, ...], tmp_path: Path
) -> None:
    done = run(*base, "-p", f"infonce?{QUICK}", "-c", "cosine", "-j", "1")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["chosen_on_validation"]["projection"] in ("none", f"infonce?{QUICK}")
    assert "chosen on validation" in done.stderr
    assert "what choosing on validation gave: top2 " in done.stderr
