"""Probabilities that mean what they say, thresholds that separate best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.linear_model import LogisticRegression

from tllboost.calibration import (
    Calibration,
    best_threshold,
    check_share,
    fit_calibration,
    log_loss,
)
from tllboost.errors import UsageError
from tllboost.metrics import binary_figures


def scored(seed: int, n_pairs: int = 400, scale: float = 1.0) -> tuple[np.ndarray, ...]:
    """Return scores whose log-odds of a match are 3 · score / scale − 1, and labels."""
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 1, n_pairs) * scale
    odds = 1 / (1 + np.exp(1 - 3 * score / scale))
    return score, (rng.random(n_pairs) < odds).astype(np.int8)


def figures(probability: np.ndarray, label: np.ndarray) -> dict[str, float]:
    ones, rows = np.ones(len(label)), np.arange(len(label))
    said = probability > 0.5
    found = binary_figures(probability, said, label, ones, rows, resample=False)
    return {name: figure.value for name, figure in found.items()}


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_is_that_of_a_logistic_regression(seed: int) -> None:
    """Of scikit-learn, on scores without outliers, weighted."""
    rng = np.random.default_rng(seed)
    score, weight = rng.uniform(-2, 2, 300), rng.uniform(0.2, 3, 300)
    label = (rng.random(300) < 1 / (1 + np.exp(1 - 2 * score))).astype(np.int8)
    curve = fit_calibration(score, label, weight)
    scaled = ((score - score.mean()) / score.std())[:, None]
    peer = LogisticRegression(C=100.0).fit(scaled, label, sample_weight=weight)
    np.testing.assert_allclose(
        curve.log_odds(score), peer.decision_function(scaled), atol=1e-6
    )


@st.composite
def scores_and_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_pairs = draw(st.integers(2, 20))
    number = st.floats(-1e6, 1e6, width=32)
    score = draw(hnp.arrays(np.float64, n_pairs, elements=number))
    label = draw(hnp.arrays(np.int8, n_pairs, elements=st.integers(0, 1)))
    weight = draw(hnp.arrays(float, n_pairs, elements=st.sampled_from([0.2, 1, 3])))
    assume(0 < label.sum() < n_pairs)
    return score, label, weight


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_curve_that_made_the_labels_is_found_on_any_scale(scale: float) -> None:
    curve = fit_calibration(*scored(0, 20_000, scale))
    assert curve.slope * scale == pytest.approx(3, rel=0.1)
    assert curve.intercept == pytest.approx(-1, abs=0.1)


@given(scores_and_labels())
def test_probabilities_are_finite_bounded_and_ordered_like_the_scores(drawn) -> None:
    score, label, weight = drawn
    curve = fit_calibration(score, label, weight)
    probability = curve.probability(np.sort(score))
    assert curve.slope >= 0
    assert np.isfinite(curve).all()
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (np.diff(probability) >= 0).all()


@given(scores_and_labels())
def test_a_calibrated_score_loses_no_more_than_the_share_of_matches(drawn) -> None:
    score, label, weight = drawn
    curve = fit_calibration(score, label, weight)
    share = np.average(label, weights=weight)
    prior = np.full(len(label), np.log(share / (1 - share)))
    loss = log_loss(curve.log_odds(score), label, weight)
    assert loss <= log_loss(prior, label, weight) + 1e-3


def test_calibration_carries_over_to_other_pairs() -> None:
    score, label = scored(1)
    curve = fit_calibration(score, label)
    fresh, truth = scored(2, 4_000)
    calibrated = figures(curve.probability(fresh), truth)
    # As autogluon relabels a cosine: half of one more than it.
    relabelled = figures((np.tanh(fresh) + 1) / 2, truth)
    assert calibrated["ece"] < 0.03 < relabelled["ece"]
    assert calibrated["brier"] < relabelled["brier"]
    assert calibrated["roc_auc"] == relabelled["roc_auc"]


@pytest.mark.parametrize("distort", [0.2, 5.0])
def test_over_and_under_confidence_show_in_ece_and_brier(distort: float) -> None:
    score, label = scored(3, 4_000)
    honest = Calibration(3.0, -1.0)
    boastful = Calibration(3.0 * distort, -1.0 * distort)
    good, bad = (
        figures(curve.probability(score), label) for curve in (honest, boastful)
    )
    assert good["ece"] < 0.03
    assert bad["ece"] > 2 * good["ece"]
    assert bad["brier"] > good["brier"]


def test_weights_count_as_copies() -> None:
    score, label = scored(4, 60)
    weight = np.where(label == 1, 3.0, 1.0)
    copies = weight.astype(int)
    weighted = fit_calibration(score, label, weight)
    copied = fit_calibration(np.repeat(score, copies), np.repeat(label, copies))
    assert weighted.probability(score) == pytest.approx(
        copied.probability(score), abs=0.01
    )


def test_a_score_that_says_the_reverse_says_nothing_and_keeps_its_order() -> None:
    score, label = scored(5)
    curve = fit_calibration(-score, label)
    assert curve.is_flat
    share = np.full(len(score), label.mean())
    assert curve.probability(score) == pytest.approx(share, abs=1e-3)
    assert (np.diff(curve.log_odds(np.sort(score))) > 0).all()
    assert not fit_calibration(score, label).is_flat


WILD = {
    "a few, either way": lambda score, rng: np.where(
        rng.random(len(score)) < 0.03, 1e7 * rng.normal(size=len(score)), score
    ),
    "a few non-matches far up": lambda score, rng: np.where(
        (score < -1) & (rng.random(len(score)) < 0.2), 1e7, score
    ),
}


@pytest.mark.parametrize("spoil", WILD.values(), ids=WILD)
def test_a_few_scores_far_outside_decide_no_probability(spoil) -> None:
    score, label = scored(6, 4_000)
    wild = spoil(score, np.random.default_rng(0))
    ordinary = wild == score
    assert 0.9 < ordinary.mean() < 0.99
    tame, robust = fit_calibration(score, label), fit_calibration(wild, label)
    best, found = (
        figures(curve.probability(score), label)["brier"] for curve in (tame, robust)
    )
    assert not robust.is_flat
    assert found < best + 0.05  # 0.13 worse where outliers decide
    most = max(abs(robust.log_odds(np.array([robust.low, robust.high]))))
    assert np.abs(robust.log_odds(wild)).max() <= most + 0.001


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_scores_without_outliers_are_seen_as_they_are(scale: float) -> None:
    score, label = np.linspace(-scale, scale, 50), np.arange(50) % 5 == 4
    curve = fit_calibration(score, label)
    line = curve.slope * score + curve.intercept
    np.testing.assert_array_equal(curve.log_odds(score), line)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_log_odds_rank_pairs_just_as_the_scores_do(sign: int, scale: float) -> None:
    score, label = scored(7, scale=scale)
    far = np.geomspace(10, 1e7, 50) * scale
    every = np.sort(np.concatenate([score, far, -far]))
    for some in (score, every):
        curve = fit_calibration(sign * some, np.resize(label, len(some)))
        assert (np.diff(curve.log_odds(every)) > 0).all()


@pytest.mark.parametrize("value", [0.0, 7.25, -1e9])
def test_a_constant_score_gives_the_share_of_matches(value: float) -> None:
    label = np.array([1, 0, 0, 0])
    curve = fit_calibration(np.full(4, value), label)
    assert curve.probability(np.full(1, value))[0] == pytest.approx(0.25)


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_alone_gives_even_odds(only: int) -> None:
    curve = fit_calibration(np.arange(5.0), np.full(5, only))
    assert curve == Calibration(0.0, 0.0)


def test_classes_that_do_not_overlap_keep_the_slope_finite() -> None:
    score = np.array([0.0, 0.1, 0.9, 1.0])
    curve = fit_calibration(score, np.array([0, 0, 1, 1]))
    probability = curve.probability(score)
    assert 0 < curve.slope < 100
    assert probability[1] < 0.1
    assert probability[2] > 0.9


def test_extreme_scores_overflow_nothing() -> None:
    curve = Calibration(50.0, 0.0)
    extreme = np.array([-1e300, 1e300])
    assert curve.probability(extreme).tolist() == [0, 1]
    assert np.isfinite(log_loss(np.array([-1e6, 1e6]), np.array([1, 0])))


def shared_out(seed: int, share: float, n_pairs: int) -> tuple[np.ndarray, ...]:
    """Return scores of which those of matches lie two units higher, and labels."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n_pairs) < share).astype(np.int8)
    return rng.normal(2.0 * label), label


@pytest.mark.parametrize("share", [0.05, 0.8])
def test_a_curve_of_even_odds_holds_where_the_prior_is_another(share: float) -> None:
    curve = fit_calibration(*shared_out(0, 0.5, 4_000))
    score, label = shared_out(1, share, 20_000)
    told = figures(curve.at(share).probability(score), label)
    assert told["ece"] < 0.02
    assert figures(curve.probability(score), label)["ece"] > 3 * told["ece"]


@given(scores_and_labels(), st.sampled_from([0.001, 0.05, 0.5, 0.99]))
def test_a_prior_multiplies_the_odds_of_all_pairs_alike(drawn, prior: float) -> None:
    score, label, weight = drawn
    curve = fit_calibration(score, label, weight)
    assert curve.prior == pytest.approx(np.average(label, weights=weight))
    own, other = curve.probability(score), curve.at(prior).probability(score)
    factor = prior / (1 - prior) * (1 - curve.prior) / curve.prior
    odds = own / (1 - own) * factor
    np.testing.assert_allclose(other, odds / (1 + odds), rtol=1e-6)
    assert curve.at(prior).at(curve.prior) == pytest.approx(curve, rel=1e-9, abs=1e-9)


def test_drawn_non_matches_make_the_prior_one_in_two_exactly() -> None:
    weight = np.tile([1.0, *[1 / 19] * 19], 7)
    label = np.tile([1, *[0] * 19], 7)
    score = np.random.default_rng(0).normal(size=len(label))
    assert np.average(label, weights=weight) != 0.5  # sums are rounded
    assert fit_calibration(score, label, weight).prior == 0.5


@given(scores_and_labels(), st.floats(0.001, 0.999))
def test_the_score_of_a_probability_parts_those_below_from_the_rest(
    drawn, probability: float
) -> None:
    curve = fit_calibration(*drawn)
    score = np.concatenate([drawn[0], [-1e9, 1e9]])
    told = curve.probability(score)
    clear = np.abs(told - probability) > 1e-9  # else it is rounding that decides
    wanted = told >= probability
    assert ((score >= curve.score_of(probability)) == wanted)[clear].all()


@pytest.mark.parametrize("share", ["1/20", "0.05", 0.05, np.float64(0.05)], ids=repr)
def test_a_share_is_a_number_or_a_fraction(share: float | str) -> None:
    assert check_share(share, "prior") == 0.05


@pytest.mark.parametrize(
    "share", ["0", "1", "-1/20", "20/1", "1/0", "1/", "nan", "1/2/3", "few", "", None]
)
def test_a_share_outside_of_0_to_1_is_refused(share: str) -> None:
    with pytest.raises(UsageError, match=r"prior .* must lie between 0 and 1"):
        check_share(share, "prior")


@given(scores_and_labels())
def test_log_loss_is_that_of_its_formula(drawn) -> None:
    score, label, weight = drawn
    odds = np.clip(score / 1e5, -10, 10)
    p = 1 / (1 + np.exp(-odds))
    terms = -(label * np.log(p) + (1 - label) * np.log(1 - p))
    wanted = (terms * weight).sum() / weight.sum()
    assert log_loss(odds, label, weight) == pytest.approx(wanted, rel=1e-6)


def balanced(threshold: float, drawn: tuple[np.ndarray, ...]) -> float:
    score, label, weight = drawn
    said = score >= threshold
    hit = (weight * said)[label == 1].sum() / weight[label == 1].sum()
    reject = (weight * ~said)[label == 0].sum() / weight[label == 0].sum()
    return (hit + reject) / 2


@given(scores_and_labels())
def test_no_threshold_separates_better_than_the_best(drawn) -> None:
    tried = [balanced(threshold, drawn) for threshold in np.unique(drawn[0])]
    best = balanced(best_threshold(*drawn), drawn)
    assert best == pytest.approx(max(tried))


@given(scores_and_labels(), st.integers(1, 3))
def test_a_threshold_stands_between_scores_that_nearly_touch(drawn, steps: int) -> None:
    _, label, weight = drawn
    score = np.ones(len(label))
    for _ in range(steps):
        score[label == 1] = np.nextafter(score[label == 1], 2)
    assert balanced(best_threshold(score, label, weight), (score, label, weight)) == 1


def test_a_threshold_stands_half_way_between_two_scores() -> None:
    score, label = np.array([0.0, 2.0, 6.0, 8.0]), np.array([0, 0, 1, 1])
    assert best_threshold(score, label) == 4
    assert best_threshold(score[::-1], label[::-1]) == 4


def test_a_score_that_says_nothing_calls_all_a_match_or_none() -> None:
    label = np.array([0, 1, 0, 1])
    assert best_threshold(np.zeros(4), label) == 0
