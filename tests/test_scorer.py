"""A merge and any head, fitted on one side, calibrated on another."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from makers import Planted, Witness, auc, features_of, fit, plant
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tllboost.calibration import best_threshold, fit_calibration
from tllboost.errors import DataError, UnknownNameError, UsageError
from tllboost.merges import PairFeatures
from tllboost.scoring import PairScorer, Scores
from tllboost.splits import PairSet

OTHERS = (
    "sklearn.linear_model:LogisticRegression",
    "sklearn.svm:SVC",
    "sklearn.ensemble:RandomForestClassifier",
    "sklearn.linear_model:Ridge",
    "xgboost:XGBClassifier",
    "xgboost:XGBRanker",
)


@cache
def planted() -> Planted:
    return plant(120, n_dims=16, n_signal=4, noise=0.4)


def with_labels(pairs: PairSet, label: np.ndarray) -> PairSet:
    return replace(pairs, label=label.astype(np.int8))


@pytest.mark.parametrize("head", OTHERS)
def test_anybodys_head_works_by_its_path(head: str) -> None:
    data = planted()
    scorer = fit(data, head, "l1", n_threads=2)
    score = scorer.score(features_of(data, merge="l1"))
    probability = scorer.probability(score)
    assert score.dtype == np.float64
    assert auc(score, data.split.test) > 0.7
    assert ((probability >= 0) & (probability <= 1)).all()


@pytest.mark.parametrize(
    "head",
    [LogisticRegression(C=0.01), make_pipeline(StandardScaler(), LogisticRegression())],
    ids=["estimator", "pipeline"],
)
def test_an_estimator_is_a_head(head: Any) -> None:
    data = planted()
    scorer = fit(data, head, "l1")
    assert auc(scorer.score(features_of(data, merge="l1")), data.split.test) > 0.8
    assert scorer.head_ is not head
    assert not hasattr(head, "classes_")


@pytest.mark.parametrize("merge", ["dot", "cosdot", "l1", "l2", "concat", "dot+l1"])
def test_every_merge_feeds_a_head(merge: str) -> None:
    data = planted()
    scorer = fit(data, "logistic", merge)
    features = features_of(data, merge=merge)
    assert scorer.fitted.n_features_in_ == features.shape[1]
    assert auc(scorer.score(features), data.split.test) > 0.7


class Listener(BaseEstimator, ClassifierMixin):
    """Somebody's ranker: keeps what it was given."""

    def fit(self, X: Any, y: Any, *, qid: Any = None) -> Listener:
        self.X_, self.y_, self.qid_ = X, y, qid
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.asarray(X)[:, 0]


def test_somebodys_ranker_is_given_the_lists_and_plain_arrays() -> None:
    train = planted().split.train
    head = fit(planted(), Listener()).head_
    assert isinstance(head.X_, np.ndarray)
    assert head.X_.shape == (len(train), 16)
    assert (head.qid_ == train.query).all()
    assert (np.diff(head.qid_) >= 0).all()


def test_a_head_of_ours_is_given_training_weights_and_the_validation_set() -> None:
    data = planted()
    head = fit(data, Witness()).head_
    assert isinstance(head.X_, PairFeatures)
    assert (head.X_.left == data.split.train.left).all()
    assert (head.given_["sample_weight"] == data.split.train.weight).all()
    assert (head.given_["query"] == data.split.train.query).all()
    validation = head.given_["validation"]
    assert (validation.features.left == data.split.validation.left).all()
    assert (validation.label == data.split.validation.label).all()


def test_calibration_and_threshold_come_from_validation_alone() -> None:
    data = planted()
    scorer = fit(data, "logistic")
    validation = data.split.validation
    score = scorer.score(features_of(data, "validation"))
    judged = (score, validation.label, validation.weight)
    assert scorer.threshold_ == best_threshold(*judged)
    assert scorer.calibration_ == fit_calibration(*judged)


def test_validation_pairs_that_weigh_nothing_choose_nothing() -> None:
    data = planted()
    validation = data.split.validation
    rng = np.random.default_rng(0)
    ghosts = replace(
        validation,
        label=rng.permutation(validation.label),
        weight=np.zeros(len(validation)),
    )
    haunted = data._replace(split=replace(data.split, validation=validation + ghosts))
    for head in ("logistic", "xgboost"):
        plain, other = fit(data, head), fit(haunted, head)
        assert plain.threshold_ == other.threshold_
        assert plain.calibration_ == other.calibration_
        test = features_of(data)
        np.testing.assert_array_equal(plain.score(test), other.score(test))


def test_probabilities_rank_as_scores_and_even_odds_stand_near_the_threshold() -> None:
    data = planted()
    scorer = fit(data, "logistic")
    score = np.sort(scorer.score(features_of(data)))
    assert (np.diff(scorer.probability(score)) >= 0).all()
    at_threshold = scorer.probability(np.array([scorer.threshold_]))
    assert 0.2 < at_threshold[0] < 0.8


def test_the_order_of_training_pairs_does_not_matter_to_a_linear_head() -> None:
    data = planted()
    order = np.random.default_rng(0).permutation(len(data.split.train))
    mixed = data._replace(split=replace(data.split, train=data.split.train.take(order)))
    for head in ("logistic", "linear-svm", "naive-bayes"):
        one, other = (fit(d, head).score(features_of(data)) for d in (data, mixed))
        assert np.corrcoef(one, other)[0, 1] > 0.999


def test_each_row_tells_its_own_score() -> None:
    score, none = np.array([2.0, -1.0, np.nan]), np.array(["", "", "a: gone"], object)
    chance = 1 / (1 + np.exp(-score))
    told = Scores(score, chance, score > 0, {"a": "gone"}, none, 0.5)
    rows = told.rows([("x", "y"), ("x", "z"), ("x", "a")])
    assert [row["score"] for row in rows] == [2.0, -1.0, None]
    assert [row["decision"] for row in rows] == ["match", "no match", "error"]


@pytest.mark.parametrize("side", ["train", "validation"])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_can_not_be_learned(side: str, label: int) -> None:
    data = planted()
    pairs = getattr(data.split, side)
    changed = replace(pairs, label=np.full(len(pairs), label, dtype=np.int8))
    broken = data._replace(split=replace(data.split, **{side: changed}))
    name = {"train": "training"}.get(side, side)
    with pytest.raises(DataError, match=f"the {name} set has matches only, or none"):
        fit(broken, "logistic")


class Spoilt(Witness):
    """A head whose scores are not all numbers."""

    def decision_function(self, X: Any) -> np.ndarray:
        score = np.asarray(X)[:, 0].copy()
        score[:3] = [np.nan, np.inf, -np.inf]
        return score


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="gave 3 scores that are not finite numbers"):
        fit(planted(), Spoilt())


class Turned(ClassifierMixin, BaseEstimator):
    """Somebody's head, which lists its classes in an order of its own."""

    def __init__(self, method: str = "", classes: tuple = (0, 1), n_dims: int = 2):
        self.method, self.classes, self.n_dims = method, classes, n_dims

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        if name != self.__dict__.get("method"):
            raise AttributeError(name)
        return self.told

    def fit(self, X: Any, y: Any) -> Turned:
        self.inner_ = LogisticRegression().fit(np.asarray(X), y)
        if self.classes:
            self.classes_ = np.array(self.classes)
        return self

    def told(self, X: Any) -> np.ndarray:
        chance = self.inner_.predict_proba(np.asarray(X))[:, 1]
        last = chance if (self.classes or (0, 1))[-1] == 1 else 1 - chance
        if self.n_dims == 1:
            return 2 * last - 1 if self.method == "decision_function" else last
        return last[:, None] if self.n_dims == 0 else np.stack([1 - last, last], 1)


@pytest.mark.parametrize("method", ["predict_proba", "decision_function"])
@pytest.mark.parametrize("classes", [(0, 1), (1, 0), (False, True), (1.0, 0.0), ()])
@pytest.mark.parametrize("n_dims", [0, 1, 2])
def test_the_classes_of_a_head_say_which_of_its_numbers_is_a_match(
    method: str, classes: tuple, n_dims: int
) -> None:
    data = planted()
    scorer = fit(data, Turned(method, classes, n_dims), "l1")
    score = scorer.score(features_of(data, merge="l1"))
    assert auc(score, data.split.test) > 0.8
    assert not scorer.calibration_.is_flat


def test_a_head_that_knows_no_match_is_refused() -> None:
    with pytest.raises(UsageError, match=r"classes_ \['no', 'yes'\], none of which is"):
        fit(planted(), Turned("predict_proba", ("no", "yes")), "l1")


class Wide(Witness):
    """A head that scores every feature."""

    def decision_function(self, X: Any) -> np.ndarray:
        return np.asarray(X)


def test_a_score_a_pair_is_asked_for() -> None:
    with pytest.raises(UsageError, match=r"gave scores of shape \(\d+, 16\) for"):
        fit(planted(), Wide())


def test_wrong_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'logistic'"):
        fit(planted(), "logistics")
    with pytest.raises(UnknownNameError, match="unknown merge 'dots'"):
        PairScorer("dots").features(planted().vectors, planted().split.test)


def test_a_scorer_stores_its_arguments_and_nothing_else() -> None:
    scorer = PairScorer("l1", "xgboost", seed=3, n_threads=2)
    assert vars(scorer) == {
        "merge": "l1",
        "head": "xgboost",
        "seed": 3,
        "n_threads": 2,
        "references": None,
    }
