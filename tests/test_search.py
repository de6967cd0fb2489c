"""Search among many stored vectors: exact for linear heads, a shortlist for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tllboost.calibration import Calibration
from tllboost.classifier import PairClassifier, ensemble
from tllboost.errors import DataError, UsageError
from tllboost.files import write_vectors
from tllboost.heads import make_head
from tllboost.merges import PairFeatures
from tllboost.projections.base import Projection
from tllboost.rank import VectorIndex, best, best_rows, search
from tllboost.scoring import FittedCell, PairScorer

N_IMAGES, N_DIMS = 400, 16


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Two views of each scene, side by side: rows 2i and 2i + 1 match."""
    rng = np.random.default_rng(0)
    scenes = np.repeat(rng.normal(size=(N_IMAGES // 2, N_DIMS)), 2, axis=0)
    return (scenes + 0.3 * rng.normal(size=scenes.shape)).astype(np.float32)


def pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left = np.tile(np.arange(0, N_IMAGES, 2), 3)
    rng = np.random.default_rng(1)
    other = rng.integers(N_IMAGES, size=N_IMAGES)
    right = np.concatenate([np.arange(1, N_IMAGES, 2), other])
    return left, right, (left // 2 == right // 2).astype(np.int8)


def cell(vectors: np.ndarray, head: str, merge: str = "dot") -> FittedCell:
    left, right, label = pairs()
    scorer = PairScorer(merge, head)
    scorer.head_ = make_head(head, n_threads=1)
    if head == "xgboost":
        scorer.head_.set_params(n_estimators=30)
    scorer.head_.fit(PairFeatures(vectors, left, right, merge), label)
    scorer.calibration_, scorer.threshold_ = Calibration(2.0, -1.0), 0.5
    return FittedCell(None, None, scorer)  # type: ignore[arg-type]


def model(vectors: np.ndarray, *heads: str, merge: str = "dot") -> PairClassifier:
    return ensemble([cell(vectors, head, merge) for head in heads])


def every_score(classifier: PairClassifier, vectors: np.ndarray, row: int) -> Any:
    """Return the score of a row with every row, a feature row each."""
    (only,) = classifier.cells_
    left = np.full(len(vectors), row)
    return only.score(vectors, left, np.arange(len(vectors)))


@pytest.mark.parametrize("merge", ["dot", "cosdot", "l2", "l1"])
@pytest.mark.parametrize("head", ["cosine", "logistic", "xgboost"])
def test_the_best_of_all_are_found_with_their_scores(
    vectors: np.ndarray, head: str, merge: str
) -> None:
    classifier = model(vectors, head, merge=merge)
    index = VectorIndex(vectors)
    for row in (0, 7):
        expected = every_score(classifier, vectors, row)
        hits = search(classifier, index, vectors[row], top=5, exact=True)
        best = np.sort(expected)[::-1][:5]
        np.testing.assert_allclose(
            [hit.score for hit in hits], best, atol=1e-5 * np.abs(expected).max()
        )
        for hit in hits:
            assert hit.score == pytest.approx(expected[hit.row], abs=1e-4)
            curve = classifier.calibration_
            assert hit.probability == pytest.approx(
                float(curve.probability(np.array(hit.score)))
            )


def test_a_shortlist_scores_the_nearest_by_cosine_exactly(vectors: np.ndarray) -> None:
    classifier = model(vectors, "xgboost", merge="l1")
    index = VectorIndex(vectors)
    expected = every_score(classifier, vectors, 2)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = set(np.argsort(-(unit @ unit[2]))[:30].tolist())
    hits = search(classifier, index, vectors[2], top=10, shortlist=30)
    assert {hit.row for hit in hits} <= nearest
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.row], abs=1e-6)
    assert {2, 3} <= {hit.row for hit in hits}
    assert len(search(classifier, index, vectors[2], top=40, shortlist=30)) == 40


def test_an_ensemble_searches_as_it_scores(vectors: np.ndarray) -> None:
    classifier = model(vectors, "logistic", "xgboost")
    index = VectorIndex(vectors)
    log_odds = [
        2 * every_score(model(vectors, head), vectors, 4) - 1
        for head in ("logistic", "xgboost")
    ]
    expected = np.mean(log_odds, axis=0)
    (first, *_) = search(classifier, index, vectors[4], shortlist=50)
    assert first.score == pytest.approx(expected.max(), abs=1e-4)
    assert expected[first.row] == pytest.approx(expected.max(), abs=1e-4)


class Rotated(Projection):
    """Keeps half of the numbers, in another order."""

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(vectors[:, ::-2])


@pytest.mark.parametrize("head", ["logistic", "xgboost"])
def test_a_projection_is_applied_to_both_sides(vectors: np.ndarray, head: str) -> None:
    projection = Rotated()
    base = cell(projection.transform(vectors), head)
    projected = FittedCell(None, projection, base.scorer)  # type: ignore[arg-type]
    classifier = ensemble([projected])
    expected = every_score(classifier, vectors, 6)
    for exact in (True, False):
        hits = search(classifier, VectorIndex(vectors), vectors[6], top=3, exact=exact)
        for hit in hits:
            assert hit.score == pytest.approx(expected[hit.row], abs=1e-4)
        if exact:
            best = np.sort(expected)[::-1][:3]
            np.testing.assert_allclose([hit.score for hit in hits], best, atol=1e-4)


@pytest.mark.parametrize("heads", [("xgboost",), ("logistic", "xgboost")])
def test_ranking_by_a_shortlist_leaves_the_rest_out(
    vectors: np.ndarray, heads: tuple[str, ...]
) -> None:
    cells = model(vectors, *heads).cells_
    left, index = [vectors[:3]] * len(cells), [VectorIndex(vectors)] * len(cells)
    every, scores = best(cells, left, index)
    assert every.shape == (3, N_IMAGES)
    assert (np.diff(scores) <= 0).all()
    some, short = best(cells, left, index, shortlist=20)
    assert some.shape == (3, 20)
    for query in range(3):
        of = dict(zip(every[query].tolist(), scores[query], strict=True))
        wanted = [of[row] for row in some[query].tolist()]
        np.testing.assert_allclose(short[query], wanted, atol=1e-6)


def test_more_queries_than_a_block_holds_pairs_are_ranked_as_few_are(
    vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, index = model(vectors, "xgboost").cells_, [VectorIndex(vectors)]
    _, whole = best(cells, [vectors[:3]], index, shortlist=5)
    for block in (2, 6):  # a column at a time, and two
        monkeypatch.setattr("tllboost.rank._BLOCK", block)
        _, scores = best(cells, [vectors[:3]], index, shortlist=5)
        assert np.array_equal(scores, whole)


def test_the_shortlist_of_several_cells_is_the_best_by_the_sum_of_their_cosines(
    vectors: np.ndarray,
) -> None:
    (one,) = model(vectors, "xgboost", merge="l1").cells_
    other = vectors[:, :3] ** 3  # another vectorizer's, on a scale of its own
    (two,) = model(other, "xgboost", merge="l1").cells_
    indexes = [VectorIndex(vectors), VectorIndex(other)]
    rows, _ = best([one, two], [vectors[:2], other[:2]], indexes, shortlist=20)
    for query in range(2):
        total = np.zeros(N_IMAGES)
        for of in (vectors, other):
            unit = of / np.linalg.norm(of, axis=1, keepdims=True)
            cosine = unit @ unit[query]
            total += (cosine - cosine.mean()) / cosine.std()
        assert set(rows[query].tolist()) == set(np.argsort(-total)[:20].tolist())


def test_a_linear_head_needs_no_shortlist(vectors: np.ndarray) -> None:
    cells = model(vectors, "logistic").cells_
    rows, _ = best(cells, [vectors[:1]], [VectorIndex(vectors)], shortlist=20)
    assert sorted(rows[0].tolist()) == list(range(N_IMAGES))


def test_the_best_come_first_and_ties_in_order() -> None:
    assert best_rows(np.array([1.0, 3, 3, 2, 3]), 2).tolist() == [1, 2]
    assert best_rows(np.array([1.0, 3]), 9).tolist() == [1, 0]


def test_files_are_mapped(vectors: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", vectors)
    ids = [f"image {i}" for i in range(N_IMAGES)]
    write_vectors(tmp_path / "v.npz", ids, vectors)
    np.savez_compressed(tmp_path / "packed.npz", ids=ids, vectors=vectors)
    opened = {
        name: VectorIndex.open(tmp_path / name)
        for name in ("v.npy", "v.npz", "packed.npz")
    }
    for name, index in opened.items():
        np.testing.assert_array_equal(index.vectors, vectors)
        assert isinstance(index.vectors, np.memmap) == (name in ("v.npy", "v.npz"))
    assert opened["v.npz"].id_of(3) == "image 3"
    assert opened["v.npy"].id_of(3) == "3"


def test_what_holds_no_vectors_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.ones(3, np.float32))
    np.save(tmp_path / "wide.npy", np.ones((3, 2)))
    np.savez(tmp_path / "other.npz", vectors=np.ones((3, 2), np.float32))
    np.savez(tmp_path / "short.npz", ids=["a"], vectors=np.ones((3, 2), np.float32))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "short.npz").read_bytes()[:200])
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    for name in ("flat.npy", "wide.npy", "other.npz", "short.npz", "cut.npz"):
        with pytest.raises(DataError, match=name):
            VectorIndex.open(tmp_path / name)
    for name in ("cut.npy", "none.npy", "none.npz", "none"):
        with pytest.raises(DataError, match=name):
            VectorIndex.open(tmp_path / name)


def test_queries_that_can_not_be_searched_are_refused(vectors: np.ndarray) -> None:
    classifier, index = model(vectors, "cosine"), VectorIndex(vectors)
    with pytest.raises(UsageError, match="the query has 3 numbers"):
        search(classifier, index, [1, 2, 3])
    with pytest.raises(UsageError, match="top=0"):
        search(classifier, index, vectors[0], top=0)
    with pytest.raises(UsageError, match="2 ids for 400 vectors"):
        VectorIndex(vectors, ["a", "b"])
    assert search(classifier, VectorIndex(vectors[:0]), vectors[0]) == []
