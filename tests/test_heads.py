"""Heads: what each learns, keeps and must not look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import HEADS_HERE
from fitted_heads import (
    Scripted,
    arrays,
    fitted,
    noise_of_pairs,
    planted,
    scores,
    validation_of,
)
from makers import Planted, auc, features_of, fit, plant, sets_of
from safetensors.numpy import load, save
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

from tllboost.conventions import seed_of
from tllboost.errors import DataError, UnknownNameError, UsageError
from tllboost.heads import linear, make_head
from tllboost.heads.base import CosineHead, Validation
from tllboost.heads.fitted import FittedHead
from tllboost.heads.forest import NaiveBayesHead, RandomForestHead
from tllboost.heads.linear import LinearSVMHead, LogisticHead, SquaredHinge
from tllboost.heads.mlp import MLPHead
from tllboost.merges import PairFeatures
from tllboost.splits import PairSet

# The joined head comes with a projection and learns nothing: test_heads_joined.py; the
# normalised cosine has references: test_references.py.
ON_ANY_PAIRS = [n for n in HEADS_HERE if n not in ("joined", "cosine-norm")]
EVERY_HEAD = pytest.mark.parametrize("head", ON_ANY_PAIRS)
QUICK = {"random-forest": RandomForestHead(n_estimators=40), "mlp": MLPHead(n_epochs=4)}
"""Smaller ones, for what does not depend on how well they learn."""
LEARNED = pytest.mark.parametrize("head", [n for n in ON_ANY_PAIRS if n != "cosine"])


def set_as_arrays(pairs: PairSet, seed: int, marker: bool) -> np.ndarray:
    """Return features of noise, the last one telling the label if `marker`."""
    X = np.random.default_rng(seed).normal(size=(len(pairs), 40)).astype(np.float32)
    X[:, -1] = pairs.label if marker else 0
    return X


def relabelled(data: Planted, seed: int) -> Planted:
    """Deal the labels of each side anew, as many matches as before."""
    rng = np.random.default_rng(seed)
    sides = {
        name: PairSet(
            pairs.left,
            pairs.right,
            rng.permutation(pairs.label),
            pairs.query,
            np.ones(len(pairs)),
            pairs.component,
        )
        for name, pairs in sets_of(data.split)
    }
    return Planted(data.vectors, type(data.split)(**sides, names=data.split.names))


@EVERY_HEAD
def test_a_head_finds_what_is_planted_and_is_not_below_the_cosine(head: str) -> None:
    found = auc(scores(head), planted().split.test)
    assert found > 0.7
    if head != "naive-bayes":  # which takes each feature for itself, starting anywhere
        assert found > auc(scores("cosine"), planted().split.test) - 0.03


@EVERY_HEAD
def test_shuffled_labels_give_chance(head: str) -> None:
    found = []
    for seed in range(2):
        data = relabelled(planted(), seed)
        score = fit(data, head, n_threads=1).score(features_of(data))
        found.append(auc(score, data.split.test))
    # 24 matches in 240 pairs: a standard error of 0.06 each.
    assert abs(np.mean(found) - 0.5) < 0.12


@pytest.mark.parametrize("head", ["logistic", "linear-svm"])
def test_a_linear_head_of_wrong_training_labels_is_left_with_the_cosine(
    head: str,
) -> None:
    train, features = planted().split.train, features_of(planted(), "train")
    validation = validation_of(planted())
    made = make_head(head).fit(features, 1 - train.label, validation=validation)
    test = features_of(planted())
    found = auc(made.decision_function(test), planted().split.test)
    assert found >= auc(test.cosine(), planted().split.test) - 0.03
    alone = make_head(head).fit(features, 1 - train.label)
    assert auc(alone.decision_function(test), planted().split.test) < 0.5


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("log_prior", np.zeros(3)),
        ("theta", np.zeros((2, 4), np.float32)),
        ("var", np.ones((2, 4), np.float32)),
        ("var", np.zeros((2, 24), np.float32)),
    ],
)
def test_a_naive_bayes_of_numbers_that_do_not_fit_is_refused(
    name: str, wrong: np.ndarray
) -> None:
    numbers = fitted("naive-bayes").fitted
    (key,) = (one for one in numbers.tensors() if one.endswith(name))
    with pytest.raises(ValueError, match="classes are not two"):
        FittedHead.of(numbers.kind, numbers.tensors() | {key: wrong})


@EVERY_HEAD
def test_swapping_the_images_changes_no_score(head: str) -> None:
    there = features_of(planted())
    back = PairFeatures(there.vectors, there.right, there.left, there.merge)
    np.testing.assert_array_equal(fitted(head).score(there), fitted(head).score(back))


@EVERY_HEAD
def test_pairs_are_scored_each_for_itself(head: str) -> None:
    features = features_of(planted())
    order = np.random.default_rng(0).permutation(len(features))[:50]
    some = fitted(head).score(features.take(order))
    np.testing.assert_allclose(some, scores(head)[order], rtol=1e-5, atol=1e-6)


@EVERY_HEAD
def test_no_pair_gives_no_score(head: str) -> None:
    none = features_of(planted()).take(np.zeros(len(planted().split.test), bool))
    assert fitted(head).score(none).shape == (0,)


@EVERY_HEAD
def test_a_head_comes_back_whole_from_its_numbers(head: str) -> None:
    numbers = fitted(head).fitted
    again = FittedHead.of(numbers.kind, load(save(numbers.tensors())))
    features = features_of(planted())
    np.testing.assert_array_equal(again.decision_function(features), scores(head))
    assert save(again.tensors()) == save(numbers.tensors())


@EVERY_HEAD
def test_the_same_seed_gives_the_same_scores_on_any_number_of_threads(
    head: str,
) -> None:
    again = fit(planted(), head, n_threads=2).score(features_of(planted()))
    np.testing.assert_array_equal(again, scores(head))


@pytest.mark.parametrize("head", ["random-forest", "xgboost", "xgboost-rank", "mlp"])
def test_a_head_with_chances_hears_its_seed(head: str) -> None:
    other = fit(planted(), head, seed=1, n_threads=1).score(features_of(planted()))
    assert (other != scores(head)).any()


@pytest.mark.parametrize(
    "state",
    [2**32 - 1, 2**64, None, np.random.RandomState(3), np.random.default_rng(3)],
    ids=["2^32-1", "2^64", "None", "RandomState", "Generator"],
)
@pytest.mark.parametrize("head", ["random-forest", "xgboost", "xgboost-rank", "mlp"])
def test_a_head_takes_every_seed_and_counts_threads_from_all_cores(
    head: str, state: Any
) -> None:
    own = {"hidden": (4,), "n_epochs": 1} if head == "mlp" else {"n_estimators": 3}
    own |= {} if head == "mlp" else {"n_jobs": -1}
    made = clone(make_head(head).set_params(random_state=state, **own))
    pairs, features = planted().split.train, features_of(planted(), "train")
    made.fit(features, pairs.label, query=pairs.query)
    assert np.isfinite(made.decision_function(features)).all()


def test_a_head_of_somebody_elses_gets_a_seed_that_it_can_take() -> None:
    made = make_head("sklearn.ensemble:ExtraTreesClassifier", seed=2**64)
    assert made.random_state == seed_of(2**64) < 2**32


@LEARNED
def test_validation_chooses_and_never_trains(head: str) -> None:
    split = planted().split
    train = set_as_arrays(split.train, 0, marker=False)
    validation = set_as_arrays(split.validation, 1, marker=True)
    test = set_as_arrays(split.test, 2, marker=True)
    learner = make_head(head, n_threads=1).fit(
        train,
        split.train.label,
        sample_weight=split.train.weight,
        query=split.train.query,
        validation=Validation(
            validation, split.validation.label, split.validation.weight
        ),
    )
    # The marker tells all, to who looked: only noise was there to train on.
    assert abs(auc(learner.decision_function(test), split.test) - 0.5) < 0.15


@EVERY_HEAD
def test_the_unit_of_the_vectors_does_not_matter(head: str) -> None:
    small = planted()._replace(vectors=planted().vectors * np.float32(2**-14))
    score = fit(small, head, n_threads=1).score(features_of(small))
    found, wanted = (auc(s, small.split.test) for s in (score, scores(head)))
    assert found == pytest.approx(wanted, abs=0.02)


def degenerate(kind: str) -> Planted:
    if kind == "ten pairs":
        return plant(10, n_dims=30, n_signal=4)
    data = planted()
    vectors = data.vectors.copy()
    if kind == "some features constant":
        vectors[:, 3:] = 1
    elif kind == "all features constant":
        vectors[:] = 0.1
    elif kind == "all vectors zero":
        vectors[:] = 0
    elif kind == "every image twice":
        half = len(vectors) // 4
        vectors[half : 2 * half] = vectors[:half]
        vectors[3 * half :] = vectors[2 * half : 3 * half]
    return data._replace(vectors=vectors)


@EVERY_HEAD
@pytest.mark.parametrize(
    "kind",
    [
        "ten pairs",
        "some features constant",
        "all features constant",
        "all vectors zero",
        "every image twice",
    ],
)
def test_poor_data_give_finite_scores_and_no_warning(head: str, kind: str) -> None:
    data = degenerate(kind)
    scorer = fit(data, QUICK.get(head, head), n_threads=1)
    score = scorer.score(features_of(data))
    assert np.isfinite(score).all()
    assert np.isfinite(scorer.probability(score)).all()
    if kind.startswith("all"):
        np.testing.assert_allclose(scorer.probability(score), 0.5, atol=0.05)


@EVERY_HEAD
def test_heads_are_estimators_that_clone(head: str) -> None:
    made = make_head(head)
    assert clone(made).get_params() == made.get_params()
    assert set(made.get_params()) <= set(vars(made))
    assert not hasattr(made, "n_features_in_")


def test_a_head_is_made_with_seed_and_threads_where_it_has_them() -> None:
    made = make_head("xgboost", seed=7, n_threads=2)
    assert (made.random_state, made.n_jobs) == (7, 2)
    assert make_head("xgboost").n_jobs is None
    assert make_head("cosine", seed=7, n_threads=2).get_params() == {}
    assert make_head("sklearn.svm:LinearSVC", seed=7, n_threads=2).random_state == 7


def test_an_estimator_is_taken_as_it_is_and_left_unfitted() -> None:
    own = LogisticRegression(C=0.1)
    made = make_head(own, seed=7)
    assert made is not own
    assert made.get_params() == own.get_params()
    assert (
        make_head(LogisticRegression).get_params()
        == LogisticRegression(random_state=0).get_params()
    )


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (42, "head 42 is not a name, a class or a scikit-learn estimator"),
        (None, "head None is not a name"),
        ("math:pi", "a head is a class with fit and predict"),
        ("builtins:dict", "a head is a class with fit and predict"),
        ("math:sqrt", "can't be made without arguments: .*exactly one argument"),
        ("sklearn.pipeline:Pipeline", "can't be made without arguments"),
    ],
)
def test_what_is_no_head_is_refused(head: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_head(head)


def test_an_unknown_head_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'logistic'"):
        make_head("logistik")


def test_the_cosine_head_needs_vectors() -> None:
    with pytest.raises(UsageError, match="needs PairFeatures"):
        CosineHead().decision_function(np.ones((2, 2)))


@EVERY_HEAD
def test_a_head_asks_for_the_vectors_that_it_learned_from(head: str) -> None:
    features = features_of(planted())
    learner = fitted(head).head_
    looks = head not in ("naive-bayes", "random-forest")  # at the cosine
    if not looks or getattr(learner, "start_", "") == "none":
        np.testing.assert_allclose(
            learner.decision_function(np.asarray(features)), scores(head)
        )
        return
    with pytest.raises(UsageError, match=r"ndarray of shape \(240, 16\)") as caught:
        learner.decision_function(np.asarray(features))
    assert "\n" not in str(caught.value)


@EVERY_HEAD
@pytest.mark.parametrize("wrong", [np.nan, 1e30])
@pytest.mark.parametrize("side", ["train", "validation"])
def test_vectors_that_are_not_finite_are_refused_in_one_line(
    head: str, wrong: float, side: str
) -> None:
    data = planted()
    vectors = data.vectors.copy()
    vectors[getattr(data.split, side).left[:3]] = wrong
    with np.errstate(over="ignore"), pytest.raises(DataError) as caught:
        fit(data._replace(vectors=vectors * np.float32(1e10)), head, n_threads=1)
    assert "features that are not finite numbers" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [LogisticHead, LinearSVMHead, MLPHead])
def test_a_head_that_loses_its_way_says_so(kind: type) -> None:
    data = planted()
    validation = validation_of(data)
    lost = validation._replace(features=np.full(validation.features.shape, np.nan))
    train = np.asarray(features_of(data, "train"))
    with pytest.raises(DataError, match="not a finite number at any step"):
        kind().fit(train, data.split.train.label, validation=lost)


def test_a_score_that_is_not_finite_is_never_chosen() -> None:
    validation = validation_of(planted())
    assert validation.loss(np.full(len(validation.label), np.nan)) == np.inf


@pytest.mark.parametrize("kind", [LogisticHead, LinearSVMHead])
def test_a_linear_head_minds_no_invalid_value_on_the_way(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = fit(planted(), kind()).head_
    estimator = type(kind()._estimator())
    plain = estimator.fit

    def through_infinity(self: Any, *known: Any) -> Any:
        assert np.isnan(np.full(1, np.inf) - np.inf).all()  # warns: here an error
        return plain(self, *known)

    monkeypatch.setattr(estimator, "fit", through_infinity)
    head = fit(planted(), kind()).head_
    assert np.array_equal(head.fitted_.part.coef, usual.fitted_.part.coef)


@pytest.mark.parametrize("kind", [LogisticHead, LinearSVMHead])
def test_a_linear_head_keeps_no_step_that_is_not_finite(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = type(kind()._estimator())
    plain = estimator.fit

    def lost(self: Any, *known: Any) -> Any:
        plain(self, *known)
        if self.C >= 1e-3:
            self.coef_ = np.full_like(self.coef_, np.nan)
        return self

    monkeypatch.setattr(linear, "_path", lambda _: iter((-5.0, -4.0, -3.0, -2.0)))
    monkeypatch.setattr(estimator, "fit", lost)
    head = fit(planted(), kind()).head_
    assert head.strength_ in (1e-5, 1e-4)
    assert np.isfinite(head.fitted_.part.coef).all()


@pytest.mark.parametrize("kind", [LogisticHead, LinearSVMHead])
def test_a_linear_head_is_its_weights_on_the_features(kind: type) -> None:
    head = fitted("logistic" if kind is LogisticHead else "linear-svm").head_
    features = features_of(planted())
    X = np.asarray(features)
    learned = head.fitted_
    by_hand = X @ learned.part.coef + learned.slope * features.cosine()
    by_hand += learned.intercept
    np.testing.assert_allclose(head.decision_function(features), by_hand, rtol=1e-5)
    np.testing.assert_array_equal(
        head.predict(features), head.decision_function(features) > 0
    )


@pytest.mark.parametrize("kind", [LogisticHead, LinearSVMHead])
def test_a_linear_head_keeps_the_step_that_validation_likes_best(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few pairs of many columns: the weakest step learns them by heart.
    data, steps = plant(60, n_dims=60, noise=0.4), (-5.0, -3.0, -1.0, 2.0)
    validation = validation_of(data)

    def loss(powers: tuple[float, ...]) -> float:
        monkeypatch.setattr(linear, "_path", lambda _: iter(powers))
        head = fit(data, kind()).head_
        assert head.strength_ in [10.0**power for power in powers]
        return validation.loss(head.decision_function(validation.features))

    alone = [loss((step,)) for step in steps]
    assert loss(steps) == pytest.approx(min(alone), rel=0.02)
    assert alone[0] > alone[-1] > 1.05 * min(alone)


@pytest.mark.parametrize("kind", [LogisticHead, LinearSVMHead])
def test_a_linear_head_leans_on_the_cosine_where_features_are_noise(kind: type) -> None:
    data = planted()
    scorer = fit(data, kind(), merge=noise_of_pairs)
    found = auc(scorer.score(features_of(data, merge=noise_of_pairs)), data.split.test)
    assert found > auc(scores("cosine"), data.split.test) - 0.05


def test_the_margin_loss_is_minimised_as_by_liblinear() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 10)).astype(np.float32)
    y = (X[:, 0] + rng.normal(size=200) > 0.3).astype(int)
    weight = rng.uniform(0.2, 2, 200)

    def objective(w: np.ndarray, b: float) -> float:
        short = np.maximum(0, 1 - np.where(y == 1, 1, -1) * (X @ w + b))
        return 0.5 * w @ w + 0.1 * (weight * short**2).sum()

    ours = SquaredHinge(C=0.1, tol=1e-6).fit(X, y, weight)
    theirs = LinearSVC(C=0.1, intercept_scaling=1e3, tol=1e-8, max_iter=100_000)
    theirs.fit(X, y, weight)
    assert objective(ours.coef_[0], ours.intercept_[0]) <= 1.001 * objective(
        theirs.coef_[0], theirs.intercept_[0]
    )
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=0.01)


def test_the_forest_votes_as_scikit_learns_own() -> None:
    X, y, weight = arrays()
    ours = RandomForestHead(n_estimators=20).fit(X, y, sample_weight=weight)
    theirs = ExtraTreesClassifier(**ours.get_params(), bootstrap=True)
    theirs.set_params(max_samples=int(0.3 * weight.sum())).fit(X, y, weight)
    fresh = np.asarray(features_of(planted()))
    np.testing.assert_allclose(
        ours.decision_function(fresh) + 0.5, theirs.predict_proba(fresh)[:, 1]
    )


def test_naive_bayes_is_scikit_learns_own() -> None:
    X, y, weight = arrays()
    ours = NaiveBayesHead().fit(X, y, sample_weight=weight)
    theirs = GaussianNB().fit(X.astype(np.float64), y, weight)
    fresh = np.asarray(features_of(planted()), dtype=np.float64)
    odds = np.diff(theirs.predict_joint_log_proba(fresh), axis=1)[:, 0]
    np.testing.assert_allclose(ours.decision_function(fresh), odds, rtol=1e-6)


@pytest.mark.parametrize(
    ("losses", "share"), [([3, 2, 1, 4], 0.5), ([2, 2, 3, 2], 1), ([4, 3, 2, 1], 0)]
)
def test_classes_of_naive_bayes_share_variances_unless_validation_does_better(
    losses: list[float], share: float
) -> None:
    X, y, weight = arrays()
    theirs = GaussianNB().fit(X.astype(np.float64), y, weight)
    told = Scripted(losses, X, y, weight)
    head = NaiveBayesHead().fit(X, y, sample_weight=weight, validation=told)
    common = theirs.class_prior_ @ theirs.var_
    assert head.share_ == share
    np.testing.assert_allclose(
        head.fitted_.part.var, (1 - share) * theirs.var_ + share * common, rtol=1e-6
    )


@pytest.mark.parametrize("head", ["naive-bayes", "xgboost"])
def test_features_read_in_blocks_teach_the_same(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scores(head)
    monkeypatch.setattr("tllboost.merges._BLOCK_BYTES", 4 * 16 * 50)
    assert len(list(features_of(planted(), "train").blocks())) > 5
    again = fit(planted(), head, n_threads=1).score(features_of(planted()))
    assert np.corrcoef(whole, again)[0, 1] > 0.99


def test_the_dense_head_before_any_epoch_is_the_cosine() -> None:
    data = planted()
    features = features_of(data)
    scorer = fit(data, MLPHead(n_epochs=0))
    order = np.argsort(features.cosine(), kind="stable")
    assert (np.diff(scorer.score(features)[order]) >= 0).all()


@pytest.mark.parametrize("merge", ["concat", "dot", "l1", "l2"])
def test_the_dense_head_learns_from_every_merge(merge: str) -> None:
    data = planted()
    scorer = fit(data, "mlp", merge)
    assert [len(bias) for _, bias in scorer.fitted.part.layers] == [512, 128, 1]
    found = auc(scorer.score(features_of(data, merge=merge)), data.split.test)
    assert found > auc(scores("cosine"), data.split.test) - 0.03


def test_the_dense_head_minds_neither_offset_nor_unit_of_a_column() -> None:
    X, y, _ = arrays()
    moved = X * np.float32(8) + np.float32(16)
    one, other = (
        MLPHead(hidden=(16,), n_epochs=10).fit(data, y).decision_function(data)
        for data in (X, moved)
    )
    np.testing.assert_allclose(one, other, atol=0.02)
    assert one.std() > 0.5


def test_fitting_the_dense_head_leaves_torchs_own_chances_alone() -> None:
    import torch

    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    MLPHead(hidden=(4,), n_epochs=1).fit(*arrays()[:2])
    assert torch.equal(torch.rand(3), wanted)


def test_calibration_compares_scores_on_any_scale() -> None:
    validation = validation_of(planted())
    score = validation.features.cosine()
    losses = [validation.loss(factor * score + 3) for factor in (1, 1e-3, 1e3)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-3)
    assert validation.loss(-score) > losses[0]


def test_the_loss_of_a_set_counts_each_pair_by_its_weight() -> None:
    # A score that says nothing: by hand, the chance of a match is 9 in 12.
    told = Validation(None, np.array([1, 0, 0, 0]), np.array([9.0, 1, 1, 1]))
    right, wrong = -np.log(0.75), -np.log(0.25)
    loss = told.loss(np.zeros(4))
    assert loss == pytest.approx(0.75 * right + 0.25 * wrong)
    losses = told.losses(np.zeros(4))
    np.testing.assert_allclose(losses, [3 * right, *[wrong / 3] * 3])
    assert losses.mean() == pytest.approx(loss)


def test_a_list_loses_what_its_match_is_unlikely_to_be_found() -> None:
    label, query = np.array([1, 0, 0, 1, 1]), np.array([0, 0, 1, 1, -1])
    told = Validation(None, label, np.ones(5), query)
    # One list right, one wrong by as much: the smallest scale, 0.01, is the best. The
    # scores are 1 and -1 then, the pair outside of the lists left out.
    by_hand = np.log1p(np.exp([-0.02, 0.02]))
    found = told.losses(np.array([5.0, 3.0, 5.0, 3.0, 9.0]))
    np.testing.assert_allclose(found, by_hand, rtol=1e-9)
    assert told.losses(np.array([1.0, 0, 0, 1, 0])).max() < 1e-9
    # Lists without a match, or of matches alone, tell nothing: pairs are told then.
    alone = Validation(None, np.array([1, 0]), np.ones(2), np.array([0, 1]))
    np.testing.assert_allclose(alone.losses(np.zeros(2)), np.log([2, 2]))


@pytest.mark.parametrize(
    ("losses", "power"),
    [
        ([9, 8, 7, 6, 5, 4, 3, 4, 4], 1),  # as weak as it gets
        ([9, 8, 7, 6, 5, 4, 3, 2.5, 2], 0.5),
        ([1, 2, 3, 3], -5),
        ([3, 2, 4, 1, 5], -3.5),
        ([3, 2, 4, 5, 1], -4.5),
    ],
)
def test_the_path_of_a_linear_head_turns_where_the_loss_rises(
    losses: list[float], power: float
) -> None:
    X, y, _ = arrays()
    told = Scripted([*losses, *losses, *[0.0] * 9], X, y, np.ones(len(y)))
    head = LogisticHead().fit(X, y, validation=told)
    assert told.n_asked == 2 * len(losses)  # a path of each scaling
    assert head.scaling_ == "global"
    assert head.strength_ == pytest.approx(10.0**power)


def test_features_are_scaled_by_one_number_or_each_column_by_its_own() -> None:
    features = np.float32([[3, -4], [0, 0]])
    shift, scale = linear._scaling(features, "global")
    assert (shift.tolist(), scale.tolist()) == ([0, 0], [2.5, 2.5])
    shift, scale = linear._scaling(features, "column")
    assert (shift.tolist(), scale.tolist()) == ([1.5, -2], [1.5, 2])
    # A column is constant that hardly varies beside the others: it keeps scale 1.
    _, scale = linear._scaling(np.float32([[2e10, 1e-3], [0, 0]]), "column")
    assert scale.tolist() == [1e10, 1]
    # Many columns, a few rows at a time.
    _, scale = linear._scaling(np.ones((3, 2**19), np.float32), "global")
    assert scale[0] == 1
