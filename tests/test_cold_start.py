"""What a command must not wait for: libraries that it has no use for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from tllboost.bundle import save_bundle
from tllboost.classifier import ensemble
from tllboost.cli.app import SUMMARIES, app
from tllboost.demo import make_scenes
from tllboost.heads import HEADS, make_head
from tllboost.projections import make_projection
from tllboost.scoring import FittedCell, PairScorer
from tllboost.splits import Protocol, make_splits, match_components
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


def imported(*words: str | Path) -> set[str]:
    """Run commands in a process of their own; return what it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, words)],
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
        assert group.commands[name].name == name
        assert len(group.commands[name].help) > 20


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
        left,
        left + 1,
        np.ones(n_pairs),
        match_components(len(images), left, left + 1),
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
    scorer.fit(
        scorer.features(projected, split.train, frozen=vectors, joined=joined),
        split.train,
        scorer.features(projected, split.validation, frozen=vectors),
        split.validation,
    )
    if head.startswith("xgboost"):  # of which so few validation pairs keep no tree
        rows = scorer.features(projected, split.train)
        boosted = make_head(head, n_threads=1).set_params(n_estimators=9)
        boosted.fit(rows, split.train.label, query=split.train.query)
        scorer.head_ = boosted
    assert scorer.fitted.part or scorer.head == "cosine"
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
    table = make_scenes(folder, n_scenes=40, n_views=2)
    return sorted(table.parent.glob("*.jpg"))


@pytest.mark.parametrize("spec", ["classic", "pocket"])
def test_scores_need_numpy_and_what_the_vectorizer_needs(
    spec: str, scenes: list[Path], tmp_path: Path
) -> None:
    vectorizer = make_vectorizer(spec, offline=True)
    words: list[str | Path] = []
    for head in [*HEADS, "projected"]:
        bundle = bundle_of(vectorizer, scenes, tmp_path, head)
        words += ["score", bundle, *scenes[:2], "--store", tmp_path / "new", THEN]
    assert not imported(*words[:-1]) & TRAINERS


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
