"""What a run says of its data: leaks, contradictions, networks that saw its test."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Run, write_image
from reliability import count
from safetensors.numpy import save_file

from tllboost.finetune.settings import FORMAT
from tllboost.grid.cells import Plan
from tllboost.grid.data import Grid, gather, leak_report, notes_on
from tllboost.pairs import PairTable, read_pairs
from tllboost.processes import Processes
from tllboost.splits import Protocol
from tllboost.vectorizers import make_vectorizer

SETS = ["train"] * 18 + ["validation"] * 6 + ["test"] * 12
VECTORIZER = "pixels?size=2"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 pairs of images, a0 with b0 and so on, and a split of them."""
    folder = tmp_path_factory.mktemp("clean")
    for number in range(36):
        for side, seed in (("a", number), ("b", 100 + number)):
            write_image(folder / f"{side}{number}.png", seed=seed, size=(8, 8))
    rows = [f"a{n},b{n},1,{name}" for n, name in enumerate(SETS)]
    (folder / "pairs.csv").write_text("\n".join(["left,right,label,split", *rows]))
    return folder


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "images"))


def with_rows(folder: Path, *rows: str) -> Path:
    with (folder / "pairs.csv").open("a") as file:
        file.write("".join(f"\n{row}" for row in rows))
    return folder


def grid_of(folder: Path, protocol: str = "given", made: Any = None) -> Grid:
    """Gather a grid's data; nothing is measured."""
    table: PairTable = read_pairs(folder / "pairs.csv", images=folder)
    backend, store = Processes(1), folder / "store"
    pixels = {VECTORIZER: make_vectorizer(VECTORIZER)}
    data = gather(table, pixels, Protocol(protocol), store=store, backend=backend)
    plan = Plan([], {}, made or {})
    return Grid(folder, plan, [0], "top2", data, store, "cpu", backend, None)


def told(grid: Grid, word: str) -> list[str]:
    """Return the notes that hold a word."""
    return [note for note in notes_on(grid, []) if word in note]


# --- the split


def test_a_clean_split_gets_no_note(clean: Path) -> None:
    for protocol in ("given", "holdout"):
        grid = grid_of(clean, protocol)
        assert told(grid, "leaks") == told(grid, "contradict") == []
        assert leak_report(grid)[0][1].startswith("0 of ")


@pytest.mark.parametrize(
    ("copied", "said"),
    [
        ("a0", "8.3 % of its test pairs share an image with training"),
        ("b20", "1 images of its validation set are in test or training"),
    ],
)
def test_a_given_split_that_leaks_by_copies_says_so(
    copied: str, said: str, folder: Path
) -> None:
    # A test image becomes a copy, byte for byte, of another set's: one pair of twelve.
    shutil.copy(folder / f"{copied}.png", folder / "a30.png")
    (folder / "pairs.csv").write_text(
        "\n".join(
            ["left,right,label,query,split"]
            + [f"a{n},b{n},1,{n},{name}" for n, name in enumerate(SETS)]
            + [f"a{n},b{n - 1 if n % 6 else n + 5},0,{n},{SETS[n]}" for n in range(36)]
        )
    )
    grid = grid_of(folder)
    assert told(grid, "leaks") == [
        f"protocol given leaks: {said}; don't compare it with other protocols; "
        "tllboost check names them"
    ]
    assert leak_report(grid)[0][1] == "1 of 24"
    # Whole components are dealt out, copies with them, where the split is ours.
    assert told(grid_of(folder, "holdout"), "leaks") == []


def test_copies_between_training_and_validation_are_told_too(folder: Path) -> None:
    shutil.copy(folder / "a0.png", folder / "a20.png")
    (note,) = told(grid_of(folder), "leaks")
    assert "1 images of its validation set are in test or training" in note


def test_grid_and_check_tell_of_the_same_leak(run: Run, folder: Path) -> None:
    shutil.copy(folder / "a0.png", folder / "a30.png")
    with_rows(folder, "a33,a34,1,test", "b33,b34,0,test")
    table = (folder / "pairs.csv", "--images", folder)
    done = run("check", *table)
    assert done.returncode == 3
    assert "THE GIVEN SPLIT LEAKS" in done.stdout
    assert "non-matches that contradict matches: 1\n    b33 ~ b34\n" in done.stdout
    out = folder / "out"
    done = run(
        *("grid", *table, "-v", VECTORIZER, "-c", "cosine", "-j", "1", "--out", out),
        "--no-report",
    )
    assert done.returncode == 0  # a note, as of every protocol that leaks
    leak, tied = (
        next(line for line in done.stderr.splitlines() if word in line)
        for word in ("leaks", "contradict")
    )
    assert "protocol given leaks" in leak
    assert "1 non-matches contradict the matches" in tied
    assert {leak, tied} <= set(json.loads((out / "summary.json").read_text())["lines"])
    count("bad tables tried")


# --- labels


def test_non_matches_that_a_chain_of_matches_ties_are_counted_and_named(
    folder: Path,
) -> None:
    # a0 and b0 match, b0 and a1 match: a0 and a1 can't be none. Nor may a copy of a1.
    with_rows(folder, "b0,a1,1,train", "a1,a0,0,train", "a2,a3,0,train")
    (note,) = told(grid_of(folder), "contradict")
    assert note == (
        "1 non-matches contradict the matches, which put their images into one "
        "component, 'a1' and 'a0' first; tllboost check names them"
    )
    shutil.copy(folder / "a1.png", folder / "b5.png")
    with_rows(folder, "b5,b0,0,train")
    assert told(grid_of(folder), "contradict")[0].startswith("2 non-matches")
    count("bad tables tried", 2)


# --- networks


def network(file: Path, images: list[Path]) -> SimpleNamespace:
    """Return what has the weights of a network that was fine-tuned on images."""
    seen = [sha256(image.read_bytes()).hexdigest()[:16] for image in images]
    header = {"made_by": FORMAT, "trained_on": " ".join(seen)}
    save_file({"weight": np.zeros(1, np.float32)}, file, header)
    return SimpleNamespace(file=file)


def test_a_network_that_was_fine_tuned_on_test_images_is_told(
    clean: Path, tmp_path: Path
) -> None:
    train = [clean / f"a{n}.png" for n in range(4)]
    tested = [clean / f"b{n}.png" for n in (25, 30, 35)]
    fair = network(tmp_path / "fair.safetensors", train)
    seen = network(tmp_path / "seen.safetensors", [*train, *tested])
    fused = SimpleNamespace(parts=[make_vectorizer(VECTORIZER), seen])
    made = {"plain": make_vectorizer(VECTORIZER), "fair": fair, "seen": seen}
    grid = grid_of(clean, made={**made, "fused": fused})
    assert told(grid, "leaks") == [
        f"{label} leaks: its weights were fine-tuned on 3 of the 24 test images; its "
        "figures are not held out"
        for label in ("seen", "fused")
    ]


def test_the_weights_of_a_network_of_timm_are_where_the_note_looks() -> None:
    given = make_vectorizer("timm:resnet18@tuned.safetensors")
    assert str(given.file) == "tuned.safetensors"
