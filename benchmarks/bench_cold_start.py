"""How long the first word takes: help, and the score of two new images.

Everything is a process of its own, from start to end. The network of the bundle was
exported before, as it is when the images that a head learns from are vectorized.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
from bench import compare, limit, options
from fetch_data import SHARED

TLLBOOST = (sys.executable, "-m", "tllboost")
FIRST = 0.75  # seconds that the first answer may take

# As the READMEs of timm and XGBoost have it.
PLAIN = """\
import sys

import timm
import torch
import xgboost
from PIL import Image

weights, trees, left, right = sys.argv[1:]
model = timm.create_model("mobilenetv2_100", num_classes=0, checkpoint_path=weights)
model = model.eval()
data_config = timm.data.resolve_model_data_config(model)
transforms = timm.data.create_transform(**data_config, is_training=False)
with torch.no_grad():
    a, b = (
        model(transforms(Image.open(path).convert("RGB")).unsqueeze(0)).numpy()
        for path in (left, right)
    )
booster = xgboost.Booster()
booster.load_model(trees)
print(booster.predict(xgboost.DMatrix(a * b), output_margin=True)[0])
"""


def output(*command: str | Path) -> str:
    """Return what a command prints."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def make_bundle(folder: Path, weights: Path, images: list[Path]) -> tuple[Path, Path]:
    """Fit XGBoost on pairs of images; return the bundle and the trees alone."""
    import xgboost

    from tllboost.bundle import save_bundle
    from tllboost.calibration import Calibration
    from tllboost.classifier import ensemble
    from tllboost.heads.boosting import XGBoostHead
    from tllboost.merges import PairFeatures
    from tllboost.scoring import FittedCell, PairScorer
    from tllboost.vectorizers import make_vectorizer
    from tllboost.vectorizing import vectorize

    vectorizer = make_vectorizer(f"timm:mobilenetv2_100@{weights}")
    vectors = vectorize(vectorizer, images, store=folder / "store").vectors
    left, right = np.array(list(combinations(range(len(images)), 2))).T
    features = PairFeatures(vectors, left, right, "dot")
    scorer = PairScorer("dot", "xgboost")
    head = XGBoostHead(start="none", n_estimators=100)
    scorer.head_ = head.fit(features, (left // 4 == right // 4).astype(int))
    scorer.calibration_, scorer.threshold_ = Calibration(1.0, 0.0), 0.0
    save_bundle(
        folder / "best.tllb",
        ensemble([FittedCell(vectorizer, None, scorer)]),
        cell={"head": "xgboost"},
        metrics={},
        golden=[(vectors[:4], vectors[4:8])],
    )
    trees = folder / "trees.ubj"
    label = left // 4 == right // 4
    matrix = xgboost.DMatrix(np.asarray(features), label)
    parameters = {"max_depth": 2, "objective": "binary:logistic", "base_score": 0.5}
    xgboost.train(parameters, matrix, 100).save_model(trees)
    return folder / "best.tllb", trees


def new_stores(folder: Path, n_stores: int) -> list[Path]:
    """Return stores that keep the network and no vector."""
    stores = [folder / f"new{i}" for i in range(n_stores)]
    for store in stores:
        shutil.copytree(folder / "store" / "networks", store / "networks")
    return stores


def is_help(ours: str, _: str) -> None:
    """Raise unless all commands are told."""
    assert "vectorize" in ours, ours
    assert "score" in ours, ours


def are_scores(ours: str, peer: str) -> None:
    """Raise unless both gave a number, of as many trees as the other's."""
    assert np.isfinite([json.loads(ours)["score"], float(peer)]).all(), (ours, peer)


def main() -> None:
    """Measure help, then scores."""
    said = options(__doc__)
    compare(
        "cold_start_help",
        lambda: output(*TLLBOOST, "--help"),
        lambda: output(sys.executable, "-c", "import typer"),
        check=is_help,
        runs=said.runs if said.quick else 2 * said.runs,
        bar=0.5,
        what="`tllboost --help`",
        peer_is='`python -c "import typer"`',
        folder=said.folder,
    )
    weights = SHARED / "weights" / "mobilenetv2_100.safetensors"
    if not weights.is_file():
        told = f"no {weights} (see docs/data.md): scores are not measured"
        print(told, file=sys.stderr)
        return
    images = sorted((SHARED / "data" / "ukbench").glob("*.jpg"))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        bundle, trees = make_bundle(folder, weights, images[:-2])
        plain = folder / "plain.py"
        plain.write_text(PLAIN)
        new = images[-2:]
        stores = new_stores(folder, 2 * said.runs)

        def ours() -> str:
            words = (*TLLBOOST, "score", bundle, *new, "--json")
            return output(*words, "--weights", weights, "--store", stores.pop())

        def again() -> str:
            words = (*TLLBOOST, "score", bundle, *new, "--json")
            return output(*words, "--weights", weights, "--store", folder / "store")

        def peer() -> str:
            return output(sys.executable, plain, weights, trees, *new)

        common = {"check": are_scores, "runs": said.runs, "folder": said.folder}
        common["warm_up"] = False  # each run is a process of its own
        compare(
            "cold_start_score",
            ours,
            peer,
            bar=2,
            what="`tllboost score` of two new images, MobileNetV2 + XGBoost",
            profile="neither XGBoost nor scikit-learn is imported: trees are walked in "
            "numpy",
            peer_is="a torch + timm + xgboost script",
            **common,
        )
        limit(
            "cold_start_score_new",
            ours,
            at_most=FIRST,
            runs=said.runs,
            warm_up=False,
            what="`tllboost score` of two new images, MobileNetV2 + XGBoost",
            profile="Python and the command line, numpy, ONNX Runtime and its network, "
            "and a process that decodes: half of it imports",
            folder=said.folder,
        )
        limit(
            "cold_start_score_stored",
            again,
            at_most=None,
            runs=said.runs,
            what="`tllboost score` of two images whose vectors the store has",
            folder=said.folder,
        )


if __name__ == "__main__":
    main()
