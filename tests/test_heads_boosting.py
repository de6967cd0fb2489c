"""Boosted heads: where they start, what trees add, and trees of strangers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xgboost
from fitted_heads import (
    Scripted,
    arrays,
    noise_of_pairs,
    planted,
    scores,
    validation_of,
)
from makers import Planted, auc, features_of, fit, plant

from tllboost.calibration import fit_calibration
from tllboost.errors import UsageError
from tllboost.heads.base import Validation
from tllboost.heads.boosting import (
    XGBoostHead,
    XGBoostRankHead,
    choose_bins,
    trees_of,
)
from tllboost.heads.fitted import FittedHead, Linear, Trees
from tllboost.merges import PairFeatures
from tllboost.splits import Protocol


def test_boosting_starts_where_it_is_told() -> None:
    train, features = planted().split.train, features_of(planted(), "train")
    told = {"validation": validation_of(planted())}
    for start in ("linear", "cosine", "frozen", "none"):
        head = XGBoostHead(start=start, n_estimators=3)
        head.fit(features, train.label, **told)
        assert head.start_ == start
        assert (head.fitted_.slope == 0) == (start == "none")
        assert head.fitted_.part.coef.any() == (start == "linear")
    assert XGBoostHead(n_estimators=3).fit(*arrays()[:2]).start_ == "none"


@pytest.mark.parametrize("start", ["auto", "linear"])
def test_without_validation_boosting_starts_from_the_cosine(start: str) -> None:
    train, features = planted().split.train, features_of(planted(), "train")
    head = XGBoostHead(start=start, n_estimators=3).fit(features, train.label)
    assert head.start_ == "cosine"
    assert not len(head.fitted_.part.coef)


def projected(data: Planted, side: str, spoilt: str) -> PairFeatures:
    """Return features with vectors before and after, one of them noise."""
    pairs = getattr(data.split, side)
    noise = np.random.default_rng(9).normal(size=data.vectors.shape)
    before, after = data.vectors, noise.astype(np.float32)
    if spoilt == "frozen":
        before, after = after, before
    return PairFeatures(after, pairs.left, pairs.right, "dot", frozen=before)


@pytest.mark.parametrize("head", [XGBoostHead, XGBoostRankHead])
@pytest.mark.parametrize(
    ("spoilt", "start"), [("frozen", "linear"), ("projected", "frozen")]
)
def test_boosting_starts_from_the_vectors_that_validation_likes(
    head: type, spoilt: str, start: str
) -> None:
    data = plant(240, n_dims=16, n_signal=8, noise=0.3)
    train, validation = data.split.train, data.split.validation
    held_out = projected(data, "validation", spoilt)
    learner = head(n_jobs=1).fit(
        projected(data, "train", spoilt),
        train.label,
        sample_weight=train.weight,
        query=train.query,
        validation=Validation(
            held_out, validation.label, validation.weight, validation.query
        ),
    )
    assert learner.start_ == start
    test = projected(data, "test", spoilt)
    score = learner.decision_function(test)
    cosine = test.cosine(frozen=start == "frozen")
    assert auc(score, data.split.test) > auc(cosine, data.split.test) - 0.05
    again = FittedHead.of(learner.fitted_.kind, learner.fitted_.tensors())
    assert again.is_frozen == (start == "frozen")
    np.testing.assert_array_equal(again.decision_function(test), score)
    if not learner.fitted_.part:
        assert (np.diff(score[np.argsort(cosine, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("start", ["cosine", "frozen"])
def test_a_start_that_is_told_is_kept(start: str) -> None:
    data = planted()
    features = projected(data, "train", "projected")
    label = data.split.train.label
    head = XGBoostHead(start=start, n_estimators=0).fit(features, label)
    cosine = features.cosine() if start == "cosine" else features.cosine(frozen=True)
    curve = fit_calibration(cosine, label)
    np.testing.assert_allclose(
        head.decision_function(features), curve.log_odds(cosine), atol=1e-5
    )


def test_trees_add_what_their_start_has_missed() -> None:
    features, train = features_of(planted(), "train"), planted().split.train
    added = {}
    for start in ("cosine", "none"):
        head = XGBoostHead(start=start, n_estimators=40)
        head.fit(features, train.label, sample_weight=train.weight)
        margin = head.decision_function(features)
        if start == "cosine":
            margin -= head.fitted_.slope * features.cosine() + head.fitted_.intercept
        added[start] = margin
    # What the cosine knows already is not learned again.
    cosine = features.cosine()
    known = {s: np.corrcoef(cosine, m)[0, 1] for s, m in added.items()}
    assert known["cosine"] < known["none"] - 0.1


@pytest.mark.parametrize(("n_jobs", "n_threads"), [(3, 3), (None, 0)])
def test_trees_are_grown_by_as_many_threads_as_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, n_jobs: int | None, n_threads: int
) -> None:
    told: list[int] = []

    class Told(xgboost.Booster):
        def __init__(self, params: Any = None, *others: Any, **more: Any) -> None:
            told.extend([params["nthread"]] if params else [])
            super().__init__(params, *others, **more)

    monkeypatch.setattr("xgboost.Booster", Told)
    features, train = features_of(planted(), "train"), planted().split.train
    head = XGBoostHead(start="cosine", n_estimators=1, n_jobs=n_jobs)
    head.fit(features, train.label)
    assert told == [n_threads]


@pytest.mark.parametrize("start", ["linear", "cosine"])
@pytest.mark.parametrize("head", ["xgboost", "xgboost-rank"])
def test_boosting_grows_no_tree_that_says_less_than_the_cosine(
    head: str, start: str
) -> None:
    data, head = planted(), head if start == "linear" else f"{head}?start={start}"
    scorer = fit(data, head, merge=noise_of_pairs, n_threads=1)
    score = scorer.score(features_of(data, merge=noise_of_pairs))
    assert scorer.head_.start_ == start
    cosine = auc(scores("cosine"), data.split.test)
    if not scorer.fitted.part:
        order = np.argsort(scores("cosine"), kind="stable")
        assert (np.diff(score[order]) >= 0).all()
    assert auc(score, data.split.test) > cosine - 0.05
    found = []
    for first in range(5):
        # Products of dimensions that never agree say nothing either.
        def noise(left: Any, right: Any, first: int = first) -> Any:
            return left[:, first : first + 6] * right[:, first + 6 : first + 12]

        scorer = fit(data, head, merge=noise, n_threads=1)
        score = scorer.score(features_of(data, merge=noise))
        assert scorer.head_.start_ == start
        found.append(auc(score, data.split.test))
    assert np.mean(found) > cosine - 0.04


@pytest.mark.parametrize("head", [XGBoostHead, XGBoostRankHead])
def test_a_start_alone_ranks_as_the_cosine_and_is_kept(head: type) -> None:
    data = planted()
    scorer = fit(data, head(start="cosine", n_estimators=0))
    features = features_of(data)
    assert not scorer.fitted.part
    order = np.argsort(features.cosine(), kind="stable")
    assert (np.diff(scorer.score(features)[order]) >= 0).all()
    again = FittedHead.of("trees", scorer.fitted.tensors())
    np.testing.assert_array_equal(
        again.decision_function(features), scorer.score(features)
    )


@pytest.mark.parametrize("n_estimators", [1, 5, 14])
@pytest.mark.parametrize("validated", [True, False])
def test_no_more_trees_grow_than_asked(n_estimators: int, validated: bool) -> None:
    data = planted()
    head = XGBoostHead(n_estimators=n_estimators, start="none").fit(
        features_of(data, "train"),
        data.split.train.label,
        validation=validation_of(data) if validated else None,
    )
    n_trees = len(head.fitted_.part)
    assert n_trees <= n_estimators
    assert validated or n_trees == n_estimators


@pytest.mark.parametrize("objective", ["binary:logistic", "rank:pairwise"])
@pytest.mark.parametrize("max_depth", [1, 2, 6])
@pytest.mark.parametrize("seed", range(3))
def test_trees_add_up_to_the_last_bit_as_xgboosts_own(
    objective: str, max_depth: int, seed: int
) -> None:
    import xgboost

    rng = np.random.default_rng(seed)
    X = rng.normal(size=(600, 12)).astype(np.float32)
    X[:, :3] = np.round(X[:, :3])  # many values stand on a threshold
    X[rng.random(X.shape) < 0.1] = np.nan
    y = (np.nan_to_num(X[:, 0]) + rng.normal(size=600) > 0).astype(int)
    matrix = xgboost.DMatrix(X, y, group=[20] * 30)
    base_score = 0.5 if objective == "binary:logistic" else 0.0
    parameters = {"objective": objective, "base_score": base_score, "seed": seed}
    booster = xgboost.train({**parameters, "max_depth": max_depth}, matrix, 60)
    trees = Trees.of(trees_of(booster, np.arange(12), 12, np.ones(60)).tensors())
    for rows in (X, np.nextafter(X, np.float32(np.inf)), X[:1], X[:0]):
        margin = booster.inplace_predict(rows, predict_type="margin")
        # Of no rows XGBoost 3.4 gives no columns either.
        np.testing.assert_array_equal(trees(rows), margin.reshape(len(rows)))
    assert trees.depth <= max_depth


def test_an_array_changed_in_place_is_read_again() -> None:
    X, y, _ = arrays()
    X = X.copy()
    XGBoostHead(n_estimators=5).fit(X, y)
    X[:] = np.random.default_rng(0).permutation(X)
    once, anew = (
        XGBoostHead(n_estimators=5).fit(data, y).decision_function(X)
        for data in (X, X.copy())
    )
    np.testing.assert_array_equal(once, anew)


def test_boosted_heads_share_a_matrix_and_do_not_disturb_each_other() -> None:
    data = planted()
    train, features = data.split.train, features_of(data, "train")

    def grow(kind: type) -> np.ndarray:
        head = kind(n_estimators=5).fit(
            features, train.label, sample_weight=train.weight, query=train.query
        )
        return head.decision_function(features)

    first = {kind: grow(kind) for kind in (XGBoostHead, XGBoostRankHead)}
    for kind in (XGBoostRankHead, XGBoostHead):
        np.testing.assert_array_equal(grow(kind), first[kind])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "cosines"}, "start='cosines' is none of auto, linear, cosine,"),
        ({"start": "linear"}, "needs PairFeatures"),
        ({"start": "cosine"}, "needs PairFeatures"),
        ({"start": "frozen"}, "needs PairFeatures"),
    ],
)
def test_a_start_that_can_not_be_is_refused(options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        XGBoostHead(**options).fit(*arrays()[:2])


def test_the_ranking_head_needs_its_lists_together() -> None:
    X, y, _ = arrays()
    with pytest.raises(UsageError, match="needs the ranking list of each"):
        XGBoostRankHead().fit(X, y)
    with pytest.raises(UsageError, match="next to each other"):
        XGBoostRankHead().fit(X, y, query=np.arange(len(y)) % 5)


@pytest.mark.parametrize("n_rows", [100, 5_000, 100_000])
def test_bins_grow_fewer_with_the_data(n_rows: int) -> None:
    bins = [choose_bins(n_rows, n_columns) for n_columns in (10, 500, 4_000)]
    assert bins == sorted(bins, reverse=True)
    assert all(16 <= one <= 256 for one in bins)


GOOD = {
    "roots": np.array([0, 3], np.int32),
    "left": np.array([1, 1, 2, 3], np.int32),
    "right": np.array([2, 1, 2, 3], np.int32),
    "feature": np.array([1, 0, 0, 0], np.int32),
    "threshold": np.array([0.5, 0, 0, 0], np.float32),
    "nan_left": np.array([1, 0, 0, 0], np.uint8),
    "value": np.array([0.5, 0.0, 1.0, 0.5], np.float32),
    "width": np.array([2], np.int32),
}


def test_good_trees_are_taken_and_walked() -> None:
    rows = np.float32([[9, 0.4], [9, 0.5], [9, 0.6], [9, np.nan]])
    assert Trees.of(GOOD)(rows).tolist() == [0.5, 1.5, 1.5, 0.5]


def test_trees_that_were_grown_on_linear_weights_add_to_them() -> None:
    rows = np.float32([[9, 0.4], [9, 0.5]])
    trees = Trees.of(GOOD | {"coef": np.float32([1, 10])})
    assert trees(rows).tolist() == [0.5 + 9 + 4, 1.5 + 9 + 5]
    again = FittedHead.of("trees", FittedHead(trees).tensors())
    np.testing.assert_array_equal(again.decision_function(rows), trees(rows))
    assert Trees.stacked([], 2).coef.shape == (0,)
    linear = FittedHead(Linear(np.float32([1, 10])))
    assert linear.grown(Trees.stacked([], 2)) is linear
    np.testing.assert_array_equal(linear.grown(Trees.of(GOOD)).part(rows), trees(rows))


def changed(name: str, place: int, value: float) -> dict[str, Any]:
    column = GOOD[name].copy()
    column[place] = value
    return {name: column}


@pytest.mark.parametrize(
    "tampered",
    [
        changed("left", 0, 4),
        changed("left", 0, -1),
        changed("left", 0, 0),
        changed("left", 0, 2),
        changed("right", 0, 2**30),
        changed("right", 2, 0),
        changed("left", 3, 1),
        changed("roots", 0, 4),
        changed("roots", 1, -1),
        changed("roots", 1, 0),
        changed("feature", 0, 2),
        changed("feature", 2, -1),
        changed("width", 0, 0),
        {"roots": GOOD["roots"][:, None]},
        {"roots": GOOD["roots"].astype(np.float64)},
        {"left": GOOD["left"].astype(np.float32)},
        {"left": GOOD["left"].astype(np.uint32)},
        {"left": GOOD["left"][:3]},
        {"right": GOOD["right"][:3]},
        {"feature": GOOD["feature"][:3]},
        {"value": GOOD["value"][:3]},
        {"value": GOOD["value"].astype(np.int32)},
        {"threshold": GOOD["threshold"][:, None]},
        {"threshold": GOOD["threshold"].astype(np.float64)},
        {"width": np.array([2, 2], np.int32)},
        {"width": np.int32(2)},
        {"coef": np.ones(1, np.float32)},
        {"coef": np.ones((1, 2), np.float32)},
        {"coef": np.ones(2)},
        {name: GOOD[name][:0] for name in GOOD if name not in ("roots", "width")},
        # Trees that come back to their root, by one node or by many.
        {"left": np.array([1, 0, 2, 3], np.int32)},
        {"right": np.array([2, 1, 0, 3], np.int32), "left": GOOD["left"]},
    ],
)
def test_tampered_trees_are_refused(tampered: dict[str, Any]) -> None:
    with pytest.raises((ValueError, IndexError)):
        Trees.of(GOOD | tampered)


def test_trees_too_deep_to_be_a_models_are_refused() -> None:
    nodes = np.arange(5_001)
    inner = nodes % 2 == 0
    left = np.where(inner & (nodes < 5_000), nodes + 1, nodes)
    right = np.where(inner & (nodes < 5_000), nodes + 2, nodes)
    chain = {
        "roots": np.array([0], np.int32),
        "left": left.astype(np.int32),
        "right": right.astype(np.int32),
        "feature": np.zeros(5_001, np.int32),
        "threshold": np.zeros(5_001, np.float32),
        "nan_left": np.zeros(5_001, np.uint8),
        "value": np.zeros(5_001, np.float32),
        "width": np.array([1], np.int32),
    }
    with pytest.raises(ValueError, match=r"deeper than 1,000 splits"):
        Trees.of(chain)


def test_more_matches_than_one_a_query_are_no_problem_for_the_ranking_head() -> None:
    data = plant(
        60, n_dims=12, n_signal=4, protocol=Protocol(n_negatives=2, n_distractors=5)
    )
    train = data.split.train
    label = train.label.copy()
    label[1::3] = 1
    features = features_of(data, "train")
    head = XGBoostRankHead(n_estimators=5).fit(features, label, query=train.query)
    assert np.isfinite(head.decision_function(features)).all()


@pytest.mark.parametrize(
    "losses",
    [
        [5, 4, 3, 4, 4, 4],  # ends thirty trees behind the best
        [5, 4, 4, 4, 3, 4, 4, 4],
        [5, 6, 6, 6],
        [5, 4, 3, 2],  # no more than asked
    ],
)
def test_trees_grow_until_validation_gains_no_more(losses: list[float]) -> None:
    X, y, _ = arrays()
    most = 30 if losses[-1] == 2 else 400
    head = XGBoostHead(start="none", n_estimators=most, early_stopping_rounds=30)
    told = Scripted([*losses, *[1.0] * 6], X, y, np.ones(len(y)))
    head.fit(X, y, validation=told)
    assert told.n_asked == len(losses) + 6  # of six factors


def test_every_number_of_trees_counts_by_its_likelihood_and_is_shrunk() -> None:
    X, y, _ = arrays()
    losses, of_factors = [1.5, 1.25, 1.0, 1.5], [1.5, 1.25, 1.0, 1.0, 1.25, 1.5]
    told = Scripted([*losses, *of_factors], X, y, np.ones(len(y)))
    options = {"start": "none", "n_estimators": 30, "n_jobs": 1}
    shrunk = XGBoostHead(**options).fit(X, y, validation=told).fitted_.part
    plain = XGBoostHead(**options).fit(X, y).fitted_.part
    leaf = plain.left == np.arange(len(plain.left))
    tree = np.searchsorted(plain.roots, np.flatnonzero(leaf), side="right") - 1
    # Four lists lose the same: their likelihood is e to the minus four times that.
    e = np.exp(-4 * np.array([0.5, 0.25, 0.0]))
    share = np.array([e[1], e[2], e[0]]) / (2 * e[0] + e[1] + e[2])
    weight = 0.5 * np.array([share.sum(), share[1:].sum(), share[2]])
    assert (shrunk.threshold[~leaf] == plain.threshold[~leaf]).all()
    np.testing.assert_allclose(
        shrunk.value[leaf], plain.value[leaf] * weight[tree // 10], rtol=1e-6
    )


def test_trees_of_hardly_any_likelihood_are_not_kept() -> None:
    X, y, _ = arrays()
    told = Scripted([5, 4, 1, 4, *[1.0] * 6], X, y, np.ones(len(y)))
    head = XGBoostHead(start="none", n_estimators=30, n_jobs=1)
    assert len(head.fit(X, y, validation=told).fitted_.part) == 20


def test_lists_are_told_apart_whatever_their_codes() -> None:
    X, y, _ = arrays()
    for last in (0, 1, 2, 3):
        codes = [7, 5, last]
        query = np.repeat(codes, 4)
        head = XGBoostRankHead(start="none", n_estimators=2, n_jobs=1)
        head.fit(X[:12], y[:12], query=query)
        assert len(head.fitted_.part) == 2
