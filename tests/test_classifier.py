"""PairClassifier on real images, in scikit-learn's manners."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import MAPS
from conftest import HEADS_HERE, write_image
from makers import Witness
from PIL import Image, ImageEnhance
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate

from tllboost.classifier import PairClassifier, load
from tllboost.demo import make_scenes
from tllboost.errors import DataError, ImageError, UnknownNameError, UsageError
from tllboost.merges import PairFeatures
from tllboost.projections.base import Projection
from tllboost.scoring import PairScorer
from tllboost.splits import PairSet
from tllboost.store import VectorStore
from tllboost.vectorizers.base import Vectorizer

N_PAIRS = 30


class Keep(Projection):
    """Keeps the first components; remembers what it was fitted on."""

    name = "keep"

    def __init__(self, components: int = 5) -> None:
        self.components = components

    def fit(self, vectors: np.ndarray, train: PairSet, validation: PairSet) -> Keep:
        self.fitted_ = vectors, train, validation
        return self

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        return vectors[:, : self.components]


class Thumbnail(Vectorizer):
    """A few pixels; counts the images it is shown."""

    n_shown = 0

    def __init__(self, side: int = 8) -> None:
        self.side = side

    @property
    def name(self) -> str:
        return "thumbnail"

    @property
    def fingerprint(self) -> str:
        return f"thumbnail|{self.side}"

    @property
    def n_dims(self) -> int:
        return 3 * self.side**2

    def prepare(self, image: Image.Image) -> np.ndarray:
        Thumbnail.n_shown += 1
        return np.asarray(image.resize((self.side, self.side)), dtype=np.float32)

    def forward(self, batch: np.ndarray) -> np.ndarray:
        return batch.reshape(len(batch), -1) - 128


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Easy pairs: a smooth image, and the same one darker and smaller."""
    folder = tmp_path_factory.mktemp("images")
    pairs = []
    for seed in range(N_PAIRS):
        left = write_image(folder / f"left{seed:02d}.png", seed=seed)
        right = folder / f"right{seed:02d}.jpg"
        with Image.open(left) as image:
            darker = ImageEnhance.Brightness(image).enhance(0.8)
            darker.resize((70, 60)).save(right, quality=70)
        pairs.append([str(left), str(right)])
    return np.array(pairs)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Hard pairs: two views of one scene."""
    table = make_scenes(
        tmp_path_factory.mktemp("scenes"), n_scenes=60, n_views=2, size=96
    )
    names = [f"scene_{i:04d}" for i in range(1, 61)]
    return np.array([[table.parent / f"{n}_{v}.jpg" for v in (0, 1)] for n in names])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def labelled(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the matches, and as many pairs of images that don't match."""
    others = np.column_stack([pairs[:, 0], np.roll(pairs[:, 1], 1)])
    return np.vstack([pairs, others]), np.repeat([1, 0], len(pairs))


@pytest.fixture(scope="module")
def fitted(images: np.ndarray, store: Path) -> PairClassifier:
    return PairClassifier("classic", head="logistic", store=store).fit(images)


def test_rank_puts_the_true_match_first(
    fitted: PairClassifier, images: np.ndarray
) -> None:
    candidates = [Path(name) for name in images[:, 1]]
    for left, right in images[:10]:
        ranked = fitted.rank(left, candidates)
        assert ranked[0][0] == Path(right)
        assert {path for path, _ in ranked} == set(candidates)
        chances = [probability for _, probability in ranked]
        assert chances == sorted(chances, reverse=True)
        assert 0 <= chances[-1] <= chances[0] <= 1


def test_another_prior_is_that_of_its_odds_and_keeps_the_model(
    fitted: PairClassifier, images: np.ndarray, tmp_path: Path
) -> None:
    X, _ = labelled(images[:10])
    before, rare = fitted.predict_proba(X), fitted.at("1/20")
    assert (rare.calibration_.prior, fitted.calibration_.prior) == (0.05, 0.5)
    odds = before[:, 1] / before[:, 0] / 19
    told = rare.predict_proba(X)[:, 1]
    np.testing.assert_allclose(told, odds / (1 + odds), rtol=1e-6)
    assert (rare.predict(X) == (told >= 0.5)).all()
    strict = fitted.at(threshold=0.99)
    assert (strict.predict(X) == (before[:, 1] >= 0.99)).all()
    np.testing.assert_array_equal(strict.predict_proba(X), before)
    for one in (rare, fitted.at(0.001, threshold=0.3)):
        one.save(tmp_path / "one.tllb")
        loaded = load(tmp_path / "one.tllb")
        np.testing.assert_allclose(loaded.predict_proba(X), one.predict_proba(X))
        np.testing.assert_array_equal(loaded.predict(X), one.predict(X))
        assert loaded.calibration_.prior == one.calibration_.prior


def test_labelled_non_matches_make_the_prior_what_the_weights_say(
    images: np.ndarray, store: Path
) -> None:
    X, y = labelled(images)
    odds = []
    for weight in (1.0, 30.0):
        model = PairClassifier("classic", head="cosine", store=store)
        model.fit(X, y, sample_weight=np.where(y == 1, 1.0, weight))
        prior = model.calibration_.prior
        odds.append(prior / (1 - prior))
        told, even = (one.predict_proba(X)[:, 1] for one in (model, model.at(0.5)))
        np.testing.assert_allclose(
            told / (1 - told), even / (1 - even) * odds[-1], rtol=1e-6
        )
    assert odds[0] == pytest.approx(30 * odds[1])
    assert odds[0] > 1 > odds[1]


def test_rank_tells_chances_of_one_match_a_list_unless_told(
    fitted: PairClassifier, images: np.ndarray
) -> None:
    left, right = images[0][0], images[:10, 1]
    own = dict(fitted.rank(left, right, prior=fitted.calibration_.prior))
    pairs = [[left, one] for one in right]
    rare = fitted.at(0.1).predict_proba(pairs)[:, 1]
    for one, chance in fitted.rank(left, right):
        assert chance == pytest.approx(rare[list(right).index(one)], rel=1e-5)
        assert chance < own[one]


def test_rank_takes_one_candidate_and_one_named_twice(
    fitted: PairClassifier, images: np.ndarray
) -> None:
    left, right = images[0]
    ((only, probability),) = fitted.rank(left, [right])
    assert only == right
    twice = fitted.rank(left, [right, right])
    assert [path for path, _ in twice] == [right, right]
    assert twice[0][1] == twice[1][1] == pytest.approx(probability)


def test_probabilities_decisions_and_answers_agree(
    fitted: PairClassifier, images: np.ndarray
) -> None:
    X, y = labelled(images)
    probability, decision = fitted.predict_proba(X), fitted.decision_function(X)
    answer = fitted.predict(X)
    assert probability.shape == (len(X), 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (answer == (decision >= 0)).all()
    assert set(answer) == {0, 1}
    order = np.argsort(decision)
    assert (np.diff(probability[order, 1]) >= 0).all()
    assert fitted.score(X, y) == (answer == y).mean() > 0.9


def test_matches_alone_are_the_default_label(
    fitted: PairClassifier, images: np.ndarray, store: Path
) -> None:
    told = clone(fitted).fit(images, np.ones(len(images)))
    np.testing.assert_array_equal(
        told.decision_function(images), fitted.decision_function(images)
    )


def test_paths_may_be_text_path_or_array(
    fitted: PairClassifier, images: np.ndarray
) -> None:
    wanted = fitted.decision_function(images[:5])
    for X in (
        images[:5].tolist(),
        [[Path(name) for name in row] for row in images[:5]],
        images[:5].astype(object),
    ):
        np.testing.assert_array_equal(fitted.decision_function(X), wanted)


def test_swapping_the_images_of_a_pair_changes_nothing(
    fitted: PairClassifier, images: np.ndarray
) -> None:
    X, _ = labelled(images)
    np.testing.assert_array_equal(
        fitted.decision_function(X), fitted.decision_function(X[:, ::-1])
    )


def test_an_image_is_most_like_itself(images: np.ndarray, store: Path) -> None:
    model = PairClassifier("classic", head="cosine", store=store).fit(images)
    for left in images[:3, 0]:
        with_itself = model.decision_function([[left, left]])[0]
        others = model.decision_function([[left, name] for name in images.ravel()])
        assert with_itself >= others.max() - 1e-6


def test_the_same_seed_gives_the_same_model_and_another_another(
    scenes: np.ndarray, store: Path
) -> None:
    def decisions(seed: int) -> np.ndarray:
        how = {"head": "mlp", "store": store, "random_state": seed}
        model = PairClassifier("pixels?size=8", **how)
        return model.fit(scenes).decision_function(scenes)

    first = decisions(0)
    np.testing.assert_array_equal(decisions(0), first)
    assert (decisions(1) != first).any()


@pytest.mark.parametrize("head", HEADS_HERE)
def test_every_head_learns_from_images(
    head: str, scenes: np.ndarray, store: Path
) -> None:
    model = PairClassifier("classic", merge="l1", head=head, store=store)
    if head == "joined":
        model.set_params(projection="contrastive?patience=0", merge="dot+l1")
    matching = model.fit(scenes[:45]).decision_function(scenes[45:])
    others = model.decision_function(labelled(scenes[45:])[0][15:])
    assert np.mean(matching[:, None] > others[None, :]) > 0.6


def test_clone_copies_the_arguments_and_nothing_learned(
    fitted: PairClassifier,
) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert set(vars(copy)) == set(copy.get_params(deep=False))
    with pytest.raises(NotFittedError):
        copy.predict([["a.png", "b.png"]])
    with pytest.raises(NotFittedError):
        copy.rank("a.png", ["b.png"])


def test_fitting_leaves_the_arguments_as_they_are(
    images: np.ndarray, store: Path
) -> None:
    head = LogisticRegression(C=0.5)
    model = PairClassifier("classic", head=head, store=str(store))
    before = model.get_params()
    assert model.fit(images) is model
    assert model.get_params() == before
    assert model.head is head
    assert not hasattr(head, "coef_")


def test_arguments_set_after_fitting_wait_for_the_next_fit(
    fitted: PairClassifier, images: np.ndarray
) -> None:
    model = pickle.loads(pickle.dumps(fitted))
    wanted = fitted.decision_function(images)
    model.set_params(merge="l1", head="xgboost")
    np.testing.assert_array_equal(model.decision_function(images), wanted)
    assert (model.fit(images).decision_function(images) != wanted).any()


def test_cross_validate_runs_as_it_is(scenes: np.ndarray, store: Path) -> None:
    X, y = labelled(scenes)
    model = PairClassifier("classic", merge="cosdot", head="logistic", store=store)
    # Pairs that share an image stay together: the non-matches are of neighbours.
    groups = np.tile(np.arange(len(scenes)) // 20, 2)
    found = cross_validate(
        model,
        X,
        y,
        groups=groups,
        cv=GroupKFold(3),
        scoring=["roc_auc", "accuracy", "neg_brier_score"],
        error_score="raise",
    )
    assert found["test_roc_auc"].min() > 0.6
    assert found["test_accuracy"].min() > 0.5
    assert found["test_neg_brier_score"].min() > -0.26


def test_grid_search_chooses_merge_and_head(scenes: np.ndarray, store: Path) -> None:
    X, y = labelled(scenes)
    search = GridSearchCV(
        PairClassifier("classic", store=store),
        {"merge": ["dot", "l1"], "head": ["cosine", "naive-bayes"]},
        scoring="roc_auc",
        cv=2,
        error_score="raise",
    ).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert set(search.best_params_) == {"merge", "head"}
    assert search.best_score_ == max(search.cv_results_["mean_test_score"]) > 0.6
    assert search.predict(X).shape == y.shape
    assert search.best_estimator_.rank(X[0, 0], X[:5, 1])


def test_a_fitted_model_crosses_to_another_process_whole(
    fitted: PairClassifier, images: np.ndarray
) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        again.predict_proba(images), fitted.predict_proba(images)
    )


def test_with_a_store_no_image_is_vectorized_twice(
    images: np.ndarray, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    model = PairClassifier(Thumbnail(), head="cosine", store=folder)
    Thumbnail.n_shown = 0
    model.fit(images).predict(labelled(images)[0])
    model.rank(images[0, 0], list(images[:, 1]))
    cross_validate(clone(model), *labelled(images), cv=2, error_score="raise")
    assert Thumbnail.n_shown == 2 * N_PAIRS
    with VectorStore(folder) as opened:
        (space,) = opened.info()
    assert space["n_rows"] == 2 * N_PAIRS


def test_a_moved_image_is_known_by_its_content(
    images: np.ndarray, tmp_path: Path
) -> None:
    model = PairClassifier(Thumbnail(), head="cosine", store=tmp_path / "store")
    model.fit(images)
    moved = tmp_path / "elsewhere.jpg"
    shutil.copy(images[0, 1], moved)
    Thumbnail.n_shown = 0
    there = model.predict_proba([[images[0, 0], moved]])
    np.testing.assert_array_equal(there, model.predict_proba(images[:1]))
    assert Thumbnail.n_shown == 0


def test_copies_of_an_image_are_never_in_both_sets(
    images: np.ndarray, tmp_path: Path
) -> None:
    X = images.tolist()
    for i in range(0, N_PAIRS, 2):
        # The image of one pair under another name in the next: a tie between them.
        copy = tmp_path / f"copy{i}.png"
        shutil.copy(X[i][0], copy)
        X[i + 1][0] = str(copy)
    for seed in range(5):
        model = PairClassifier(
            Thumbnail(), head=Witness(), validation_fraction=0.3, random_state=seed
        )
        head = model.fit(X).cells_[0].scorer.head_
        sides = [head.X_, head.given_["validation"].features]
        train, validation = (
            {row.tobytes() for row in side.vectors[np.append(side.left, side.right)]}
            for side in sides
        )
        assert not train & validation


@pytest.mark.parametrize(("n_negatives", "per_match"), [(None, 1), (0, 1), (3, 4)])
def test_non_matches_are_drawn_where_asked(
    n_negatives: int | None, per_match: int, images: np.ndarray
) -> None:
    X, y = labelled(images)
    X[N_PAIRS:] = images[:, ::-1]  # non-matches within components: none gets lost
    model = PairClassifier(Thumbnail(), head=Witness(), n_negatives=n_negatives)
    head = model.fit(X, y).cells_[0].scorer.head_
    assert (head.y_ == 0).sum() == per_match * (head.y_ == 1).sum()


def test_another_seed_holds_other_pairs_out_and_15_percent_of_them(
    images: np.ndarray,
) -> None:
    held_out = []
    for seed in (0, 1, 1):
        model = PairClassifier(Thumbnail(), projection=Keep(), random_state=seed)
        projection = model.fit(images).cells_[0].projection
        _, train, validation = projection.fitted_
        matches = validation.left[validation.label == 1]
        assert (len(matches), (train.label == 1).sum()) == (5, 25)
        held_out.append(sorted(matches.tolist()))
    assert held_out[0] != held_out[1] == held_out[2]


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, True), ({"n_hard": 3}, False), ({"projection": Keep()}, False)],
)
def test_training_pairs_choose_a_baseline_only_if_they_are_as_new_ones(
    images: np.ndarray,
    given: dict[str, Any],
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, plain = [], PairScorer.fit

    def fit(self: PairScorer, *sets: Any, is_fresh: bool, **how: Any) -> PairScorer:
        asked.append(is_fresh)
        return plain(self, *sets, is_fresh=is_fresh, **how)

    monkeypatch.setattr(PairScorer, "fit", fit)
    PairClassifier(Thumbnail(), head="cosine", **given).fit(images)
    assert asked == [expected]


def test_hard_non_matches_are_the_nearest_in_training_alone(
    images: np.ndarray,
) -> None:
    def sides(n_hard: int) -> tuple[PairFeatures, PairFeatures]:
        model = PairClassifier(Thumbnail(), head=Witness(), n_hard=n_hard)
        head = model.fit(images).cells_[0].scorer.head_
        return head.X_, head.given_["validation"].features

    (drawn, held_out), (hard, still) = sides(0), sides(3)
    assert hard.cosine(frozen=True).mean() > drawn.cosine(frozen=True).mean()
    np.testing.assert_array_equal(hard.left, drawn.left)
    np.testing.assert_array_equal(still.right, held_out.right)
    with pytest.raises(UsageError, match="n_hard=3 must be between 0 and n_negatives"):
        PairClassifier(Thumbnail(), n_negatives=2, n_hard=3).fit(images)


def test_a_projection_stands_between_vectorizer_and_merge(
    images: np.ndarray,
) -> None:
    given = Keep(components=7)
    model = PairClassifier(Thumbnail(), projection=given, head=Witness())
    cell = model.fit(images).cells_[0]
    assert cell.projection is not given
    assert not hasattr(given, "fitted_")
    vectors, train, validation = cell.projection.fitted_
    head = cell.scorer.head_
    for features, side in (
        (head.X_, train),
        (head.given_["validation"].features, validation),
    ):
        np.testing.assert_array_equal(features.vectors, vectors[:, :7])
        np.testing.assert_array_equal(features.frozen, vectors)
        np.testing.assert_array_equal(features.left, side.left)
    assert not set(train.left) & set(validation.left)
    shown = Thumbnail().transform(images[0])[:, :7]
    np.testing.assert_allclose(
        model.decision_function(images[:1]) + model.threshold_,
        shown[0, 0] * shown[1, 0],
        rtol=1e-6,
    )


def test_no_projection_leaves_the_vectors_as_they_are(
    fitted: PairClassifier,
) -> None:
    assert fitted.projection == "none"
    assert fitted.cells_[0].projection is None


@pytest.mark.parametrize("projection", MAPS)
def test_every_projection_learns_from_images(
    projection: str, scenes: np.ndarray, store: Path
) -> None:
    spec = f"{projection}?components=16"
    model = PairClassifier("classic", projection=spec, head="cosine", store=store)
    matching = model.fit(scenes[:45]).decision_function(scenes[45:])
    others = model.decision_function(labelled(scenes[45:])[0][15:])
    assert np.mean(matching[:, None] > others[None, :]) > 0.6
    copy = clone(model).fit(scenes[:45])
    np.testing.assert_array_equal(copy.decision_function(scenes[45:]), matching)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"not an image", "not"), (None, "No such file")],
)
def test_an_unreadable_image_is_named(
    data: bytes | None,
    reason: str,
    images: np.ndarray,
    fitted: PairClassifier,
    tmp_path: Path,
) -> None:
    bad = tmp_path / "bad image.jpg"
    if data is not None:
        bad.write_bytes(data)
    X = images.tolist()
    X[7][1] = str(bad)
    for call in (clone(fitted).fit, fitted.predict, fitted.predict_proba):
        with pytest.raises(ImageError, match=r"bad image\.jpg: ") as caught:
            call(X)
        assert reason in str(caught.value)
    with pytest.raises(ImageError, match=r"bad image\.jpg"):
        fitted.rank(bad, [images[0, 0]])


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (["a.png", "b.png"], None, r"X has shape \(2,\); it must be \(n_pairs, 2\)"),
        ([["a.png", 3]], None, r"X\[0, 1\] is 3; it must be a path"),
        ([["a.png", "b.png"]], [1, 0], r"y has shape \(2,\)"),
        ([["a.png", "b.png"]], [2], "y holds 2; a label is 1"),
        ([["a.png", "b.png"]], ["yes"], "y holds 'yes'; a label is 1"),
    ],
)
def test_what_is_no_pair_table_is_refused(X: Any, y: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PairClassifier().fit(X, y)


def test_too_few_pairs_are_a_clear_error(images: np.ndarray) -> None:
    for n_pairs in (1, 2):
        with pytest.raises(DataError, match="give more pairs"):
            PairClassifier(Thumbnail(), head="cosine").fit(images[:n_pairs])
    with pytest.raises(DataError, match="set has no match"):
        PairClassifier(Thumbnail()).fit(images, np.zeros(N_PAIRS))


def test_wrong_choices_are_refused_when_fitted(images: np.ndarray) -> None:
    for options, message in (
        ({"vectorizer": "clasic"}, "did you mean 'classic'"),
        ({"merge": "dots"}, "unknown merge 'dots'"),
        ({"head": "logistik"}, "did you mean 'logistic'"),
        ({"projection": "tripled"}, "did you mean 'triplet'"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            PairClassifier(**({"vectorizer": Thumbnail()} | options)).fit(images)
    with pytest.raises(UsageError, match="must be between 0 and 1"):
        PairClassifier(Thumbnail(), validation_fraction=1.5).fit(images)


def test_there_must_be_something_to_rank(
    fitted: PairClassifier, images: np.ndarray
) -> None:
    with pytest.raises(UsageError, match="candidates is empty"):
        fitted.rank(images[0, 0], [])


@pytest.mark.shared
def test_real_lookalikes_are_found_above_chance(
    tll: Path, shared: Path, tmp_path: Path
) -> None:
    rows = (tll / "pairs.csv").read_text().split()[1:121]
    X = np.array(
        [
            [tll / "left" / f"{left}.jpg", tll / "right" / f"{right}.jpg"]
            for left, right in (row.split(",") for row in rows)
        ]
    )
    squeezenet = f"onnx:{shared / 'weights' / 'squeezenet1_1.onnx'}"
    model = PairClassifier(squeezenet, merge="cosdot", store=tmp_path).fit(X[:90])
    others = list(X[90:, 1])
    places = [
        [path for path, _ in model.rank(left, others)].index(right)
        for left, right in X[90:]
    ]
    # Chance finds 6 of 30 among the first six.
    assert sum(place < 6 for place in places) > 12
