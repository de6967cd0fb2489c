"""The commands list, check, vectorize, store and demo, as a user meets them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import flip_a_bit, write_image

from tllboost.cli import main
from tllboost.demo import make_demo_set
from tllboost.grid.cells import DEFAULT_HEADS
from tllboost.heads import HEADS
from tllboost.images.folders import name_images
from tllboost.merges import MERGES
from tllboost.pairs import read_pairs
from tllboost.splits import PROTOCOLS
from tllboost.vectorizers import VECTORIZERS, make_vectorizer

REGISTRIES = {
    "vectorizers": VECTORIZERS,
    "merges": MERGES,
    "heads": HEADS,
    "protocols": PROTOCOLS,
}


class Done(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``tllboost`` as a shell would, with no store but the one that is named."""
    monkeypatch.delenv("TLLBOOST_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "100")

    def run_command(*arguments: str | int | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["tllboost", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main()
        return Done(leaving.value.code or 0, *capfd.readouterr())

    return run_command


def write_table(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four images, two of them in a subfolder."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.jpg", "b.png", "sub/c.jpg", "sub/d.jpg")):
        write_image(folder / name, seed=seed)
    return folder


@pytest.mark.parametrize("kind", REGISTRIES)
def test_list_names_everything_with_a_description(run: Run, kind: str) -> None:
    done = run("list", kind)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name in REGISTRIES[kind]:
        assert any(
            line.split()[0].partition(":")[0] == name and len(line.split()) > 2
            for line in lines
        ), name


def test_list_shows_all_kinds_by_default(run: Run) -> None:
    shown = run("list").stdout
    assert [line for line in shown.splitlines() if line and line[0] != " "] == [
        "vectorizers",
        "networks",
        "projections",
        "merges",
        "heads",
        "protocols",
        "metrics",
        "formats",
    ]


def test_list_refuses_an_unknown_kind(run: Run) -> None:
    done = run("list", "colours")
    assert done.returncode == 2
    assert "colours" in done.stderr


def test_check_passes_a_sound_table(run: Run, images: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "pairs.csv", [("left", "right"), ("a", "b")])
    done = run("check", table, "--images", images)
    assert done.returncode == 0, done.stderr
    assert "1 pairs of 2 images" in done.stdout


def test_check_says_that_no_image_was_read(run: Run, tmp_path: Path) -> None:
    table = write_table(tmp_path / "pairs.csv", [("left", "right"), ("a", "b")])
    done = run("check", table)
    assert done.returncode == 0
    assert "--images" in done.stdout
    assert run("check", table, "--quiet").stderr == ""


def test_check_fails_on_a_split_that_leaks(
    run: Run, images: Path, tmp_path: Path
) -> None:
    rows = [("left", "right", "split"), ("a", "b", "train"), ("b", "sub/c", "test")]
    table = write_table(tmp_path / "pairs.csv", rows)
    done = run("check", table, "--images", images, "--json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert report["leaks"] is True
    assert report["leaking_images"] == [["b", ["train", "test"]]]


def test_check_fails_on_an_image_that_cant_be_read(
    run: Run, images: Path, tmp_path: Path
) -> None:
    truncated = (images / "a.jpg").read_bytes()[:400]
    (images / "a.jpg").write_bytes(truncated)
    table = write_table(tmp_path / "pairs.csv", [("left", "right"), ("a", "b")])
    done = run("check", table, "--images", images)
    assert done.returncode == 3
    assert "unreadable images: 1" in done.stdout


def test_check_names_file_line_and_value_of_a_missing_image(
    run: Run, images: Path, tmp_path: Path
) -> None:
    rows = [("left", "right"), ("a", "b"), ("a", "nowhere")]
    table = write_table(tmp_path / "pairs.csv", rows)
    done = run("check", table, "--images", images)
    assert done.returncode == 3
    assert f"{table}:3: right: no image 'nowhere'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_check_reads_groups(run: Run, tmp_path: Path) -> None:
    for seed, name in enumerate(("000100", "000101", "000200", "000201")):
        write_image(tmp_path / f"{name}.jpg", seed=seed)
    done = run("check", tmp_path, "--groups", r"^(\d{4})")
    assert done.returncode == 0, done.stderr
    assert "2 pairs of 4 images" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_check_and_vectorize_take_names_that_are_no_text(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "images" / "group"
    folder.mkdir(parents=True)
    for seed, name in enumerate((b"odd\xff.jpg", b"even\xfe.jpg")):
        write_image(folder / os.fsdecode(name), seed=seed)
    checked = run("check", folder.parent, "--groups", "folder")
    assert checked.returncode == 0, checked.stderr
    (folder / os.fsdecode(b"bad\xfd.jpg")).write_bytes(b"no image")
    done = run("vectorize", folder, "-v", "classic", "--store", tmp_path / "store")
    assert done.returncode == 4
    assert "bad" in done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--groups", "folder", "--images", "x"], "--images 'x' does not go with"),
        ([], "say how its images form groups"),
        (["--groups", "no parentheses"], "one"),
    ],
    ids=["groups and images", "a folder alone", "no group in the pattern"],
)
def test_check_refuses_options_that_contradict(
    run: Run, images: Path, options: list[str], told: str
) -> None:
    done = run("check", images, *options)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_vectorize_computes_once_and_then_reuses(
    run: Run, images: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    arguments = ("vectorize", images, "-v", "classic", "--store", store)
    first, second = run(*arguments), run(*arguments)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "4 computed, 0 reused, 0 failed" in first.stdout
    assert "0 computed, 4 reused, 0 failed" in second.stdout


def test_vectorize_goes_on_after_a_bad_image(
    run: Run, images: Path, tmp_path: Path
) -> None:
    bad = images / "bad.jpg"
    bad.write_bytes(b"no image")
    out = tmp_path / "new" / "classic.npz"
    done = run(
        "vectorize", images, "-v", "classic", "--store", tmp_path / "s", "--out", out
    )
    assert done.returncode == 4
    assert done.stderr.startswith(f"tllboost: {bad}: ")
    assert len(done.stderr.splitlines()) == 1
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["ids"].tolist() == ["a", "b", "sub/c", "sub/d"]
        assert arrays["vectors"].shape[0] == 4


def test_vectorize_fails_where_every_image_does(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "v.npz"
    done = run(
        *("vectorize", tmp_path / "none.jpg", "-v", "classic"),
        *("--store", tmp_path / "store", "--out", out),
    )
    assert done.returncode == 3
    assert "none.jpg" in done.stderr
    assert not out.exists()


def test_vectorize_out_is_what_vectors_reads(
    run: Run, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "classic.npz"
    folders = (images, shutil.copytree(images, tmp_path / "right"))
    done = run(
        "vectorize", *folders, "-v", "classic", "--store", tmp_path / "s", "--out", out
    )
    assert done.returncode == 0, done.stderr
    vectors, found = make_vectorizer(f"vectors:{out}").lookup(
        ["images/a", "right/sub/c.jpg", "left/a"]
    )
    assert found.tolist() == [True, True, False]
    direct = make_vectorizer("classic").transform([images / "a.jpg"])
    np.testing.assert_allclose(vectors[0], direct[0], atol=1e-6)


def test_vectorize_names_images_by_folder_only_where_it_must(
    images: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(images / "sub", tmp_path / "other")
    assert list(name_images([images, other])) == [
        "a",
        "b",
        "sub/c",
        "sub/d",
        "c",
        "d",
    ]
    assert list(name_images([images / "sub", other])) == [
        *("sub/c", "sub/d"),
        *("other/c", "other/d"),
    ]
    again = shutil.copytree(other, tmp_path / "deeper" / "other")
    assert list(name_images([other, again])) == [
        f"{folder.as_posix()}/{name}" for folder in (other, again) for name in "cd"
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["-v", "clasic"], 2, "did you mean 'classic'"),
        (["-v", "classic", "-v", "onnx:n.onnx", "--out", "v.npz"], 2, "one vectorizer"),
        (["-v", "classic", "--weights", "net.pt"], 2, "NAME@FILE"),
        (["-v", "onnx:none.onnx"], 3, "none.onnx"),
        (
            ["-v", "timm:resnet18", "--weights", "none.safetensors"],
            3,
            "none.safetensors",
        ),
    ],
    ids=["unknown name", "out of two", "no network", "no file", "no weights"],
)
def test_vectorize_tells_what_is_wrong_in_one_line(
    run: Run, images: Path, tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    done = run("vectorize", images, *arguments, "--store", tmp_path / "store")
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_vectorize_needs_images(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("vectorize", tmp_path / "empty", "-v", "classic")
    assert done.returncode == 3
    assert "no images in" in done.stderr


@pytest.mark.shared
def test_vectorize_takes_local_weights(run: Run, shared: Path, tmp_path: Path) -> None:
    weights = shared / "weights" / "mobilenetv2_100.safetensors"
    image = sorted((shared / "data" / "ukbench").glob("*.jpg"))[:8]
    store = tmp_path / "store"
    arguments = ("vectorize", *image, "--offline", "--store", store, "--quiet")
    beside = run(*arguments, "-v", "timm:mobilenetv2_100", "--weights", weights)
    inside = run(*arguments, "-v", f"timm:mobilenetv2_100@{weights}")
    assert (beside.returncode, inside.returncode) == (0, 0), beside.stderr
    assert "1280 numbers each; 8 computed" in beside.stdout
    assert "0 computed, 8 reused" in inside.stdout


def test_store_tells_what_it_holds(run: Run, images: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert "nothing is stored" in run("store", "info", "--store", store).stdout
    run("vectorize", images, "-v", "classic", "--store", store)
    stored = json.loads(run("store", "info", "--store", store, "--json").stdout)
    assert [entry["n_rows"] for entry in stored["stored"]] == [4]
    fingerprint = stored["stored"][0]["fingerprint"]
    assert fingerprint in run("store", "info", "--store", store).stdout
    pruned = run("store", "prune", "--store", store, "--fingerprint", fingerprint)
    assert "deleted 4 vectors" in pruned.stdout


def test_store_verify_finds_a_flipped_byte_and_prune_drops_it(
    run: Run, images: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    run("vectorize", images, "-v", "classic", "--store", store)
    sound = run("store", "verify", "--store", store)
    assert sound.returncode == 0
    assert "all 4 vectors" in sound.stdout
    flip_a_bit(store)
    damaged = run("store", "verify", "--store", store)
    assert damaged.returncode == 5
    assert "checksum" in damaged.stdout
    assert "prune" in damaged.stderr
    assert "deleted 1 vectors" in run("store", "prune", "--store", store).stdout
    assert run("store", "verify", "--store", store).returncode == 0


@pytest.mark.parametrize("command", ["verify", "prune"])
def test_store_commands_need_a_store(run: Run, tmp_path: Path, command: str) -> None:
    done = run("store", command, "--store", tmp_path / "none")
    assert done.returncode == 3
    assert "there is no vector store" in done.stderr
    assert not (tmp_path / "none").exists()


def test_store_refuses_an_index_that_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "vectors.sqlite").write_text("something else entirely" * 40)
    done = run("store", "info", "--store", tmp_path)
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1


def test_demo_runs_the_whole_path_and_then_reuses_it(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch")  # for one of the usual heads
    out = tmp_path / "demo"
    arguments = ("demo", "--out", out, "--scenes", 60, "--store", tmp_path / "store")
    first = run(*arguments)
    assert first.returncode == 0, first.stderr
    assert "180 vectors computed, 0 reused" in first.stderr
    scored = first.stdout.splitlines()[-2:]
    match, other = (float(line.split()[2]) for line in scored)
    assert 0 <= other < match <= 1
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["head"] for row in rows} == set(DEFAULT_HEADS)
    assert {row["status"] for row in rows} == {"ok"}
    assert {"best.tllb", "matrix.csv", "run.toml"} <= {p.name for p in out.iterdir()}
    second = run(*arguments)
    assert second.returncode == 0, second.stderr
    assert "0 vectors computed, 180 reused" in second.stderr
    assert "30 of 30 cells are finished already" in second.stderr
    assert second.stdout == first.stdout


def test_demo_leaves_other_files_alone(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "demo-images" / "mine.jpg"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    done = run("demo", "--out", tmp_path / "demo")
    assert done.returncode == 2
    assert "holds other files" in done.stderr
    assert mine.read_bytes() == b"mine"


def test_demo_keeps_two_scenes_out_of_its_table(tmp_path: Path) -> None:
    demo = make_demo_set(tmp_path / "demo", n_scenes=3)
    table = read_pairs(demo.pairs, images=demo.pairs.parent)
    assert (table.n_pairs, table.n_images) == (6, 9)
    new = {demo.query, demo.match, demo.other}
    assert all(path.is_file() for path in new)
    assert not new & set(table.paths)
    assert make_demo_set(tmp_path / "demo", n_scenes=3) == demo
