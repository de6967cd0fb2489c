"""What boosted heads start from: linear heads and the cosine, as likely as each is."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
from fitted_heads import Scripted, planted, validation_of
from makers import auc, features_of, fit, plant
from sklearn.linear_model import LogisticRegression

from tllboost.calibration import fit_calibration
from tllboost.conventions import noted
from tllboost.heads import linear
from tllboost.heads.base import Training, Validation
from tllboost.heads.fitted import FittedHead
from tllboost.heads.linear import linear_start


def training() -> Training:
    train = planted().split.train
    features = features_of(planted(), "train")
    return Training(features, train.label, train.weight, train.query)


def start_told(losses: list[float]) -> tuple[FittedHead, int]:
    """Return the start by scripted losses of four lists, and how many were asked."""
    told = Scripted(losses, *validation_of(planted())[:3])
    return linear_start(training(), told), told.n_asked


def by_hand() -> list[np.ndarray]:
    """Return test scores, calibrated: the cosine's, and of each C on scaled columns."""
    validation = planted().split.validation
    known = training()

    def columns(side: str) -> np.ndarray:
        features = features_of(planted(), side)
        return np.column_stack([np.asarray(features), features.cosine()])

    def calibrated(score: np.ndarray, held_out: np.ndarray) -> np.ndarray:
        curve = fit_calibration(held_out, validation.label, validation.weight)
        return curve.slope * score + curve.intercept

    train, held_out, test = map(columns, ("train", "validation", "test"))
    found = [calibrated(test[:, -1], held_out[:, -1])]
    scale = train.std(axis=0)
    scale[-1] /= 30  # a penalty on the cosine hardly counts
    for C in (1e-4, 1e-3, 1e-2, 1e-1):
        model = LogisticRegression(C=C, tol=1e-6, max_iter=1_000)
        model.fit(train / scale, known.label, known.weight)
        told = (model.decision_function(one / scale) for one in (test, held_out))
        found.append(calibrated(*told))
    return found


def test_heads_that_are_equally_likely_count_the_same() -> None:
    start, n_asked = start_told([1.0] * 5)
    score = start.decision_function(features_of(planted()))
    np.testing.assert_allclose(score, np.mean(by_hand(), axis=0), atol=0.02)
    assert n_asked == 5


@pytest.mark.parametrize("best", range(5))
def test_the_likeliest_is_the_start_and_no_weaker_penalty_is_tried(
    best: int,
) -> None:
    start, n_asked = start_told([2.0 * abs(at - best) for at in range(5)])
    score = start.decision_function(features_of(planted()))
    np.testing.assert_allclose(score, by_hand()[best], atol=0.1)
    assert n_asked == min(best + 2, 5)


@pytest.mark.parametrize("has_lists", [True, False])
def test_a_step_of_weights_that_are_no_numbers_has_no_share(
    has_lists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, steps = planted().split.validation, linear._steps
    query = pairs.query if has_lists else None
    told = validation_of(planted())._replace(query=query)

    def spoilt(*given: Any) -> Any:
        for step, (power, coef, intercept) in enumerate(steps(*given)):
            yield power, np.where(step < 2, coef, np.nan), intercept

    monkeypatch.setattr(linear, "_steps", spoilt)
    start = linear_start(training(), told)
    monkeypatch.setattr(linear, "_steps", lambda *given: islice(steps(*given), 2))
    for name, numbers in linear_start(training(), told).tensors().items():
        np.testing.assert_array_equal(start.tensors()[name], numbers)
    assert np.isfinite(start.part.coef).all()


def test_a_start_is_repeated_on_all_pairs_without_a_look_at_validation() -> None:
    told, notes = validation_of(planted()), []
    with noted(notes):
        first = linear_start(training(), told)
    wrong = Validation(told.features, 1 - told.label, told.weight)
    with noted(notes, repeat=True):
        again = linear_start(training(), wrong)
    assert first.tensors().keys() == again.tensors().keys()
    for name, numbers in first.tensors().items():
        np.testing.assert_array_equal(numbers, again.tensors()[name])
    other = linear_start(training(), wrong)
    assert (other.part.coef != first.part.coef).any()


@pytest.mark.parametrize("name", ["xgboost", "xgboost-rank", "lightgbm", "catboost"])
@pytest.mark.parametrize("merge", ["dot", "l1", "similarity"])
def test_boosted_heads_are_no_worse_than_the_linear_head(name: str, merge: str) -> None:
    pytest.importorskip(name.partition("-")[0])
    found = []
    for seed in range(4):
        data = plant(160, n_dims=16, n_signal=8, noise=0.8, seed=seed)
        heads = "cosine", "logistic", name
        fitted = [fit(data, head, merge, seed=seed, n_threads=1) for head in heads]
        pairs = data.split.test
        features = (one.features(data.vectors, pairs) for one in fitted)
        scores = (one.score(X) for one, X in zip(fitted, features, strict=True))
        found.append([auc(score, pairs) for score in scores])
    cosine, logistic, boosted = np.mean(found, axis=0)
    assert boosted > logistic - 0.015
    assert boosted > cosine - 0.01
