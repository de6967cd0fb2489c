"""SiameseProjection: fitted on pairs of images, then a vectorizer like any other."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from bundles import save, tiny_network
from conftest import write_image
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

import tllboost
from tllboost.classifier import PairClassifier, SiameseProjection
from tllboost.errors import DataError, ImageError, UsageError
from tllboost.merges import unit_rows
from tllboost.projections import make_projection
from tllboost.projections.losses import TripletProjection
from tllboost.store import VectorStore
from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.base import Vectorizer

N_PAIRS = 40
BASE = "pixels?size=4"
QUICK = {"loss": "infonce?components=6", "device": "cpu", "n_jobs": 1}


@pytest.fixture(scope="module")
def X(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Pairs of images: the right one is the left one, other colours laid over it."""
    folder = tmp_path_factory.mktemp("images")
    pairs = []
    for i in range(N_PAIRS):
        left = write_image(folder / f"left{i:02d}.png", seed=i, size=(24, 24))
        veil = Image.new("RGB", (24, 24), tuple(37 * i * k % 256 for k in (1, 2, 3)))
        right = folder / f"right{i:02d}.png"
        Image.blend(Image.open(left), veil, 0.8).save(right)
        pairs.append([str(left), str(right)])
    return np.array(pairs)


@pytest.fixture(scope="module")
def fitted(X: np.ndarray) -> SiameseProjection:
    return SiameseProjection(BASE, **QUICK).fit(X)


def test_it_maps_images_as_its_projection_maps_their_vectors(
    X: np.ndarray, fitted: SiameseProjection
) -> None:
    vectors = make_vectorizer(BASE).transform(X[:, 0])
    mapped = fitted.transform(X[:, 0])
    assert mapped.shape == (N_PAIRS, 6)
    assert mapped.dtype == np.float32
    np.testing.assert_array_equal(mapped, fitted.projection_.transform(vectors))


def test_paths_and_images_give_the_same(
    X: np.ndarray, fitted: SiameseProjection
) -> None:
    paths = X[:5, 1]
    expected = fitted.transform(paths)
    opened = [Image.open(path) for path in paths]
    np.testing.assert_array_equal(fitted.transform(opened), expected)
    mixed = [Path(paths[0]), *opened[1:]]
    np.testing.assert_array_equal(fitted.transform(mixed), expected)
    assert fitted.transform([]).shape == (0, 6)


def test_matches_come_to_lie_closer(X: np.ndarray) -> None:
    def found(vectorizer: Vectorizer) -> float:
        left, right = (unit_rows(vectorizer.transform(side)) for side in X.T)
        return float((np.argmax(left @ right.T, axis=1) == np.arange(N_PAIRS)).mean())

    loss = "infonce?rate=0.05&depth=0"
    made = SiameseProjection(BASE, loss, device="cpu", n_jobs=1)
    assert found(made.fit(X)) > found(make_vectorizer(BASE)) + 0.2


def test_it_is_a_vectorizer_of_a_classifier(
    X: np.ndarray, fitted: SiameseProjection
) -> None:
    model = PairClassifier(fitted, head="cosine").fit(X)
    mapped = unit_rows(fitted.transform(X[0]))
    cosine = float((mapped[0] * mapped[1]).sum())
    score = model.decision_function(X[:1])[0] + model.threshold_
    assert score == pytest.approx(cosine, abs=1e-5)
    assert model.rank(X[0, 0], list(X[:9, 1]))[0][0] == X[0, 1]


def test_it_is_a_part_of_a_fusion(X: np.ndarray, fitted: SiameseProjection) -> None:
    from tllboost.vectorizers import FusionVectorizer
    from tllboost.vectorizers.base import fuse

    other = make_vectorizer("pixels?size=2")
    fusion = FusionVectorizer((fitted, other))
    model = PairClassifier(fusion, head="cosine").fit(X)
    expected = fuse([fitted.transform(X[0]), other.transform(X[0])])
    np.testing.assert_allclose(fusion.transform(X[0]), expected)
    assert np.isfinite(model.decision_function(X)).all()


def test_a_store_keeps_the_vectors_of_the_base_and_serves_them(
    X: np.ndarray, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    made = SiameseProjection(BASE, store=store, **QUICK).fit(X)
    with VectorStore(store) as opened:
        kept = opened.info()
    PairClassifier(made, head="cosine", store=store).fit(X)
    made.transform(X[:, 0])
    with VectorStore(store) as opened:
        assert opened.info() == kept


def test_fingerprints_tell_weights_bases_and_losses_apart(X: np.ndarray) -> None:
    def make(base: str = BASE, **options: object) -> SiameseProjection:
        return SiameseProjection(base, **QUICK | options).fit(X)

    first = make()
    assert first.fingerprint == make().fingerprint
    others = [
        make("pixels?size=5"),
        make(random_state=1),
        make(loss="triplet"),
        make(loss="infonce?components=5"),
        SiameseProjection(BASE, **QUICK).fit(X[:30]),
    ]
    assert len({one.fingerprint for one in [first, *others]}) == 6
    assert make_vectorizer(BASE).fingerprint in first.fingerprint
    assert first.n_dims == 6
    assert first.label == "siamese(pixels?size=4,infonce?components=6)"


def test_a_loss_may_be_an_object(X: np.ndarray) -> None:
    loss = TripletProjection(components=3, device="cpu", n_threads=1)
    made = SiameseProjection(BASE, loss).fit(X)
    assert made.n_dims == 3
    assert made.projection_ is not loss
    assert not hasattr(loss, "maps_")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"loss": "infonse"}, "did you mean 'infonce'"),
        ({"loss": "none"}, "learns nothing"),
        ({"loss": "infonce?components=0"}, "above zero"),
        ({"loss": "infonce?depth=3"}, "write 0, 1 or 2"),
        ({"base": "pixles"}, "did you mean 'pixels'"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    X: np.ndarray, given: dict[str, object], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        SiameseProjection(**{"base": BASE} | given).fit(X)
    assert "\n" not in str(caught.value)


def test_arguments_are_stored_as_they_are() -> None:
    made = SiameseProjection(BASE, "triplet", store="a/b")
    params = made.get_params()
    assert (params["base"], params["loss"], params["store"]) == (BASE, "triplet", "a/b")
    assert made.set_params(loss="infonce") is made
    assert made.loss == "infonce"
    assert "SiameseProjection" in repr(made)


def test_a_clone_is_not_fitted(fitted: SiameseProjection) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError, match="not fitted"):
        copy.transform(["a.jpg"])


def test_an_unfitted_one_says_how_to_be_cross_validated(
    X: np.ndarray, fitted: SiameseProjection
) -> None:
    with pytest.raises(UsageError, match=r"not fitted \(a clone never is") as caught:
        PairClassifier(clone(fitted), head="cosine").fit(X)
    assert f"PairClassifier({BASE!r}, projection='infonce?components=6')" in str(
        caught.value
    )


def test_frozen_it_stays_fitted_through_cross_validation(
    X: np.ndarray, fitted: SiameseProjection
) -> None:
    frozen = pytest.importorskip("sklearn.frozen")
    model = PairClassifier(frozen.FrozenEstimator(fitted), head="cosine", n_negatives=3)
    wrong = np.column_stack([X[:, 0], np.roll(X[:, 1], 1)])
    pairs, y = np.concatenate([X, wrong]), np.repeat([1, 0], N_PAIRS)
    order = np.random.default_rng(0).permutation(len(y))
    scores = cross_val_score(model, pairs[order], y[order], cv=2, scoring="roc_auc")
    assert scores.min() > 0.6
    fingerprint = make_vectorizer(model.vectorizer).fingerprint
    assert fitted.fingerprint in fingerprint


def test_a_search_sets_its_parameters(X: np.ndarray) -> None:
    def closeness(model: SiameseProjection, X: np.ndarray, y: object = None) -> float:
        left, right = (model.transform(side) for side in np.asarray(X).T)
        return float((left * right).sum(axis=1).mean())

    search = GridSearchCV(
        SiameseProjection(BASE, **QUICK),
        {"loss": ["infonce?components=2", "infonce"]},
        scoring=closeness,
        cv=2,
        refit=False,
    )
    search.fit(X, np.ones(N_PAIRS))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_it_can_be_pickled(X: np.ndarray, fitted: SiameseProjection) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(X[0]), fitted.transform(X[0]))
    assert again.fingerprint == fitted.fingerprint


def test_vectors_that_one_has_need_no_images(tmp_path: Path) -> None:
    from bundles import IDS, LEFT, RIGHT, write_npz

    file = write_npz(tmp_path / "own.npz")
    pairs = [[IDS[left], IDS[right]] for left, right in zip(LEFT, RIGHT, strict=True)]
    made = SiameseProjection(f"vectors:{file}", **QUICK).fit(pairs)
    assert made.transform(IDS[:3]).shape == (3, 6)
    model = PairClassifier(made, head="cosine").fit(pairs)
    assert np.isfinite(model.decision_function(pairs)).all()


def test_a_bundle_takes_the_base_and_the_projection_instead(
    X: np.ndarray, tmp_path: Path
) -> None:
    base = f"onnx:{tiny_network(tmp_path / 'net.onnx')}"
    made = SiameseProjection(base, **QUICK | {"loss": "infonce?components=2"}).fit(X)
    model = PairClassifier(made, head="cosine").fit(X)
    with pytest.raises(UsageError, match="give its base as the vectorizer"):
        save(tmp_path / "best.tllb", model)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ("a.jpg", r"got one: 'a.jpg'; use \[it\]"),
        ([["a.jpg", "b.jpg"]], r"images\[0\] is \['a.jpg', 'b.jpg'\]"),
        ([3], r"images\[0\] is 3"),
    ],
)
def test_what_is_no_list_of_images_is_refused(
    fitted: SiameseProjection, images: object, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        fitted.transform(images)


def test_an_image_that_is_not_there_is_named(
    X: np.ndarray, fitted: SiameseProjection
) -> None:
    with pytest.raises(ImageError, match="nowhere"):
        fitted.transform([X[0, 0], "nowhere.png"])
    with pytest.raises(ImageError, match="nowhere"):
        SiameseProjection(BASE).fit([*X[:20].tolist(), [X[20, 0], "nowhere.png"]])


def test_an_image_that_is_not_there_has_no_vector(
    X: np.ndarray, fitted: SiameseProjection
) -> None:
    result = tllboost.vectorize(fitted, ["nowhere.png", X[0, 0]])
    assert list(result.failures) == [0]
    np.testing.assert_array_equal(result.vectors[0], np.zeros(6))
    np.testing.assert_array_equal(result.vectors[1:], fitted.transform(X[:1, 0]))


def test_one_component_of_matches_is_not_enough(X: np.ndarray) -> None:
    star = [[X[0, 0], right] for right in X[:, 1]]
    with pytest.raises(DataError):
        SiameseProjection(BASE).fit(star)


def test_it_learns_as_the_classifier_does(
    X: np.ndarray, fitted: SiameseProjection
) -> None:
    model = PairClassifier(
        BASE,
        projection="infonce?components=6",
        head="cosine",
        device="cpu",
        n_jobs=1,
    ).fit(X)
    projection = model.cells_[0].projection
    assert projection is not None
    learned = fitted.projection_.to_tensors()
    for name, array in projection.to_tensors().items():
        np.testing.assert_array_equal(array, learned.pop(name))
    assert not learned
    assert make_projection(projection.spec) is not None
