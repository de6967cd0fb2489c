"""Folders are walked alike by all commands, and nothing is left out in silence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from bundles import make_classifier, save
from conftest import Run, write_image
from reliability import count

from tllboost.errors import UsageError
from tllboost.images import find_images
from tllboost.images.folders import name_images
from tllboost.pairs import read_pairs
from tllboost.pairs.groups import read_groups
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizing import vectorize

TREE = (
    *("1/a.jpg", "1/b.jpg", "2/deep/a.jpg", "2/deep/b.jpg", "1/c.heic"),
    *("../elsewhere/a.jpg", "../elsewhere/b.jpg"),
    *("@eaDir/a.jpg", "1/@eaDir/t.jpg", ".git/x.jpg", "1/._a.jpg", "notes.txt"),
)
FOUND = (*TREE[:2], TREE[4], *TREE[2:4], "3/a.jpg", "3/b.jpg")
PASSED = (
    "skipped files that are not images (1, 'notes.txt' first), folders of the "
    "system (2, '@eaDir' first), hidden files and folders (2, '._a.jpg' first), links "
    "to folders that are read anyway (3, "
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of two groups, a third one linked, and of what belongs to none."""
    folder = tmp_path / "images"
    for seed, name in enumerate(TREE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        made = write_image(tmp_path / "made.jpg", seed=seed, size=(24, 20))
        made.rename((folder / name).resolve())
    (folder / "1/c.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (folder / "3").symlink_to(tmp_path / "elsewhere")
    (folder / "1/loop").symlink_to(folder)
    (folder / "2/up").symlink_to(tmp_path)
    (folder / "2/again").symlink_to(tmp_path / "elsewhere")
    return folder


def test_links_are_followed_and_what_is_passed_over_is_counted_in_one_line(
    tree: Path,
) -> None:
    told: list[str] = []
    found = find_images(tree, tell=told.append)
    assert found == [tree / name for name in FOUND]
    (line,) = told
    assert line.startswith(f"{tree}: {PASSED}")
    (tree / "0").symlink_to(tree / "1")  # what lies there itself keeps its name
    assert find_images(tree) == found
    told.clear()
    find_images(tree / "1/loop/2/deep", tell=told.append)
    assert told == []
    count("bad images tried", 8)


def test_every_way_to_walk_a_folder_finds_the_same(run: Run, tree: Path) -> None:
    wanted = [str(tree / name) for name in FOUND]
    for table in (read_groups(tree), read_groups(tree, "([.])")):
        assert sorted(map(str, table.paths)) == wanted
        assert table.notes[0].startswith(f"{tree}: {PASSED}")
    assert [*map(str, name_images([tree]).values())] == wanted
    bundle = save(tree.parent / "b.tllb", make_classifier("pixels?size=2", "cosine"))
    done = run("rank", bundle, tree / "1/a.jpg", "--among", tree, "--csv")
    assert {row["candidate"] for row in done.table} == {*wanted[1:2], *wanted[3:]}
    heic = [line for line in done.stderr.splitlines() if wanted[2] in line]
    assert (done.returncode, len(heic)) == (4, 1)
    assert PASSED in done.stderr
    done = run("vectorize", tree, "-v", "pixels?size=2")
    assert "7 images, 12 numbers each; 0 computed, 6 reused, 1 failed" in done.stdout
    assert (done.returncode, PASSED in done.stderr) == (4, True)
    done = run("check", tree, "--groups", "folder", "--json")
    assert [name for name, _ in done.json["unreadable"]] == ["1/c"]
    assert (done.returncode, PASSED in done.json["notes"][0]) == (3, True)
    none = run("check", tree / "1/@eaDir", "--groups", "folder")
    assert (none.returncode, none.stderr.count("\n")) == (3, 1)
    count("bad images tried", 4)


def test_a_table_that_names_heic_is_told_what_to_install(run: Run, tree: Path) -> None:
    for written in ("1/c", "1/c.heic"):
        table = tree.parent / "pairs.csv"
        table.write_text(f"left,right\n1/a,1/b\n1/a,{written}\n")
        assert read_pairs(table, images=tree).paths[-1] == tree / "1/c.heic"
        done = run("check", table, "--images", tree, "--json")
        (name, _) = done.json["unreadable"][0]
        assert (done.returncode, name) == (3, "1/c")
    table.write_text("left,right\n1/a,1/b\n1/a,1/d\n")
    (tree / "1/d.cr2").touch()
    with pytest.raises(ValueError, match=r"no image '1/d' .* did you mean 'd\.cr2'\?"):
        read_pairs(table, images=tree)
    count("bad images tried", 3)


# Options, and sizes


PIXELS = ("-v", "pixels?size=2")
GRID = ("grid", "no.csv", "--out", "no", *PIXELS)
TABLE = ("rank", "no.tllb", "--candidates", "no.csv")
AMONG = ("rank", "no.tllb", "a.jpg", "--among", "no")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*TABLE, "--top", 10), "--top 10 has no effect with --candidates"),
        ((*TABLE, "--shortlist", 5), "--shortlist 5 has no effect with --cand"),
        ((*TABLE, "--exact"), "--exact has no effect with --candidates"),
        (
            (*AMONG, "--exact", "--shortlist", 5),
            "--shortlist 5 has no effect with --exact",
        ),
        ((*AMONG, "--out", "x.csv"), "--out 'x.csv' has an effect only with --cand"),
        (
            ("report", "no", "--format", "md", "--gallery", 3),
            "--gallery 3 has no effect with --format",
        ),
        ((*GRID, "--folds", 5), "--folds 5 has an effect only with --protocol"),
        (
            (*GRID, "--no-report", "--gallery", 3),
            "--gallery 3 has no effect with --no-rep",
        ),
        (
            (*GRID, "--protocol", "holidays2017", "--distractors", 9),
            "--distractors 9 has no effect",
        ),
        (
            (*GRID, "--distractors", 9),
            "--distractors 9 has no effect: the table's column query lists",
        ),
        (
            (*GRID, "--print-config", "--json"),
            "--json has no effect with --print-config",
        ),
        (
            (*GRID, "--print-config", "--resume"),
            "--resume has no effect with --print-con",
        ),
        (
            ("grid", "no.csv", "--config", "cells.toml", "-m", "l1"),
            "--merge has no effect without -v: each [[cell]] of --config has its own",
        ),
        (
            ("report", "no", "--format", "md", "--max-pixels", 3),
            "--max-pixels 3 has no effect with --format",
        ),
        (
            ("check", "no.csv", "--max-pixels", 3),
            "--max-pixels 3 has no effect without",
        ),
        (
            ("score", "no.tllb", "a.jpg", "b.jpg", "--strict"),
            "--strict has an effect only with --pa",
        ),
        (
            ("score", "no.tllb", "a.jpg", "b.jpg", "--anywhere"),
            "--anywhere has an effect only with",
        ),
        (("compare", "no", "no", "--all", "--json"), "--all has no effect with --json"),
        ((*GRID, "--device", "nonsense"), "unknown device 'nonsense': give auto, cpu"),
        (("vectorize", "no", *PIXELS, "--device", "gpu"), "unknown device 'gpu'"),
        (("score", "no.tllb", "a.jpg", "b.jpg", "--device", "x"), "unknown device 'x'"),
        (
            (*GRID, "--backend", "dask", "--scheduler", "tcp://a:1", "--jobs", 2),
            "--jobs 2 has no effect with --scheduler",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_option_that_has_no_effect_is_refused(
    run: Run, tmp_path: Path, arguments: tuple[Any, ...], told: str
) -> None:
    (tmp_path / "no.csv").write_text("left,right,label,query\na,b,1,q\na,c,0,q\n")
    told_cells = '[[cell]]\nname = "a"\nvectorizer = "pocket"\nhead = "cosine"\n'
    (tmp_path / "cells.toml").write_text(told_cells)
    arguments = tuple(
        tmp_path / one if one in ("no.csv", "cells.toml") else one for one in arguments
    )
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"tllboost: {told}")
    assert done.stderr.count("\n") == 1


def test_a_file_of_options_may_hold_what_has_no_effect(
    run: Run, tmp_path: Path
) -> None:
    """As the one that a run writes, which holds all of them."""
    file = tmp_path / "run.toml"
    file.write_text('pairs = "no.csv"\nout = "no"\nfolds = 7\nprotocol = "holdout"\n')
    done = run("grid", "--config", file)
    assert (done.returncode, "no such file" in done.stderr) == (3, True)


def test_a_size_that_no_memory_holds_is_refused_before_it_is_tried(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image(tmp_path / "a.jpg", seed=0)
    done = run("vectorize", image, "-v", "pixels?size=100000")
    assert (done.returncode, done.stdout) == (2, "")
    assert "images of 100000 × 100000 pixels take 11,520,000,000,000 " in done.stderr
    assert done.stderr.endswith("choose a smaller size\n")
    with pytest.raises(UsageError, match="choose a smaller size"):
        make_vectorizer("pixels?size=100000").n_dims  # noqa: B018

    class Wide:
        fingerprint, label, n_dims, input_size = "wide|1", "wide", 5_000_000, None

        def prepare(self, image: Any) -> np.ndarray:
            return np.zeros(1)

        def forward(self, batch: np.ndarray) -> np.ndarray:
            return np.zeros((len(batch), self.n_dims), dtype=np.float32)

    there = SimpleNamespace(available=50_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: there)
    paths = [image, write_image(tmp_path / "b.jpg", seed=1)]
    with pytest.raises(UsageError, match="the vectors of wide take 80,000,000 bytes"):
        vectorize(Wide(), paths)  # type: ignore[arg-type]
    count("bad images tried", 2)


@pytest.mark.parametrize(
    "command", [("check",), ("vectorize", *PIXELS)], ids=["check", "vectorize"]
)
def test_the_pixel_cap_is_an_option(
    run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    folder = tmp_path / "images" / "group"
    folder.mkdir(parents=True)
    for seed, size in enumerate([(30, 20), (30, 20), (30, 21)]):
        write_image(folder / f"{seed}.jpg", seed=seed, size=size)
    groups = ("--groups", "folder") if command[0] == "check" else ()
    name, *more = command
    done = run(name, folder.parent, *more, *groups, "--max-pixels", 600)
    assert done.returncode in (3, 4)
    told = done.stdout + done.stderr
    assert "30 × 21 is too many pixels (at most 600 allowed: see --max-pixels)" in told
    assert run(name, folder.parent, *more, *groups).returncode == 0
    count("bad images tried")
