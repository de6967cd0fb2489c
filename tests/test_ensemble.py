"""Fitted cells, alone and together: what they score, and what they share."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn
from bundles import IDS, LEFT, RIGHT, make_cell, make_vectors, tiny_network, write_npz
from conftest import write_image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from tllboost.calibration import Calibration
from tllboost.classifier import PairClassifier, ensemble
from tllboost.errors import ImageError, UsageError
from tllboost.pairs import pairs_from_paths
from tllboost.scoring import FittedCell, PairScorer, combined_score, joint_score

PAIRS = [[IDS[left], IDS[right]] for left in LEFT[:10] for right in RIGHT[:3]]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[FittedCell]:
    npz = write_npz(tmp_path_factory.mktemp("made") / "net.npz")
    choices = [("cosine", "dot"), ("logistic", "dot"), ("naive-bayes", "l1")]
    return [make_cell(f"vectors:{npz}", head, merge) for head, merge in choices]


def test_one_cell_keeps_the_score_of_its_head(cells: list[FittedCell]) -> None:
    vectors = make_vectors()
    alone = joint_score(cells[:1], [vectors], LEFT, RIGHT)
    np.testing.assert_array_equal(alone, cells[0].score(vectors, LEFT, RIGHT))
    classifier = ensemble(cells[:1])
    scorer = cells[0].scorer
    assert classifier.threshold_ == scorer.threshold_
    assert classifier.calibration_ == scorer.calibration_


def test_several_cells_agree_on_the_weighted_mean_of_their_log_odds(
    cells: list[FittedCell],
) -> None:
    vectors = make_vectors()
    together = joint_score(cells, [vectors] * 3, LEFT, RIGHT)
    odds = [cell.log_odds(vectors, LEFT, RIGHT) for cell in cells]
    np.testing.assert_allclose(together, np.mean(odds, axis=0))
    scores = [cell.score(vectors, LEFT, RIGHT) for cell in cells]
    np.testing.assert_array_equal(combined_score(cells, scores), together)
    weighed = [replace(cells[0], weight=3.0), *cells[1:]]
    np.testing.assert_allclose(
        combined_score(weighed, scores), (2 * odds[0] + np.sum(odds, axis=0)) / 5
    )


def test_an_ensemble_calls_a_match_at_even_odds_unless_told(
    cells: list[FittedCell],
) -> None:
    classifier = ensemble(cells)
    decision = classifier.decision_function(PAIRS)
    probability = classifier.predict_proba(PAIRS)[:, 1]
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-decision)))
    np.testing.assert_array_equal(classifier.predict(PAIRS), probability >= 0.5)
    told = ensemble(cells, calibration=Calibration(2.0, -1.0), threshold=0.25)
    np.testing.assert_allclose(told.decision_function(PAIRS), decision - 0.25)
    np.testing.assert_allclose(
        told.predict_proba(PAIRS)[:, 1], 1 / (1 + np.exp(1 - 2 * decision))
    )


def test_an_ensembles_prior_has_the_mean_log_odds_of_its_cells() -> None:
    priors = (0.1, 0.5, 0.9, 0.5)
    cells = []
    for prior in priors:
        scorer = PairScorer("dot", "cosine")
        scorer.calibration_ = Calibration(1.0, 0.0, prior=prior)
        cells.append(FittedCell(None, None, scorer))
    assert ensemble(cells).calibration_.prior == pytest.approx(0.5)
    assert ensemble(cells[:2]).calibration_.prior == pytest.approx(0.25)
    weighed = [replace(cells[0], weight=0.5), replace(cells[2], weight=0.5)]
    assert ensemble(weighed).calibration_.prior == pytest.approx(0.5)
    weighed[0] = replace(cells[0], weight=1e-6)
    assert ensemble(weighed).calibration_.prior == pytest.approx(0.9, abs=1e-4)


def test_the_order_of_cells_does_not_matter(cells: list[FittedCell]) -> None:
    np.testing.assert_allclose(
        ensemble(cells[::-1]).decision_function(PAIRS),
        ensemble(cells).decision_function(PAIRS),
    )


def test_an_ensemble_ranks_and_crosses_processes(cells: list[FittedCell]) -> None:
    classifier = pickle.loads(pickle.dumps(ensemble(cells)))
    names = [IDS[right] for right in RIGHT[:6]]
    ranked = classifier.rank(IDS[0], names)
    chances = [probability for _, probability in ranked]
    assert chances == sorted(chances, reverse=True)
    assert {name for name, _ in ranked} == set(names)
    copy = clone(classifier)
    assert copy.get_params()["merge"] == cells[0].scorer.merge
    with pytest.raises(NotFittedError):
        copy.predict(PAIRS)


def test_a_notebook_shows_what_is_fitted(cells: list[FittedCell]) -> None:
    unfitted = PairClassifier(head="cosine")._repr_mimebundle_()["text/html"]
    assert "Fitted. " not in unfitted
    several = ensemble([replace(cells[0], weight=0.3), *cells[1:]])
    page = several.at("1/20")._repr_mimebundle_()["text/html"]
    for name in (
        "net × none × dot × cosine, weight 0.30",
        "× l1 × naive-bayes, weight",
    ):
        assert name in page
    assert page.count("<li>") == page.count("</li>") == 3
    assert "from a probability of 0.500, if 0.05 of all pairs match" in page
    with sklearn.config_context(display="text"):
        assert "text/html" not in several._repr_mimebundle_()


def test_an_ensemble_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="cells is empty"):
        ensemble([])


def test_cells_open_a_network_that_they_share_once(tmp_path: Path) -> None:
    network = tiny_network(tmp_path / "net.onnx")
    names = [f"onnx:{network}", f"onnx:{network}+pixels?size=4", f"onnx:{network}"]
    made = [make_cell(name, "cosine", n_dims=3) for name in names]
    paths = [write_image(tmp_path / f"{i}.jpg", seed=i) for i in range(4)]
    told: list[tuple[int, int, str]] = []
    table = pairs_from_paths([paths[:2], paths[2:]])
    blocks, failures = ensemble(made).vectors_of(
        table.paths, table.ids, progress=lambda *args: told.append(args)
    )
    assert [label for done, _, label in told if done == 4] == [
        "onnx:net",
        "pixels?size=4",
    ]
    assert failures == {}
    assert [block.shape for block in blocks] == [(4, 3), (4, 51), (4, 3)]
    np.testing.assert_array_equal(blocks[0], blocks[2])


def test_an_image_that_one_cell_can_not_read_fails_for_all(tmp_path: Path) -> None:
    network = tiny_network(tmp_path / "net.onnx")
    classifier = ensemble(
        [make_cell(f"onnx:{network}", "cosine", n_dims=3), make_cell("pixels?size=2")]
    )
    good = write_image(tmp_path / "good.jpg", seed=0)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        classifier.predict([[good, bad]])
    assert isinstance(classifier, PairClassifier)


def test_vectors_of_another_width_are_refused(cells: list[FittedCell]) -> None:
    with pytest.raises(UsageError, match="wants 12 features, pairs have 5"):
        cells[1].score(make_vectors(5), LEFT, RIGHT)
