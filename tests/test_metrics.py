"""Metrics against plain loops and scikit-learn; intervals that cover."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from tllboost import metrics
from tllboost.calibration import fit_calibration
from tllboost.grid.measure import ScoredSet
from tllboost.grid.records import read_scores, write_scores
from tllboost.grid.summary import interval
from tllboost.metrics import (
    METRICS,
    N_RESAMPLES,
    Figure,
    binary_figures,
    match_ranks,
    ranking_figures,
)
from tllboost.report import curves
from tllboost.splits import PairSet

RANKING_METRICS = tuple(n for n, one in METRICS.items() if one.over == "queries")
BINARY_METRICS = tuple(n for n, one in METRICS.items() if one.over == "pairs")
LOWER_IS_BETTER = {name for name, one in METRICS.items() if one.sign < 0}

coarse = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.75, 0.95, 1.0])


def ranks_by_hand(
    score: list[float], label: list[int], query: list[int]
) -> list[tuple[int, int, int]]:
    """Rank with plain loops: a non-match counts unless it is surely below."""
    found = []
    for code in sorted({code for code in query if code >= 0}):
        rows = [row for row in range(len(score)) if query[row] == code]
        matches = [score[row] for row in rows if label[row] == 1]
        others = [score[row] for row in rows if label[row] == 0]
        if not matches or not others:
            continue
        best = math.nan if any(map(math.isnan, matches)) else max(matches)
        rank = 1 + sum(not other < best for other in others)
        found.append((code, rank, len(others) + 1))
    return found


@st.composite
def scored_lists(draw: st.DrawFn) -> tuple[list[float], list[int], list[int]]:
    n_pairs = draw(st.integers(0, 25))
    score = st.one_of(coarse, st.sampled_from([math.nan, math.inf, -math.inf]))
    return (
        draw(st.lists(score, min_size=n_pairs, max_size=n_pairs)),
        draw(st.lists(st.integers(0, 1), min_size=n_pairs, max_size=n_pairs)),
        draw(st.lists(st.integers(-1, 4), min_size=n_pairs, max_size=n_pairs)),
    )


@given(scored_lists())
def test_ranks_are_those_of_a_plain_loop(
    lists: tuple[list[float], list[int], list[int]],
) -> None:
    score, label, query = lists
    found = match_ranks(
        np.array(score, float), np.array(label, int), np.array(query, int)
    )
    wanted = np.array(ranks_by_hand(score, label, query), int).reshape(-1, 3)
    np.testing.assert_array_equal(np.column_stack(found), wanted)


@given(scored_lists(), st.randoms(use_true_random=False))
def test_ranks_do_not_hang_on_the_order_of_the_rows(
    lists: tuple[list[float], list[int], list[int]], random
) -> None:
    score, label, query = (np.array(one, float) for one in lists)
    order = list(range(len(score)))
    random.shuffle(order)
    before = match_ranks(score, label, query.astype(int))
    after = match_ranks(score[order], label[order], query[order].astype(int))
    np.testing.assert_array_equal(before, after)


def test_a_tie_and_a_nan_count_against_the_match() -> None:
    label, query = np.array([1, 0, 0]), np.zeros(3, int)
    for score, rank in (
        ([0.5, 0.5, 0.5], 3),
        ([0.5, math.nan, 0.1], 2),
        ([math.nan, 0.1, 0.2], 3),
        ([math.nan, math.nan, math.nan], 3),
    ):
        assert match_ranks(np.array(score), label, query)[1].tolist() == [rank]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_ranking_metrics_are_means_over_queries(ranks: list[int]) -> None:
    figures = ranking_figures(np.array(ranks), np.arange(len(ranks)))
    assert tuple(figures) == RANKING_METRICS
    for k in (1, 2, 5):
        assert figures[f"top{k}"].value == pytest.approx(
            np.mean([rank <= k for rank in ranks])
        )
    assert figures["mrr"].value == pytest.approx(np.mean([1 / r for r in ranks]))
    assert figures["top1"].value <= figures["top2"].value <= figures["top5"].value
    assert figures["top1"].value <= figures["mrr"].value <= 1


def test_no_query_gives_no_figure() -> None:
    for figure in ranking_figures(np.zeros(0, int), np.zeros(0, int)).values():
        assert math.isnan(figure.value)
        assert np.isnan(figure.resampled).all()
        assert np.isnan(interval(figure.resampled)).all()


@st.composite
def judged_pairs(
    draw: st.DrawFn,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw probabilities with ties, decisions, labels of both classes, weights."""
    n_pairs = draw(st.integers(2, 30))
    probability = draw(hnp.arrays(float, n_pairs, elements=coarse))
    label = draw(hnp.arrays(np.int8, n_pairs, elements=st.integers(0, 1)))
    weight = st.sampled_from([0.0, 0.2, 1.0, 3.0])
    weights = draw(hnp.arrays(float, n_pairs, elements=weight))
    counted = label[weights > 0]
    assume(0 < counted.sum() < len(counted))
    return probability, draw(hnp.arrays(bool, n_pairs)), label, weights


def values(*judged: np.ndarray) -> dict[str, float]:
    probability, decision, label, weight = judged
    component = np.arange(len(label))
    figures = binary_figures(probability, decision, label, weight, component)
    return {name: figure.value for name, figure in figures.items()}


def reference_values(
    probability: np.ndarray,
    decision: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
) -> dict[str, float]:
    """Return scikit-learn's figures."""
    scored, decided = (label, probability), (label, decision)
    return {
        "roc_auc": reference.roc_auc_score(*scored, sample_weight=weight),
        "average_precision": reference.average_precision_score(
            *scored, sample_weight=weight
        ),
        "brier": reference.brier_score_loss(*scored, sample_weight=weight),
        "accuracy": reference.accuracy_score(*decided, sample_weight=weight),
        "balanced_accuracy": reference.balanced_accuracy_score(
            *decided, sample_weight=weight
        ),
    }


@given(judged_pairs())
def test_binary_metrics_are_those_of_scikit_learn(judged) -> None:
    found = values(*judged)
    assert tuple(found) == BINARY_METRICS
    del found["ece"]
    assert found == pytest.approx(reference_values(*judged), abs=1e-9)


@given(judged_pairs())
def test_calibration_error_is_that_of_a_plain_loop(judged) -> None:
    probability, _, label, weight = judged
    bins = [[] for _ in range(10)]
    for p, y, w in zip(probability, label, weight, strict=True):
        bins[min(int(p * 10), 9)].append(w * (p - y))
    wanted = sum(abs(sum(one)) for one in bins) / weight.sum()
    assert values(*judged)["ece"] == pytest.approx(wanted, abs=1e-9)


@given(judged_pairs())
def test_every_metric_and_resample_lies_between_0_and_1(judged) -> None:
    figures = binary_figures(*judged, np.arange(len(judged[0])) % 7)
    for figure in figures.values():
        together = np.append(figure.resampled, figure.value)
        finite = together[np.isfinite(together)]
        assert len(figure.resampled) == N_RESAMPLES
        assert ((finite >= 0) & (finite <= 1)).all()


@given(st.lists(st.floats(1e-3, 10), min_size=2, max_size=40))
def test_what_is_perfect_is_1_to_the_last_digit(weights: list[float]) -> None:
    label = np.arange(len(weights)) % 2
    ones = np.array(weights), np.arange(len(label)) % 5
    for name, figure in binary_figures(label * 1.0, label == 1, label, *ones).items():
        best = 0.0 if name in LOWER_IS_BETTER else 1.0
        drawn = figure.resampled[np.isfinite(figure.resampled)]
        assert figure.value == best
        assert (drawn == best).all(), name


def test_pairs_are_ordered_by_their_scores_where_probabilities_are_rounded() -> None:
    score, label = np.array([50.0, 60.0, -800.0, -900.0]), np.array([0, 1, 1, 0])
    probability = 1 / (1 + np.exp(-np.clip(score, -700, 700)))
    rest = probability, score > 0, label, np.ones(4), np.arange(4)
    found = binary_figures(*rest, score=score)
    assert found["roc_auc"].value == reference.roc_auc_score(label, score) == 0.75
    assert found["average_precision"].value == pytest.approx(
        reference.average_precision_score(label, score)
    )
    assert binary_figures(*rest)["brier"].value == found["brier"].value


@given(judged_pairs(), st.randoms(use_true_random=False))
def test_binary_metrics_do_not_hang_on_the_order_of_the_rows(judged, random) -> None:
    order = list(range(len(judged[0])))
    random.shuffle(order)
    before = values(*judged)
    after = values(*(column[order] for column in judged))
    assert after == pytest.approx(before, abs=1e-12)


@given(judged_pairs())
def test_a_weight_is_as_many_copies(judged) -> None:
    probability, decision, label, weight = judged
    copies = np.where(weight == 3, 3, (weight > 0).astype(int))
    whole = values(probability, decision, label, copies.astype(float))
    repeated = (np.repeat(column, copies) for column in (probability, decision, label))
    assert values(*repeated, np.ones(copies.sum())) == pytest.approx(whole, abs=1e-9)


def test_perfect_and_useless_probabilities_are_told_apart() -> None:
    label = np.tile([0, 1], 50)
    ones = np.ones(100)
    perfect = values(label.astype(float), label == 1, label, ones)
    useless = values(np.full(100, 0.5), label == label, label, ones)
    inverse = values(1.0 - label, label == 0, label, ones)
    assert [perfect[name] for name in BINARY_METRICS] == [1, 1, 1, 1, 0, 0]
    assert [useless[name] for name in BINARY_METRICS] == [0.5, 0.5, 0.5, 0.5, 0.25, 0]
    for name in BINARY_METRICS:
        if name in LOWER_IS_BETTER:
            assert perfect[name] < inverse[name]
        else:
            assert perfect[name] > inverse[name]


def test_lower_is_better_for_errors_alone() -> None:
    assert {"brier", "ece"} == LOWER_IS_BETTER
    assert set(METRICS) == {*RANKING_METRICS, *BINARY_METRICS}


def test_one_class_alone_leaves_its_metrics_open() -> None:
    found = values(
        np.array([0.2, 0.9]), np.array([False, True]), np.ones(2), np.ones(2)
    )
    assert math.isnan(found["roc_auc"])
    assert math.isnan(found["balanced_accuracy"])
    assert found["accuracy"] == 0.5
    assert found["average_precision"] == 1


@pytest.mark.parametrize("n_pairs", [0, 3])
def test_no_pair_that_counts_gives_no_figure(n_pairs: int) -> None:
    nothing = np.zeros(n_pairs)
    figures = binary_figures(
        nothing, nothing > 0, nothing.astype(int), nothing, nothing.astype(int)
    )
    assert tuple(figures) == BINARY_METRICS
    for figure in figures.values():
        assert math.isnan(figure.value)
        assert np.isnan(figure.resampled).all()
        assert len(figure.resampled) == N_RESAMPLES


def noisy_pairs(seed: int, n_components: int) -> tuple[np.ndarray, ...]:
    """Return probability, decision, label, weight, component of correlated pairs."""
    rng = np.random.default_rng(seed)
    component = np.repeat(np.arange(n_components), 4)
    label = np.tile([1, 0, 0, 0], n_components)
    shared = rng.normal(0, 0.5, n_components)[component]
    score = label + shared + rng.normal(0, 1, len(label))
    weight = np.where(label == 1, 1.0, 1 / 3)
    return 1 / (1 + np.exp(-score + 0.5)), score > 0.5, label, weight, component


def coverage(
    truth: dict[str, float], runs: list[dict[str, Figure]]
) -> dict[str, float]:
    """Return how often the interval of each metric holds the truth."""
    intervals = {
        name: [interval(run[name].resampled) for run in runs] for name in truth
    }
    return {
        name: float(np.mean([low <= truth[name] <= high for low, high in found]))
        for name, found in intervals.items()
    }


def test_intervals_of_binary_metrics_hold_the_true_value() -> None:
    # The error of a good calibration is biased upwards by chance: no interval mends it.
    truth = reference_values(*noisy_pairs(1_000, 50_000)[:4])
    runs = [binary_figures(*noisy_pairs(seed, 80)) for seed in range(100)]
    for name, share in coverage(truth, runs).items():
        assert 0.9 <= share <= 0.995, name


def ranked_queries(seed: int, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ranks and components, the queries of one component alike in difficulty."""
    rng = np.random.default_rng(seed)
    component = np.repeat(np.arange(n_components), 3)
    hard = rng.uniform(0.05, 0.6, n_components)[component]
    return np.minimum(rng.geometric(hard), 20), component


def test_intervals_of_ranking_metrics_hold_the_true_value() -> None:
    ranks, _ = ranked_queries(1_000, 200_000)
    truth = {f"top{k}": float((ranks <= k).mean()) for k in (1, 2, 5)}
    truth["mrr"] = float((1 / ranks).mean())
    runs = [ranking_figures(*ranked_queries(seed, 80)) for seed in range(300)]
    for name, share in coverage(truth, runs).items():
        assert 0.9 <= share <= 0.99, name


def test_resamples_of_very_many_rows_are_those_of_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs, queries = noisy_pairs(0, 3_000), ranked_queries(0, 3_000)
    few = binary_figures(*pairs) | ranking_figures(*queries)
    monkeypatch.setattr(metrics, "_MANY", 0)
    many = binary_figures(*pairs) | ranking_figures(*queries)
    for name, figure in few.items():
        assert many[name].value == figure.value
        width = np.ptp(interval(figure.resampled))
        apart = np.abs(many[name].resampled - figure.resampled).max()
        assert apart < 0.02 * width, name


def test_queries_of_one_component_widen_the_interval() -> None:
    ranks = np.repeat(np.random.default_rng(0).integers(1, 4, 40), 10)
    alone = ranking_figures(ranks, np.arange(400))["top1"].resampled
    together = ranking_figures(ranks, np.repeat(np.arange(40), 10))["top1"].resampled
    assert together.std() > 2 * alone.std()


@pytest.mark.parametrize("most", [10, 500, 5_000, 19_999])
def test_a_component_is_resampled_alike_whatever_others_there_are(most: int) -> None:
    judged = noisy_pairs(0, 8)
    alone = binary_figures(*judged)
    # One more pair, which weighs nothing: only the number of components grows.
    more = [
        np.append(column, last)
        for column, last in zip(judged, (0.5, True, 1, 0.0, most), strict=True)
    ]
    for name, figure in binary_figures(*more).items():
        np.testing.assert_array_equal(figure.resampled, alone[name].resampled)
    one = ranking_figures(np.array([1]), np.array([3]))["top1"].resampled
    two = ranking_figures(np.array([1, 9]), np.array([3, most]))["top1"].resampled
    np.testing.assert_array_equal(np.nan_to_num(one) > 0, np.nan_to_num(two) > 0)


def test_resamples_are_paired_between_cells_and_the_same_in_every_run() -> None:
    component = np.arange(30)
    ranks = np.random.default_rng(0).integers(1, 6, 30)
    better = ranking_figures(np.maximum(ranks - 1, 1), component)["mrr"].resampled
    worse = ranking_figures(ranks, component)["mrr"].resampled
    assert (better >= worse).all()
    np.testing.assert_array_equal(
        ranking_figures(ranks, component)["mrr"].resampled, worse
    )


def test_very_many_components_are_resampled_within_bounds() -> None:
    component = np.arange(0, 300_000, 1_000)
    figure = ranking_figures(np.ones(300, int), component)["top1"]
    assert figure.value == 1
    assert np.nanmin(figure.resampled) == 1


def test_the_interval_is_the_central_95_percent_of_finite_values() -> None:
    values = np.linspace(0, 1, 201)
    assert interval(values) == pytest.approx((0.025, 0.975))
    assert interval(np.append(values, [np.nan, np.inf])) == pytest.approx(
        (0.025, 0.975)
    )
    assert np.isnan(interval(np.full(5, np.nan))).all()


def test_the_calibration_error_has_ten_bins() -> None:
    # By hand: .12 and .18 share a bin, .29 and .31 do not.
    p, label = np.array([0.12, 0.18, 0.29, 0.31]), np.array([1, 0, 1, 0])
    found = values(p, p > 0.5, label, np.ones(4))["ece"]
    assert found == pytest.approx((abs(-0.88 + 0.18) + 0.71 + 0.31) / 4)


def test_resamples_do_not_depend_on_the_order_of_the_rows() -> None:
    judged = noisy_pairs(0, 40)
    order = np.random.default_rng(0).permutation(len(judged[0]))
    mixed = binary_figures(*(column[order] for column in judged))
    for name, figure in binary_figures(*judged).items():
        np.testing.assert_allclose(mixed[name].resampled, figure.resampled, atol=1e-12)


def test_tied_scores_of_very_many_rows_are_tied_in_each_resample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probability, *rest = noisy_pairs(0, 500)
    judged = (probability.round(1), *rest)
    few = binary_figures(*judged)
    monkeypatch.setattr(metrics, "_MANY", 0)
    for name, figure in binary_figures(*judged).items():
        np.testing.assert_allclose(figure.resampled, few[name].resampled, atol=1e-9)


def test_more_than_20000_components_share_the_counts_of_the_first() -> None:
    together = ranking_figures(np.array([1, 9]), np.array([3, 20_003]))["top1"]
    drawn = together.resampled[np.isfinite(together.resampled)]
    assert len(drawn) > 100
    assert (drawn == 0.5).all()


# From a head's scores to what is reported of them

SPOILT = {
    "as they are": lambda score, label: score,
    "the wrong way round": lambda score, label: -score,
    "a few far outside": lambda score, label: np.where(
        (label == 0) & (np.arange(len(score)) % 20 == 0), 1e7 * score, score
    ),
    "probabilities that round to 1": lambda score, label: 1e3 * score,
    "a slope of nearly nothing": lambda score, label: 1e-9 * score + 7,
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_rank_metrics_are_those_of_the_raw_scores_whatever_the_calibration(
    spoil, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    label = np.tile([1, 0, 0, 0, 0], 60)
    query, rows = np.arange(300) // 5, np.arange(300)
    weight = np.where(label == 1, 1.0, 0.25)
    pairs = PairSet(rows, rows, label, query, weight, query)
    chosen, score = (spoil(label + rng.normal(size=300), label) for _ in range(2))
    curve = fit_calibration(chosen, label, weight)
    test = ScoredSet()
    test.add(pairs, score, curve, 0.0)
    found = {name: one.value for name, one in test.figures(resample=False)[0].items()}
    scored = {"y_true": label, "y_score": score, "sample_weight": weight}
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(**scored))
    assert found["average_precision"] == pytest.approx(
        reference.average_precision_score(**scored)
    )
    _, ranks, _ = match_ranks(score, label, query)
    assert found["mrr"] == pytest.approx((1 / ranks).mean())
    # What a report draws, and an ensemble averages, is read back from the run.
    write_scores(tmp_path, "a", test, test)
    again = read_scores(tmp_path, "a")["test"][0]
    assert match_ranks(again, label, query)[1].tolist() == ranks.tolist()
    alarms, hits = curves([(0, pairs, again)])["roc"]
    area = np.trapezoid(hits, alarms)
    assert area == pytest.approx(reference.roc_auc_score(**scored), abs=0.01)
    # Of two folds, each with a scale of its own, as of one.
    test.add(pairs, score * 50, fit_calibration(chosen * 50, label, weight), 0.0)
    both = test.figures(resample=False)[0]
    assert both["roc_auc"].value == pytest.approx(found["roc_auc"], abs=0.01)
