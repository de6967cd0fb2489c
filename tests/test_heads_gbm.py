"""LightGBM and CatBoost as heads: their trees as numbers, from the cosine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import PAIRS, make_classifier, save, write_npz
from fitted_heads import planted
from makers import auc, features_of, fit
from sklearn.base import clone

from tllboost.classifier import load_bundle
from tllboost.heads import make_head
from tllboost.heads.base import Validation
from tllboost.heads.fitted import Trees
from tllboost.heads.gbm import catboost_nodes, lightgbm_nodes

EITHER = pytest.mark.parametrize("name", ["lightgbm", "catboost"])
WITH_NAN = pytest.mark.parametrize("share", [0.0, 0.1], ids=["", "nan"])


def rows(share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features of few values, so that many lie on a border, and labels."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(300, 8)).round(1).astype(np.float32)
    y = (X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=300) > 0).astype(int)
    X[rng.random(X.shape) < share] = np.nan
    return X, y


@WITH_NAN
def test_trees_of_lightgbm_score_as_it_does(share: float) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    X, y = rows(share)
    told = {"objective": "binary", "verbosity": -1, "num_threads": 1, "max_depth": 5}
    grown = lightgbm.train(told, lightgbm.Dataset(X, y), num_boost_round=20)
    trees = Trees.stacked(lightgbm_nodes(grown.model_to_string()), X.shape[1])
    assert len(trees) == 20
    for new in (X, rows(0.3, seed=1)[0]):
        wanted = grown.predict(new, raw_score=True)
        np.testing.assert_allclose(trees(new), wanted, rtol=1e-6, atol=1e-6)
    assert np.isfinite(trees.threshold).all()
    Trees.of(trees.tensors())  # as a bundle reads them


@WITH_NAN
@pytest.mark.parametrize("mode", ["Min", "Max"])
def test_trees_of_catboost_score_as_it_does(
    share: float, mode: str, tmp_path: Path
) -> None:
    catboost = pytest.importorskip("catboost")
    X, y = rows(share)
    model = catboost.CatBoost(
        {
            "loss_function": "Logloss",
            "iterations": 20,
            "depth": 4,
            "nan_mode": mode,
            "thread_count": 1,
            "logging_level": "Silent",
            "allow_writing_files": False,
        }
    )
    model.fit(catboost.Pool(X, y))
    model.save_model(str(tmp_path / "model.json"), format="json")
    written = json.loads((tmp_path / "model.json").read_text())
    trees = Trees.stacked(catboost_nodes(written), X.shape[1])
    assert len(trees) == 20
    for new in (X, rows(share and 0.3, seed=1)[0]):
        wanted = model.predict(new, prediction_type="RawFormulaVal")
        np.testing.assert_allclose(trees(new), wanted, rtol=1e-6, atol=1e-6)
    Trees.of(trees.tensors())


def test_a_catboost_model_is_read_without_the_library() -> None:
    """Of two questions the first is the last bit of a leaf's number."""
    splits = [
        {"float_feature_index": 1, "border": 0.5},
        {"float_feature_index": 0, "border": -1.0},
    ]
    leaves = [1.0, 2.0, 3.0, 4.0]
    treats = enumerate(["AsFalse", "AsTrue"])
    features = [{"feature_index": i, "nan_value_treatment": how} for i, how in treats]
    model: dict[str, Any] = {
        "features_info": {"float_features": features},
        "oblivious_trees": [
            {"splits": splits, "leaf_values": leaves},
            {"splits": None, "leaf_values": [10.0]},
        ],
    }
    trees = Trees.stacked(catboost_nodes(model), 2)
    nan = np.nan
    X = np.float32([[-1, 0.5], [-1, 0.6], [0, 0.5], [0, 0.6], [nan, 0], [-1, nan]])
    assert trees(X).tolist() == [11, 12, 13, 14, 11, 12]


@EITHER
def test_a_head_adds_to_the_cosine_and_beats_it(name: str) -> None:
    pytest.importorskip(name)
    data = planted()
    scorer, cosine = (fit(data, one, n_threads=1) for one in (name, "cosine"))
    pairs, features = data.split.test, features_of(data)
    assert scorer.head_.fitted_.slope > 0
    assert auc(scorer.score(features), pairs) >= auc(cosine.score(features), pairs)
    again = fit(data, name, n_threads=1).score(features)
    np.testing.assert_array_equal(again, scorer.score(features))


@EITHER
def test_where_validation_gains_nothing_no_tree_is_kept(name: str) -> None:
    pytest.importorskip(name)
    X, y = rows(0)
    validation = Validation(X, 1 - y, np.ones(len(y)))
    head = make_head(name, n_threads=1).fit(X, y, validation=validation)
    assert head.fitted_.part is None
    assert not head.decision_function(X).any()
    assert not make_head(name).fit(np.ones((9, 2)), np.arange(9) % 2).fitted_.part


@EITHER
def test_a_head_is_quiet_and_writes_no_files(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    X, y = rows(0)
    head = make_head(f"{name}?n_estimators=5&max_depth=2", n_threads=1).fit(X, y)
    assert clone(head).get_params()["max_depth"] == 2
    assert len(head.fitted_.part) == 5
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


@EITHER
def test_a_bundle_scores_as_the_head_does_without_its_library(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    head = f"{name}?n_estimators=20"
    model = make_classifier(f"vectors:{write_npz(tmp_path / 'net.npz')}", head)
    scores = model.decision_function(PAIRS)
    bundle = save(tmp_path / "best.tllb", model)
    monkeypatch.setitem(__import__("sys").modules, name, None)
    loaded = load_bundle(bundle)
    assert loaded.get_params()["head"] == head
    np.testing.assert_array_equal(loaded.decision_function(PAIRS), scores)
