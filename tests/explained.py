"""Classifiers and pairs of images to explain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_image

from tllboost.calibration import Calibration
from tllboost.classifier import PairClassifier
from tllboost.demo import make_scenes
from tllboost.scoring import FittedCell, PairScorer, score_pair
from tllboost.vectorizers import make_vectorizer

GRID = 4


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    return make_scenes(folder, n_scenes=40, n_views=2, size=96).parent


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two images without loss, so that a covered one can be written to a file."""
    left = write_image(tmp_path / "left.png", seed=1, size=(96, 80))
    return left, write_image(tmp_path / "right.png", seed=2, size=(70, 90))


def looking(vectorizer: Any, merge: str = "dot", head: Any = "cosine") -> FittedCell:
    """Return a cell whose head needs no training, with a curve of its own."""
    scorer = PairScorer(merge, head)
    from tllboost.heads.base import CosineHead

    scorer.head_ = CosineHead()
    scorer.calibration_, scorer.threshold_ = Calibration(8.0, -3.0), 0.4
    return FittedCell(make_vectorizer(vectorizer), None, scorer)


def fitted(scenes: Path, vectorizer: str, **options: Any) -> PairClassifier:
    """Fit on two dozen pairs of scenes."""
    X = [[scenes / f"scene_{i:04d}_{v}.jpg" for v in (0, 1)] for i in range(1, 25)]
    model = PairClassifier(vectorizer, validation_fraction=0.3, n_jobs=1, **options)
    return model.fit(X, [1] * len(X))


def log_odds(classifier: PairClassifier, left: Path, right: Path) -> float:
    """Score a pair as ``tllboost score`` does."""
    score = score_pair(classifier, left, right)["score"]
    return float(classifier.calibration_.log_odds(np.array(score)))
