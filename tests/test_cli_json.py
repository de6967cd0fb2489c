"""--json: one document on standard output, and nothing else there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import Done, Run, write_image

from tllboost.cli.streams import write_json
from tllboost.demo import make_scenes
from tllboost.vectorizers import DEFAULT_VECTORIZERS


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        write_image(folder / f"{seed}.jpg", seed=seed)
    (folder / "bad.jpg").write_bytes(b"no image")
    return folder


def strict(done: Done) -> object:
    """Read as any other program would: NaN is no JSON."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(done.stdout, parse_constant=refuse)


def test_numbers_that_are_not_finite_are_null(
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = {"a": [math.nan, 1.5, -math.inf], "b": ({"c": None},), "d": "\udcff"}
    write_json(value)
    assert json.loads(capsys.readouterr().out) == {
        "a": [None, 1.5, None],
        "b": [{"c": None}],
        "d": "\udcff",
    }
    with pytest.raises(TypeError):
        write_json({"a": np.zeros(2)})


def test_grid_tells_what_came_out(run: Run, tmp_path: Path) -> None:
    pairs = make_scenes(tmp_path / "images", n_scenes=24, n_views=2, size=64)
    images = [p for p in pairs.parent.iterdir() if p.suffix == ".jpg"]
    bad = min(images)
    bad.write_bytes(bad.read_bytes()[:500])
    out = tmp_path / "out"
    done = run(
        *("grid", pairs, "--images", pairs.parent, "-m", "dot"),
        *("-c", "cosine", "-c", "naive-bayes", "--jobs", 1, "--gallery", 0),
        *("--store", tmp_path / "store", "--out", out, "--json", "--quiet"),
    )
    assert done.returncode == 4, done.stderr
    told = strict(done)
    assert isinstance(told, dict)
    assert (told["metric"], told["protocol"], told["n_run"]) == ("top2", "holdout", 4)
    cells = [(cell["vectorizer"], cell["head"]) for cell in told["cells"]]
    heads = ("cosine", "naive-bayes")
    assert cells == [(name, one) for name in DEFAULT_VECTORIZERS for one in heads]
    assert told["chosen"] in told["cells"]
    # One seed, one fold: what it chose is what is in the bundle.
    assert told["choosing_gave"]["top2"] == told["chosen"]["top2"]
    assert told["failures"][0]["where"] == str(bad)
    assert told["exit_code"] == 4
    assert told["report"] == str(out / "report.html")
    assert "data:image/jpeg" not in (out / "report.html").read_text(encoding="utf-8")
    assert done.stderr == ""


def test_vectorize_tells_what_was_computed(run: Run, images: Path) -> None:
    done = run("vectorize", images, "-v", "classic", "-v", "pixels", "--json")
    assert done.returncode == 4
    told = strict(done)
    assert isinstance(told, dict)
    assert told["n_images"] == 4
    first, second = told["vectorizers"]
    assert (first["vectorizer"], first["n_dims"]) == ("classic", 3324)
    assert (first["n_computed"], first["n_failed"]) == (3, 1)
    assert second["vectorizer"] == "pixels"
    assert told["failures"][0]["where"] == str(images / "bad.jpg")


@pytest.mark.parametrize(
    "command",
    ["list", "check {table} --images {images}", "store info", "list networks"],
)
def test_others_write_one_document(
    run: Run, images: Path, tmp_path: Path, command: str
) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("left,right\n0,1\n1,2\n")
    done = run(*command.format(table=table, images=images).split(), "--json")
    assert done.returncode == 0, done.stderr
    assert isinstance(strict(done), dict)


def test_mlflow_that_is_absent_is_told_before_the_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tllboost.errors.find_spec", lambda name: None)
    done = run("grid", "p.csv", "--out", tmp_path / "out", "--mlflow", tmp_path / "m")
    assert done.returncode == 2
    assert "pip install 'tllboost[mlflow]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
