"""Names, options and pairs from which no projection can be learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from learned_maps import (
    CHAIN,
    MAPS,
    learn,
    pixels,
    with_option,
)
from makers import Planted, plant
from sklearn.base import clone

from tllboost.errors import DataError, UsageError
from tllboost.projections import NONE, make_projection
from tllboost.projections.losses import InfoNCEProjection
from tllboost.splits import PairSet, Protocol

# Names and options


def test_none_is_no_projection() -> None:
    assert make_projection(NONE) is None
    with pytest.raises(UsageError, match="unknown option 'components'"):
        make_projection("none?components=3")


@pytest.mark.parametrize(
    "spec",
    [
        "infonce?components=64&depth=2&temperature=0.1",
        "triplet?members=2&margin=0.3&distance=l2&negatives=semi-hard&n_negatives=9",
        "contrastive?depth=0&whiten=0.5&joined=false",
        "siamese-cnn?components=20&rate=1e-05",
        "triplet?patience=0/contrastive?rate=0.01/infonce",
    ],
)
def test_a_name_is_told_again(spec: str) -> None:
    made = make_projection(spec)
    assert made is not None
    assert made.spec == spec
    assert clone(made).spec == spec
    made.check_options()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("infonse", "did you mean 'infonce'"),
        ("triplet/infonse", "did you mean 'infonce'"),
        ("infonce:x", "options may follow 'infonce'"),
        ("infonce?margin=1", "unknown option 'margin'"),
        ("infonce?components=0", "above zero"),
        ("infonce?components=2.5", "above zero"),
        ("infonce?depth=3", "0, 1 or 2"),
        ("infonce?dropout=1", "from 0 to below 1"),
        ("infonce?dropout=-0.1", "from 0 to below 1"),
        ("infonce?dropout=nan", "from 0 to below 1"),
        ("infonce?rate=0", "a number above zero"),
        ("infonce?rate=inf", "a number above zero"),
        ("infonce?rate=fast", "a number above zero"),
        ("infonce?temperature=0", "a number above zero"),
        ("infonce?whiten=2", "from 0 to 1"),
        ("infonce?patience=-1", "0 or more"),
        ("triplet?margin=-1", "a number above zero"),
        ("triplet?negatives=easy", "random, semi-hard, hard"),
        ("contrastive?distance=l1", "cosine, l2"),
        ("siamese-cnn?rate=nan", "a number above zero"),
        ("siamese-cnn?epochs=0", "above zero"),
        ("no_such_module:Own", "there is no module"),
        ("makers:Own", "has no 'Own'"),
    ],
)
def test_wrong_names_and_options_are_refused_in_one_line(
    spec: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        make_projection(spec)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dropout": 1.0}, "option dropout='1'"),
        ({"rate": float("nan")}, "option rate='nan'"),
        ({"components": 0}, "option components='0'"),
        ({"depth": 7}, "option depth='7'"),
    ],
)
def test_options_given_as_arguments_are_checked_in_fit(
    options: dict[str, Any], reason: str
) -> None:
    split = pixels().split
    with pytest.raises(UsageError, match=reason):
        InfoNCEProjection(**options).fit(
            pixels().vectors, split.train, split.validation
        )


def test_options_of_another_loss_are_no_arguments() -> None:
    for name in ("margin", "distance", "negatives", "joined"):
        with pytest.raises(TypeError, match=name):
            InfoNCEProjection(**{name: 1})  # type: ignore[arg-type]


# What can go wrong


def test_a_collapse_is_told_in_one_line() -> None:
    # Nothing pushes non-matches apart.
    spec = "contrastive?depth=2&rate=0.1&margin=1e-6&distance=l2&patience=0"
    spec += "&joined=false"
    with pytest.raises(DataError, match="collapsed: all images are") as caught:
        learn(spec, pixels())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "absurd",
    ["infonce?temperature=1e-40", "triplet?rate=1e6&depth=2", "contrastive?rate=1e6"],
)
def test_an_absurd_option_leaves_a_finite_map(absurd: str) -> None:
    projection = learn(absurd, pixels())
    assert np.isfinite(projection.transform(pixels().vectors)).all()


def test_a_map_that_diverges_is_told() -> None:
    with pytest.raises(DataError, match="diverged: give a lower rate"):
        learn("infonce?temperature=1e-40&patience=0", pixels())


@pytest.mark.parametrize("negatives", ["random", "semi-hard", "hard"])
def test_a_margin_that_no_triplet_violates_is_told(negatives: str) -> None:
    planted = plant(60, n_dims=64, n_signal=64, noise=0.01)
    spec = f"triplet?negatives={negatives}&margin=1e-6&dropout=0&whiten=0"
    with pytest.raises(DataError, match="violates the margin; give") as caught:
        learn(spec, planted)
    assert "margin=1e-06" in str(caught.value)
    assert "\n" not in str(caught.value)


def only(pairs: PairSet, n_components: int) -> PairSet:
    kept = np.unique(pairs.component[pairs.label == 1])[:n_components]
    return pairs.take(np.isin(pairs.component, kept))


@pytest.mark.parametrize("side", ["train", "validation"])
@pytest.mark.parametrize("spec", MAPS)
def test_two_components_are_needed_in_each_set(spec: str, side: str) -> None:
    pairs = getattr(pixels().split, side)
    with pytest.raises(DataError, match="of 1 component: at least two are needed"):
        learn(spec, pixels(), **{side: only(pairs, 1)})
    two = learn(spec, pixels(), **{side: only(pairs, 2)})
    assert np.isfinite(two.transform(pixels().vectors)).all()


@pytest.mark.parametrize("spec", MAPS)
def test_pairs_without_matches_are_refused(spec: str) -> None:
    train = pixels().split.train
    with pytest.raises(DataError, match="the training set has matches of 0"):
        learn(spec, pixels(), train=train.take(train.label == 0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("spec", [*MAPS, CHAIN])
def test_vectors_that_are_not_finite_are_refused(spec: str, value: float) -> None:
    vectors = pixels().vectors.copy()
    vectors[pixels().split.train.left[0], 3] = value
    with pytest.raises(DataError, match=r"^1 of \d+ vectors hold numbers that are not"):
        learn(spec, Planted(vectors, pixels().split))


@pytest.mark.parametrize("spec", MAPS)
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_images_that_are_all_alike_teach_nothing(spec: str, value: float) -> None:
    vectors = np.full((180, 20), value, dtype=np.float32)
    with pytest.raises(DataError, match="have one and the same vector"):
        learn(spec, Planted(vectors, pixels().split))


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("spec", MAPS)
def test_a_single_dimension_is_enough(spec: str, depth: int) -> None:
    planted = plant(60, n_dims=1, n_signal=1)
    options = f"depth={depth}&components=4&epochs=2"
    projection = learn(with_option(spec, options), planted)
    projected = projection.transform(planted.vectors)
    assert projected.shape == (120, 1 if depth == 0 else 4)
    assert np.isfinite(projected).all()


@pytest.mark.parametrize("spec", [*MAPS, CHAIN])
def test_odd_vectors_give_finite_maps(spec: str) -> None:
    planted = plant(60, n_dims=20)
    vectors = planted.vectors.copy()
    left = planted.split.train.left
    vectors[left[0]] = 0  # an image that has no vector
    vectors[left[1]] = vectors[left[2]]
    vectors[left[3]] *= 1e-30
    vectors[left[4]] *= 1e15
    quick = spec if spec == CHAIN else with_option(spec, "epochs=3")
    projection = learn(quick, Planted(vectors, planted.split))
    assert np.isfinite(projection.transform(vectors)).all()


def test_few_images_and_many_dimensions_are_enough() -> None:
    planted = plant(30, n_dims=2000, protocol=Protocol(n_distractors=3))
    projection = learn("infonce?epochs=2", planted)
    assert np.isfinite(projection.transform(planted.vectors)).all()


def test_a_missing_device_is_told() -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    made: Any = make_projection("infonce", device="mps")
    split = pixels().split
    with pytest.raises(UsageError, match="device 'mps' is not available here"):
        made.fit(pixels().vectors, split.train, split.validation)
