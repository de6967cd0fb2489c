"""What a command must not wait for: libraries that it has no use for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from conftest import HEADS_HERE
from small_installs import ROOT, build_wheel, make_environment

from tllboost.bundle import save_bundle
from tllboost.classifier import ensemble
from tllboost.cli.app import SUMMARIES, app
from tllboost.demo import make_scenes
from tllboost.heads import make_head
from tllboost.projections import make_projection
from tllboost.scoring import FittedCell, PairScorer
from tllboost.splits import Protocol, SplitTable, make_splits, match_components
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizing import vectorize

MODELS = {"torch", "xgboost", "sklearn", "timm", "open_clip", "onnxruntime", "skimage"}
HEAVY = MODELS | {"scipy", "pandas", "matplotlib", "safetensors", "mlflow"}


THEN = "then"
CODE = """
import sys
from tllboost.cli import main

words = sys.argv[1:]
while words:
    end = words.index("then") if "then" in words else len(words)
    sys.argv[1:], words = words[:end], words[end + 1 :]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
print(*sys.modules, file=sys.stderr)
"""


def imported(*words: str | Path, python: str | Path = sys.executable) -> set[str]:
    """Run commands in a process of their own; return what it has imported."""
    done = subprocess.run(
        [python, "-P", "-c", CODE, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"]])
def test_help_imports_typer_and_little_else(words: list[str]) -> None:
    found = imported(*words)
    assert not found & {*HEAVY, "numpy", "PIL", "rich"}
    assert not [name for name in found if name.endswith("_command")]


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["score", "--help"]])
def test_names_and_options_are_told_without_a_model_library(words: list[str]) -> None:
    assert not imported(*words) & HEAVY


def test_the_list_of_commands_fits_80_columns_and_each_is_there() -> None:
    group = typer.main.get_group(app)
    for name, summary in SUMMARIES.items():
        assert len(summary) + 13 <= 78, name
        command = group.get_command(None, name)
        assert command.name == name
        assert len(command.help) > 20


def test_no_word_at_all_shows_the_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tllboost"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "vectorize  " in done.stdout
    assert done.stderr == ""


# Scoring needs none of these, whatever the head.
TRAINERS = {"sklearn", "scipy.stats", "pandas", "torch", "timm", "open_clip", "xgboost"}


def bundle_of(
    vectorizer: Any, images: list[Path], folder: Path, head: str = "logistic"
) -> Path:
    """Fit a head on a few images, and save it; their vectors go to a store."""
    vectors = vectorize(vectorizer, images, store=folder / "store").vectors
    n_pairs = len(images) // 2
    left = np.arange(0, len(images), 2)
    (split,) = make_splits(
        SplitTable(
            left,
            left + 1,
            np.ones(n_pairs),
            match_components(len(images), left, left + 1),
        ),
        protocol=Protocol(n_distractors=2),
        seed=0,
    )
    loss = {"joined": "contrastive", "projected": "infonce"}.get(head, "none")
    projection = make_projection(loss, device="cpu", n_threads=1)
    projected = vectors
    if projection is not None:
        projection.fit(vectors, split.train, split.validation)
        projected = projection.transform(vectors)
    name = "cosine" if head == "projected" else head
    scorer = PairScorer("dot+l1" if head == "joined" else "dot", name, n_threads=1)
    joined = getattr(projection, "joined_", None)
    scorer.compare_with(projected, split.train)
    scorer.fit(
        scorer.features(projected, split.train, frozen=vectors, joined=joined),
        split.train,
        scorer.features(projected, split.validation, frozen=vectors),
        split.validation,
    )
    learns_nothing = scorer.head in ("cosine", "cosine-norm")
    if not scorer.fitted.part and not learns_nothing:
        # So few validation pairs keep no tree.
        rows = scorer.features(projected, split.train)
        boosted = make_head(head, n_threads=1).set_params(n_estimators=9)
        boosted.fit(rows, split.train.label, query=split.train.query)
        scorer.head_ = boosted
    assert scorer.fitted.part or learns_nothing
    save_bundle(
        folder / f"{head}.tllb",
        ensemble([FittedCell(vectorizer, projection, scorer)]),
        cell={"head": head},
        metrics={},
        golden=[(vectors[:2], vectors[2:4])],
    )
    return folder / f"{head}.tllb"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    table = make_scenes(folder, n_scenes=30, n_views=2, size=96)
    return sorted(table.parent.glob("*.jpg"))


@pytest.fixture(scope="module")
def pocket_bundles(
    scenes: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    folder, vectorizer = tmp_path_factory.mktemp("pocket"), make_vectorizer("pocket")
    heads = [*HEADS_HERE, "projected"]
    return [bundle_of(vectorizer, scenes, folder, head) for head in heads]


@pytest.mark.parametrize("spec", ["classic", "pocket"])
def test_scores_need_numpy_and_what_the_vectorizer_needs(
    spec: str, scenes: list[Path], tmp_path: Path, pocket_bundles: list[Path]
) -> None:
    bundles = pocket_bundles  # of every head; what another vectorizer needs, one tells
    if spec != "pocket":
        bundles = [bundle_of(make_vectorizer(spec, offline=True), scenes, tmp_path)]
    words: list[str | Path] = []
    for bundle in bundles:
        words += ["score", bundle, *scenes[:2], "--store", tmp_path / "new", THEN]
    assert not imported(*words[:-1]) & TRAINERS


@pytest.mark.parametrize(
    ("spec", "needed"), [("pocket", {"onnxruntime"}), ("classic", set())]
)
def test_vectorize_imports_what_makes_vectors_and_nothing_for_stored_ones(
    spec: str, needed: set[str], scenes: list[Path], tmp_path: Path
) -> None:
    where = ("--store", tmp_path / "store", "--out", tmp_path / "vectors.npz")
    words = ("vectorize", scenes[0].parent, "-v", spec, *where)
    assert imported(*words) & HEAVY == needed
    assert not imported(*words) & HEAVY


def test_a_grid_leaves_scipy_and_scikit_learn_to_the_processes_that_fit(
    scenes: list[Path], tmp_path: Path
) -> None:
    pattern = "^(.*)_[0-9]"
    found = imported(
        *("grid", scenes[0].parent, "--groups", pattern, "-v", "pocket"),
        *("-m", "dot", "-c", "cosine", "-c", "naive-bayes", "-q"),
        *("--out", tmp_path / "run", "--store", tmp_path / "store"),
    )
    assert (tmp_path / "run" / "report.html").is_file()
    assert not found & {*TRAINERS, "scipy"}


def test_rank_and_explain_import_no_library_that_heads_are_trained_with(
    scenes: list[Path], tmp_path: Path, pocket_bundles: list[Path]
) -> None:
    store = ("--store", tmp_path / "store")
    words: list[str | Path] = []
    for bundle in pocket_bundles:
        words += ["rank", bundle, scenes[0], "--among", scenes[0].parent, *store, THEN]
    ranked = imported(*words[:-1]) & HEAVY
    assert ranked <= {"onnxruntime", "safetensors"}
    page = ("--out", tmp_path / "page.html", "-q")
    explained = imported("explain", pocket_bundles[0], *scenes[:2], *page, *store)
    assert explained & HEAVY <= {"onnxruntime", "safetensors"}


# Installs without the large libraries


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def lines_of_pip() -> list[list[str]]:
    """Return what the guide of small installs gives pip to install, line by line."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    lines = re.findall(r"(?m)^(?:RUN )?pip install ((?:[\w-]|\[|\]| )+?)$", text)
    # The same library, built for CPUs alone: what is imported has one name.
    return [line.replace("xgboost-cpu", "xgboost").split() for line in lines]


def test_the_small_install_of_the_guide_scores_and_ranks_with_every_head(
    wheel: Path,
    pocket_bundles: list[Path],
    scenes: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = make_environment(tmp_path / "small", wheel, lines_of_pip()[0])
    words: list[str | Path] = []
    for bundle in pocket_bundles:
        words += ["score", bundle, *scenes[:2], "--store", tmp_path / "new", THEN]
        among = ("--among", scenes[0].parent, "--store", tmp_path / "new")
        words += ["rank", bundle, scenes[0], *among, THEN]
    page = ("--out", tmp_path / "page.html", "--store", tmp_path / "new", "-q")
    words += ["vectorize", scenes[0], "-v", "classic", *page[2:], THEN]
    words += ["explain", pocket_bundles[0], *scenes[:2], *page]
    monkeypatch.delenv("PYTHONPATH", raising=False)
    found = imported(*words, python=python)
    assert not found & (MODELS | {"scipy", "skops"}) - {"onnxruntime"}
    missing = subprocess.run(
        [python, "-I", "-m", "tllboost", "vectorize", scenes[0], "-v", "timm:resnet18"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert missing.returncode == 2
    assert missing.stderr.endswith("pip install torch\n")


def test_a_grid_without_torch_leaves_out_what_needs_it_with_one_note(
    wheel: Path, scenes: list[Path], tmp_path: Path
) -> None:
    scoring, grids, *_ = lines_of_pip()
    python = make_environment(tmp_path / "small", wheel, [*scoring, *grids])
    folder = scenes[0].parent
    rows = (folder / "pairs.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "few.csv").write_text("\n".join(rows[:24]), encoding="utf-8")
    words = ("grid", tmp_path / "few.csv", "--images", folder)
    how = ("-v", "classic", "-v", "pocket", "-m", "dot", "-j", 1, "--no-report")
    where = ("--out", tmp_path / "out", "--store", tmp_path / "store")
    done = subprocess.run(
        [python, "-I", "-m", "tllboost", *map(str, (*words, *how, *where))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (note,) = (one for one in done.stderr.splitlines() if one.startswith("left out"))
    assert note == (
        "left out: head 'mlp' needs 'torch', not installed: pip install torch"
    )
    header, *cells = (tmp_path / "out" / "matrix.csv").read_text().splitlines()
    assert "xgboost" in header
    assert "mlp" not in header
    assert len(cells) == 2


def test_what_one_command_exported_is_what_all_others_and_bundles_run(
    scenes: list[Path], tmp_path: Path
) -> None:
    import timm
    import torch

    torch.manual_seed(0)
    weights = tmp_path / "small.pth"
    arch = "mobilenetv3_small_050"
    torch.save(timm.create_model(arch, pretrained=False).state_dict(), weights)
    spec = f"timm:{arch}@{weights}?size=64"
    few, store = tmp_path / "few", ("--store", tmp_path / "store")
    few.mkdir()
    for scene in scenes[:2]:
        shutil.copy(scene, few)
    out = ("--out", tmp_path / "vectors.npz")
    exporting = imported("vectorize", few, "-v", spec, *store, *out)
    assert exporting & {"torch", "timm"}
    networks = tmp_path / "store" / "networks"
    kept = {file: file.stat().st_mtime_ns for file in networks.iterdir()}
    assert {file.suffix for file in kept} == {".onnx", ".json"}
    folder, groups, grid = scenes[0].parent, "^(.*)_[0-9]", tmp_path / "grid"
    small = ("-m", "dot", "-c", "logistic", "-j", "1", "--no-report", "-q")
    bundle = grid / "best.tllb"
    new = tmp_path / "new"
    shutil.copytree(networks, new / "networks")  # and no vector at all
    for words in (
        ("grid", folder, "--groups", groups, "-v", spec, *small, *store, "--out", grid),
        ("similar", folder, "-v", spec, *store, "--out", tmp_path / "similar.csv"),
        ("score", bundle, *scenes[:2], "--store", new),
        ("rank", bundle, scenes[2], "--among", folder, "--store", new),
        ("explain", bundle, *scenes[3:5], "--out", tmp_path / "e.html", "--store", new),
    ):
        assert not imported(*words) & {"torch", "timm"}, words[0]
        found = {file: file.stat().st_mtime_ns for file in networks.iterdir()}
        assert found == kept, words[0]
    assert len([*(new / "networks").iterdir()]) == len(kept)


@pytest.mark.shared
@pytest.mark.parametrize(
    "spec",
    [
        "onnx:{}/mobilenetv2.onnx",
        "timm:mobilenetv2_100@{}/mobilenetv2_100.safetensors?size=64",
        "pocket",
    ],
)
def test_score_opens_no_network_without_need_and_torch_never(
    spec: str, shared: Path, scenes: list[Path], tmp_path: Path
) -> None:
    vectorizer = make_vectorizer(spec.format(shared / "weights"), offline=True)
    bundle = bundle_of(vectorizer, scenes, tmp_path)
    new = sorted((shared / "data" / "ukbench").glob("*.jpg"))[:2]
    words = ["score", bundle, *new, "--store", tmp_path / "store"]
    first = imported(*words)
    assert "onnxruntime" in first
    assert not first & TRAINERS
    again = imported(*words)
    assert not again & {"onnxruntime", "onnx", *TRAINERS}


def test_a_type_checker_sees_wrong_arguments_of_the_installed_package(
    wheel: Path, tmp_path: Path
) -> None:
    python = make_environment(tmp_path / "alone", wheel, [])
    script = tmp_path / "script.py"
    script.write_text(
        "from tllboost import make_vectorizer, read_pairs\n"
        "read_pairs('pairs.csv', imags='images')\n"
        "make_vectorizer('classic', device=1)\n"
        "make_vectorizer('classic', device='cpu')\n"
    )
    how = ("--ignore-missing-imports", "--no-incremental", f"--cache-dir={os.devnull}")
    checker = (sys.executable, "-m", "mypy", "--python-executable", python)
    done = subprocess.run(
        [*checker, *how, script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'Unexpected keyword argument "imags" for "read_pairs"' in done.stdout
    assert 'Argument "device" to "make_vectorizer"' in done.stdout
    assert "Found 2 errors" in done.stdout
