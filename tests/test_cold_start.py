"""What a command must not wait for: libraries that it has no use for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from tllboost.bundle import save_bundle
from tllboost.calibration import Calibration
from tllboost.classifier import ensemble
from tllboost.cli.app import SUMMARIES, app
from tllboost.demo import make_scenes
from tllboost.heads.linear import LogisticHead
from tllboost.merges import PairFeatures
from tllboost.scoring import FittedCell, PairScorer
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizing import vectorize

MODELS = {"torch", "xgboost", "sklearn", "timm", "open_clip", "onnxruntime", "skimage"}
HEAVY = MODELS | {"scipy", "pandas", "matplotlib", "safetensors", "mlflow"}


def imported(*words: str) -> set[str]:
    """Run a command in a process of its own; return what it has imported."""
    code = (
        "import sys\n"
        "from tllboost.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
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


def bundle_of(spec: str, folder: Path) -> Path:
    """Fit a head on a few images, and save it; their vectors go to a store."""
    scenes = make_scenes(folder / "scenes", n_scenes=3, n_views=2).parent
    images = sorted(scenes.glob("*.jpg"))
    vectorizer = make_vectorizer(spec, offline=True)
    vectors = vectorize(vectorizer, images, store=folder / "store").vectors
    left, right = np.array([0, 2, 4, 0, 2]), np.array([1, 3, 5, 3, 5])
    scorer = PairScorer("dot", "logistic")
    features = PairFeatures(vectors, left, right)
    scorer.head_ = LogisticHead().fit(features, np.array([1, 1, 1, 0, 0]))
    scorer.calibration_, scorer.threshold_ = Calibration(1.0, 0.0), 0.0
    save_bundle(
        folder / "best.tllb",
        ensemble([FittedCell(vectorizer, None, scorer)]),
        cell={"head": "logistic"},
        metrics={},
        golden=[(vectors[left], vectors[right])],
    )
    return folder / "best.tllb"


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
    spec: str, shared: Path, tmp_path: Path
) -> None:
    bundle = bundle_of(spec.format(shared / "weights"), tmp_path)
    new = sorted((shared / "data" / "ukbench").glob("*.jpg"))[:2]
    words = ["score", str(bundle), *map(str, new), "--store", str(tmp_path / "store")]
    first = imported(*words)
    assert "onnxruntime" in first
    assert not first & {"torch", "timm", "xgboost"}
    again = imported(*words)
    assert not again & {"onnxruntime", "onnx", "torch", "timm", "xgboost"}
